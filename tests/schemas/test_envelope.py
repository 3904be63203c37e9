import pyarrow as pa
import pytest

from headrace.schemas.errors import EnvelopeError
from headrace.schemas.records.envelope import EventEnvelope, SampleEnvelope
from headrace.schemas.records.events import FOREVER, NEVER

ROWS = pa.RecordBatch.from_pydict({"key": ["a", "b"], "n": [1, 2]})


def test_a_decoded_event_envelope_equals_the_encoded_one():
    """Header and rows survive, with and without rows."""
    full = EventEnvelope(1, 2, 3, 10, 12, 99, 4, ROWS)
    assert EventEnvelope.decode(full.encode()) == full
    empty = EventEnvelope(0, 0, 1, 0, 0, FOREVER)
    assert EventEnvelope.decode(empty.encode()) == empty


def test_a_decoded_sample_envelope_equals_the_encoded_one():
    """Counts, positions and several batches survive."""
    full = SampleEnvelope(
        1, 8, 5, NEVER, [[3, 0]], {"impressions": {"late": 1}}, 2, [[0, 9]], {"memory": 1},
        [7, FOREVER], 9, [["click", 0, 2]], [ROWS, ROWS], {"joined1": [ROWS.select(["n"])]},
    )  # fmt: skip
    assert SampleEnvelope.decode(full.encode()) == full


def test_an_envelope_of_another_step_or_version_is_refused():
    """The error names the magic that was expected and the one that was found."""
    data = EventEnvelope(0, 0, 1, 0, 0, 0).encode()
    with pytest.raises(EnvelopeError, match=r"expected an envelope HRS5 \(got b'HRE4'\)"):
        SampleEnvelope.decode(data)
    with pytest.raises(EnvelopeError):
        EventEnvelope.decode(b"HRE2" + data[4:])
