"""Statistics by window as OpenMetrics: exact lines, and what a parser of the format reads."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parsed

from headrace.monitoring.figures import MOST_SHOWN
from headrace.monitoring.guard import GUARD_SCHEMA
from headrace.monitoring.prometheus.openmetrics import charts, lines
from headrace.monitoring.statistics import STATISTICS_SCHEMA, SUMS

MINUTE = 60_000_000
BINS = np.arange(40.0).reshape(2, 20)


def table(*rows):
    """Return rows of (window in minutes, slice, value, samples, positives)."""
    return pa.Table.from_pylist(
        [
            {"learner": "ctr", "predicted": "learned", "window": at * MINUTE, "slice": column,
             "value": value, "samples": n, "positives": k, "weight": 2.0 * n,
             "positive_weight": 2.0 * k, "p_sum": n / 4, "loss": n / 8, "squares": 4.0 * n,
             "positive_squares": 4.0 * k, "mature": n}
            for at, column, value, n, k in rows
        ],
        STATISTICS_SCHEMA,
    )  # fmt: skip


def text_of(rows, outcomes=None, samples=0):
    found = charts(rows, MINUTE, {"ctr": "click"})
    return "".join(lines(found, outcomes or {}, samples, {("ctr", "learned"): BINS}))


def family(text, name):
    lines = text.splitlines()
    return [line for line in lines if line.startswith((f"{name}{{", f"{name} "))]


OF = 'learner="ctr",label="click",predicted="learned"'


def test_counters_are_stamped_with_the_end_of_their_window():
    """With the begin of the first window too, and of the first one after a gap."""
    rows = table((1, None, None, 3, 1), (5, None, None, 4, 0), (2, None, None, 2, 2))
    name = "headrace_prediction_samples_total"
    of = f'{{{OF},slice="",value=""}}'
    assert family(text_of(rows), name) == [
        f"{name}{of} 0 60.000",
        f"{name}{of} 3 120.000",
        f"{name}{of} 5 180.000",
        f"{name}{of} 5 300.000",
        f"{name}{of} 9 360.000",
    ]


def test_gauges_are_there_where_a_window_has_samples():
    rows = table((1, None, None, 3, 1), (1, "app", "a", 3, 1), (2, None, None, 2, 2))
    name = "headrace_window_positives"
    text = text_of(rows)
    assert family(text, name) == [
        f'{name}{{{OF},slice="",value=""}} 1 120.000',
        f'{name}{{{OF},slice="",value=""}} 2 180.000',
        f'{name}{{{OF},slice="app",value="a"}} 1 120.000',
    ]
    name = "headrace_window_event_time_seconds"
    assert family(text, name) == [f"{name}{{{OF}}} 120 120.000", f"{name}{{{OF}}} 180 180.000"]


def test_rows_of_one_window_are_added_up_however_they_are_cut():
    whole = table((1, None, None, 6, 2), (1, "app", "a", 6, 2))
    cut = table((1, None, None, 4, 2), (1, "app", "a", 4, 2), (1, "app", "a", 2, 0),
                (1, None, None, 2, 0))  # fmt: skip
    assert text_of(whole) == text_of(cut)


def test_values_beyond_those_shown_are_one_series():
    counts = range(1, MOST_SHOWN + 3)
    rows = table(*((1, "app", f"a{n}", n, 0) for n in counts))
    (chart,) = charts(rows, MINUTE, {"ctr": "click"})
    by_value = {series.labels[-1]: series.sums[0, 0] for series in chart.series}
    assert len(by_value) == MOST_SHOWN + 1
    assert by_value["(other)"] == 1 + 2
    assert by_value[f"a{MOST_SHOWN + 2}"] == MOST_SHOWN + 2


def test_the_whole_is_read_by_a_parser_of_the_format():
    """Families in one piece, series in order of time, odd values of labels as they are."""
    odd = 'say "no"\\\n, {x}'
    rows = table((2, "app", odd, 1, 1), (1, None, None, 3, 1), (1, "app", odd, 3, 1))
    text = text_of(rows, {"clicks": {"settled": 5, "open": 2}}, 40)
    families = list(parsed(text))
    names = [family.name for family in families]
    assert len(names) == len(set(names)) == 2 * len(SUMS) + 4
    values = {sample.labels.get("value") for family in families for sample in family.samples}
    assert odd in values
    for found in families:
        stamps = {}
        for sample in found.samples:
            series = tuple(sorted(sample.labels.items()))
            assert float(sample.timestamp) > stamps.get(series, -1.0)
            stamps[series] = float(sample.timestamp)
    outcomes = next(family for family in families if family.name == "headrace_outcomes")
    assert [(s.labels, s.value) for s in outcomes.samples] == [
        ({"stream": "clicks", "outcome": "settled"}, 5.0)
    ]
    logits = next(family for family in families if family.name == "headrace_prediction_logits")
    assert [sample.value for sample in logits.samples] == BINS.ravel().tolist()


def test_without_windows_there_is_only_the_end():
    assert text_of(STATISTICS_SCHEMA.empty_table()).splitlines()[-1] == "# EOF"


def test_sums_keep_all_their_digits():
    rows = table((1, None, None, 3, 1))
    exact = np.nextafter(0.1, 1)
    at = rows.schema.get_field_index("loss")
    rows = rows.set_column(at, "loss", pa.array([exact]))
    (line,) = family(text_of(rows), "headrace_window_log_loss")
    assert float(line.split()[-2]) == exact


def text_with_journal(*events):
    """Return the text of three windows, which end after two to four minutes."""
    rows = table((1, None, None, 3, 1), (2, None, None, 2, 2), (3, None, None, 1, 0))
    journal = pa.Table.from_pylist(
        [{"time": int(at * MINUTE), "label": "click", "slice": column, "value": value,
          "event": event} for at, column, value, event in events],
        GUARD_SCHEMA,
    )  # fmt: skip
    found = charts(rows, MINUTE, {"ctr": "click"})
    return "".join(lines(found, {}, 0, {("ctr", "learned"): BINS}, journal))


def states(text, name):
    """Return the states of a metric by seconds."""
    return {
        float(sample.timestamp): int(sample.value)
        for found in parsed(text) if found.name == name for sample in found.samples
    }  # fmt: skip


def test_a_state_of_arrivals_is_that_of_all_samples_while_it_is_worse():
    """While arrivals are at rest, labels alone count: a young guard is not watching."""
    text = text_with_journal(
        (0.5, None, None, "lead-armed"), (2.25, None, None, "armed"),
        (2.5, None, None, "lead-disconnect"), (2.75, None, None, "warn"),
        (3.25, None, None, "lead-ask"), (3.5, None, None, "lead-accept"),
    )  # fmt: skip
    assert states(text, "headrace_guard_arrivals_state") == {
        30: 1, 60: 1, 120: 1, 150: 3, 180: 3, 195: 4, 210: 0, 240: 0,
    }  # fmt: skip
    assert states(text, "headrace_guard_state") == {
        30: 0, 60: 0, 120: 0, 135: 1, 150: 3, 165: 3, 180: 3, 195: 4, 210: 2, 240: 2,
    }  # fmt: skip


def test_arrivals_that_were_not_armed_are_young_again_after_a_disconnect():
    text = text_with_journal(
        (2.5, None, None, "lead-disconnect"), (3.5, None, None, "lead-reconnect"),
    )  # fmt: skip
    assert states(text, "headrace_guard_arrivals_state") == {
        60: 0,
        120: 0,
        150: 3,
        180: 3,
        210: 0,
        240: 0,
    }
    assert states(text, "headrace_guard_state") == states(text, "headrace_guard_arrivals_state")


def test_states_of_guards_are_at_the_ends_of_windows_and_where_they_change():
    text = text_with_journal(
        (2.5, None, None, "armed"), (2.5, None, None, "warn"), (3.25, "app", "a", "disconnect")
    )
    name = "headrace_guard_state"
    of, other = '{label="click",slice="",value=""}', '{label="click",slice="app",value="a"}'
    assert family(text, name) == [
        f"{name}{of} 0 60.000", f"{name}{of} 0 120.000", f"{name}{of} 2 150.000",
        f"{name}{of} 2 180.000", f"{name}{of} 2 240.000",
        f"{name}{other} 0 60.000", f"{name}{other} 0 120.000", f"{name}{other} 0 180.000",
        f"{name}{other} 3 195.000", f"{name}{other} 3 240.000",
    ]  # fmt: skip
    assert list(parsed(text))
