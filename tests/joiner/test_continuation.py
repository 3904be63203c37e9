"""What leaves an open log is what would have left had the log gone on."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.joiner.harness import Rows, envelopes, final_progress, play
from tests.joiner.test_join_reference import COMMON, EXAMPLES, cases


def check(case, cuts):
    plan, sources, out_of_orderness, _, seed = case
    random = Random(cuts)
    heads, wholes = [], []
    for source in sources:
        cut = random.randint(0, len(source.rows))
        heads.append(Rows(source.stream, source.rows[:cut]))
        wholes.append((source, cut))
    finals = final_progress(heads, out_of_orderness)
    streams = [source.stream for source in sources]
    longer = []
    for source, cut in wholes:
        rest = source.rows[cut:]
        if streams.count(source.stream) > 1:
            # Several sources of a stream are read up to one time: that is what its end says.
            rest = [row for row in rest if row[0] >= finals[source.stream]]
        longer.append(Rows(source.stream, source.rows[:cut] + rest))

    def run(rows, finals):
        blocks = envelopes(plan, rows, out_of_orderness, Random(seed), finals)
        return play(plan, blocks, Random(seed + 1))

    head, whole = run(heads, finals), run(longer, None)
    for name in ("samples", "early", "corrections", "outcomes"):
        before, after = getattr(head, name), getattr(whole, name)
        assert before.items() <= after.items(), name
    assert set(head.joined) <= set(whole.joined)
    for impression, labels in head.mature.items():
        for stream, said in labels.items():
            assert whole.mature[impression][stream] == said, "a mature label changed"


@settings(max_examples=EXAMPLES, **COMMON)
@given(cases(), st.integers(0, 2**32))
def test_no_continuation_of_a_log_changes_a_mature_label(case, cuts):
    """Nor anything else that has left: all of it leaves the longer log as well."""
    check(case, cuts)


@pytest.mark.slow
@settings(max_examples=10_000, **COMMON)
@given(cases(), st.integers(0, 2**32))
def test_no_continuation_changes_a_mature_label_in_many_cases(case, cuts):
    """The same, over many more cases."""
    check(case, cuts)
