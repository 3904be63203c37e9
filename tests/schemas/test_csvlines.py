"""A line of separated values is decoded alike wherever a log is cut, and whatever is beside it."""

import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.schemas.records.csvlines import CsvDecoder
from headrace.schemas.records.decoding import Lines
from headrace.schemas.records.notation import PLAIN, Notation
from headrace.schemas.types import parse_type

SCHEMA = pa.schema(
    {"id": pa.string(), "n": pa.int64(), "x": pa.float64(), "b": pa.bool_(),
     "t": parse_type("timestamp"), "gone": pa.string()}
)  # fmt: skip
HEADER = ["id", "unused", "n", "x", "b", "t"]
NOTATIONS = [PLAIN, Notation({"n", "x", "b", "t"}, ("-", "")), Notation({"n"}, decimal=",")]

FIELDS = {
    "id": ["a", '"b, c"', '"d""e"', "ä", "", '""', "-", "\ufeffz"],
    "unused": ["", "u", '"'],
    "n": ["1", "-7", "007", " 5 ", "1.5", "9223372036854775808", "", "NA", '"3"'],
    "x": ["0.5", "-2", "1e3", "1e999", "nan", "0x10", "1,5", "", "\u00a02.5", '"0.25"'],
    "b": ["true", "False", "1", "0", "yes", ""],
    "t": ["2026-01-01", "2026-01-01T10:00:00.5Z", "2026-01-01 10:00:00+01:00", "soon", ""],
}
ORDINARY = b"a,u,1,0.5,true,2026-01-01T10:00:00Z"
BROKEN = st.binary(max_size=12) | st.sampled_from(
    [b"", b"a,b", b"a\rb", b'"', b'a"b,,,,"",', b",,,,,,", b"\xff,,1,1,1,", b'"a"b"",1,2,3,4,']
)


@st.composite
def lines(draw):
    """Draw a line: most are ordinary, some have odd values, some are broken."""
    kind = draw(st.integers(0, 9))
    if kind < 4:
        return ORDINARY
    if kind == 9:
        return draw(BROKEN).replace(b"\n", b"")
    return ",".join(draw(st.sampled_from(FIELDS[name])) for name in HEADER).encode()


def decoded(parts, notation, quote):
    """Return what the parts of a log become, together."""
    decoder, first = CsvDecoder(HEADER, SCHEMA, ",", notation, quote), 0
    rows, numbers, rejects, bad = [], [], [], []
    for part in parts:
        records = decoder.decode(Lines.of(part, first))
        records.batch.validate(full=True)
        rows += records.batch.to_pylist()
        numbers += records.numbers.tolist()
        rejects += records.rejects
        bad += [(of.column, of.cause, number) for of in records.bad for number in of.numbers]
        first += len(part)
    return repr(rows), numbers, rejects, sorted(bad)


@given(
    st.lists(lines(), max_size=8), st.integers(0, 8), st.sampled_from(NOTATIONS),
    st.sampled_from(['"', '"', ""]),
)  # fmt: skip
@example([b'a"b,,,,,', b'c"d,,,,,'], 1, PLAIN, '"')
@example([b'"a,u,1', b'b",u,1,1,1,'], 1, PLAIN, '"')
@example(["\ufeffz,,,,,".encode(), ORDINARY], 1, PLAIN, '"')
def test_lines_together_become_what_each_becomes_alone(log, cut, notation, quote):
    """The same values, rejects, and values that do not fit."""
    alone = decoded([[line] for line in log], notation, quote)
    assert decoded([log], notation, quote) == alone
    assert decoded([log[:cut], log[cut:]], notation, quote) == alone
