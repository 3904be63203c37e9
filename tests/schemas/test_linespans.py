"""Lines are found and judged as a look at every byte of them would."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.schemas.records.linespans import (
    EMPTY,
    GOOD,
    NOT_UTF8,
    RETURN,
    UNBALANCED,
    ended_lines,
    faults,
    joined,
)
from headrace.schemas.records.spans import Spans, gathered

BYTES = st.binary(max_size=40) | st.text('a"\r\nä', max_size=40).map(str.encode)


def values(spans):
    return [spans.value(at) for at in range(spans.begins.size)]


@given(BYTES, st.integers(0, 9))
@example(b"\r\n\r\r\n\n", 0)
@example(b"\x0b\x8a\n\x0a", 0)
def test_lines_are_those_between_newlines(text, begin):
    """A carriage return before a newline belongs to it; what follows the last one is the rest."""
    begin = min(begin, len(text))
    lines, rest = ended_lines(np.frombuffer(text, np.uint8), begin)
    *expected, left = text[begin:].split(b"\n")
    assert values(lines) == [line.removesuffix(b"\r") for line in expected]
    assert text[rest:] == left


def fault(line, quote):
    if not line:
        return EMPTY
    if quote and line.count(quote.encode()) % 2:
        return UNBALANCED
    if b"\r" in line:
        return RETURN
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return NOT_UTF8
    return GOOD


@given(st.lists(BYTES, max_size=5), st.sampled_from(['"', "'", ""]))
@example(["ä".encode(), b"\xc3", b"\xff\xfe", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80"], '"')
@example([b'a"\r', b'"\xff', b"\r\xff", b"", b'""'], '"')
def test_a_line_has_the_first_fault_that_it_has(lines, quote):
    """Whatever lies before and behind it."""
    found = faults(Spans.of_lines(lines), quote)
    assert found.tolist() == [fault(line, quote) for line in lines]


@given(st.lists(st.binary(max_size=20), max_size=6), st.data())
def test_lines_are_copied_byte_by_byte(lines, data):
    """Any of them, to the last byte."""
    rows = np.array(data.draw(st.lists(st.sampled_from(range(len(lines) or 1)))), np.int64)
    rows = rows if lines else rows[:0]
    spans = Spans.of_lines(lines).take(rows)
    chosen = [lines[row] for row in rows]
    assert joined(spans).tobytes() == b"".join(line + b"\n" for line in chosen)
    there = np.array([len(line) != 3 for line in chosen], np.bool_)
    column = gathered(spans.data, spans.begins, spans.ends - spans.begins, there)
    column.validate(full=True)
    assert column.to_pylist() == [line if len(line) != 3 else None for line in chosen]


@pytest.mark.parametrize("size", range(20))
def test_a_fault_is_found_at_any_place_of_a_line(size):
    """Of lines as long as several words, and of shorter ones."""
    for at in range(size):
        for byte, fault_ in ((b'"', UNBALANCED), (b"\r", RETURN), (b"\xff", NOT_UTF8)):
            line = b"a" * at + byte + b"a" * (size - at - 1)
            assert faults(Spans.of_lines([b'"\r', line, b'"\xff']), '"')[1] == fault_
