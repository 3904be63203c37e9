"""Lines of text files, wherever reads end."""

import gzip
import threading
import tracemalloc

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace import replay
from headrace.pipelines.sources.locations import find
from headrace.pipelines.sources.textfiles import first_lines, read_lines, read_lines_ahead
from headrace.schemas.errors import UnreadableInputError

TEXTS = {
    "no byte": (b"", []),
    "a byte order mark alone": (b"\xef\xbb\xbf", []),
    "one line without an end": (b"a" * 50, [b"a" * 50]),
    "short lines": (b"a\nbb\r\n\nccc\n", [b"a", b"bb", b"", b"ccc"]),
    "a long line among short ones": (b"a\n" + b"b" * 40 + b"\nc", [b"a", b"b" * 40, b"c"]),
    "a mark before the first": (b"\xef\xbb\xbfa\n\xef\xbb\xbfb", [b"a", b"\xef\xbb\xbfb"]),
}


@pytest.mark.parametrize("chunk", [3, 7, 16, 1 << 16])
@pytest.mark.parametrize("name", TEXTS)
def test_lines_do_not_depend_on_where_reads_end(tmp_path, name, chunk):
    """Nor do their numbers."""
    text, expected = TEXTS[name]
    (tmp_path / "a.csv").write_bytes(text)
    (file,) = find("a.csv", tmp_path)
    parts = list(read_lines(file, chunk=chunk))
    assert [line for lines in parts for line in lines] == expected
    assert [lines.first for lines in parts] == [
        sum(len(before) for before in parts[:at]) for at in range(len(parts))
    ]
    assert first_lines(file, 2) == expected[:2]


@pytest.mark.parametrize("chunk", [3, 700, 1 << 16])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["newlines", "carriage returns too"])
def test_lines_that_are_too_long_are_cut_wherever_reads_end(tmp_path, chunk, end):
    """Of the others every byte is kept; a carriage return before the end does not count."""
    sizes = [1, 3001, 2000, 2001, 0, 2002, 2000, 9000]
    (tmp_path / "a.csv").write_bytes(end.join(b"a" * size for size in sizes))
    (file,) = find("a.csv", tmp_path)
    found = [
        (lines.cut.get(at, len(line)), len(line))
        for lines in read_lines(file, chunk, longest=2000)
        for at, line in enumerate(lines)
    ]
    assert found == [(size, size if size <= 2000 else 1000) for size in sizes]
    assert [len(line) for line in first_lines(file, 9, longest=2000)] == [1, 2000, 0, 2000]


def test_a_line_that_unfolds_without_end_takes_little_memory(tmp_path):
    """100 kB of zst are a line of 400 MB: it is read in parts, of which none is kept."""
    with pa.output_stream(tmp_path / "a.jsonl.zst", compression="zstd") as out:
        for _ in range(100):
            out.write(b"[" * (4 << 20))
        out.write(b'\n{"a": 1}\n')
    (file,) = find("a.jsonl.zst", tmp_path)
    tracemalloc.start()
    (long, short) = [line for lines in read_lines(file) for line in lines]
    assert first_lines(file, 2) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(long), short) == (1000, b'{"a": 1}')
    assert peak < 60e6


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text("a\r\n", max_size=60).map(str.encode), st.integers(1, 9), st.integers(1, 70),
    st.booleans(),
)  # fmt: skip
def test_a_file_has_the_lines_between_its_line_ends(tmp_path, text, longest, chunk, marked):
    """Of a line that is too long its size is known, wherever reads end."""
    mark = b"\xef\xbb\xbf" if marked else b""
    (tmp_path / "a.csv").write_bytes(mark + text)
    (file,) = find("a.csv", tmp_path)
    *expected, rest = text.split(b"\n")
    expected += [rest] if rest else []
    found = [
        (lines.first + at, lines.cut.get(at), line)
        for lines in read_lines(file, max(chunk, len(mark)), longest)
        for at, line in enumerate(lines)
    ]
    lines = [line.removesuffix(b"\r") for line in expected]
    assert found == [
        (number, len(line) if len(line) > longest else None, line)
        for number, line in enumerate(lines)
    ]


ROWS = b"".join(b"%d,abc\n" % row for row in range(20_000))
PACKED = gzip.compress(ROWS, 1)
FLIPPED = bytes([*PACKED[:9000], PACKED[9000] ^ 0xFF, *PACKED[9001:]])


RUN = """
[impressions]
path = "impressions.csv.gz"
key = ["key"]
time = { column = "time", unit = "s" }
[actions.click]
path = "clicks.csv.gz"
key = ["key"]
time = { column = "time", unit = "s" }
window = "10m"
[learner]
label = "click"
[learner.features]
categorical = ["site"]
"""


def rows_of(tmp_path, packed, name="a.csv.gz"):
    (tmp_path / name).write_bytes(packed)
    (file,) = find(name, tmp_path)
    return read_lines_ahead(file, 1 << 14, 1000)


@pytest.mark.parametrize(
    ("packed", "expected"),
    [
        (b"", b""),
        (gzip.compress(b""), b""),
        (PACKED + gzip.compress(b"more"), ROWS + b"more"),
        (gzip.compress(b"") + PACKED, ROWS),
        (PACKED + bytes(512), ROWS),
    ],
    ids=["no byte", "no line", "two members", "an empty member first", "zeros behind"],
)
def test_gzip_files_may_have_any_number_of_members(tmp_path, packed, expected):
    """As files have that were appended to; tapes pad with zeros."""
    lines = [line for lines in rows_of(tmp_path, packed) for line in lines]
    assert lines == expected.splitlines()


@pytest.mark.parametrize(
    ("packed", "said"),
    [
        (PACKED[:-3], "Truncated compressed stream"),
        (PACKED[: len(PACKED) // 2], "Truncated compressed stream"),
        (PACKED[:5], "Truncated compressed stream"),
        (PACKED + PACKED[:500], "Truncated compressed stream"),
        (FLIPPED, "Damaged compressed stream|CRC check failed"),
        (PACKED[:-8] + bytes(8), "CRC check failed"),
        (PACKED[:-4] + bytes(4), "Incorrect length of data produced"),
        (ROWS, "Not a gzipped file"),
    ],
    ids=["its end", "half", "a header", "a second half", "a byte", "its sum", "its size", "plain"],
)
def test_damaged_gzip_files_are_unreadable(tmp_path, packed, said):
    """What is before the damage may be read; then the error is raised where the lines are due."""
    before = threading.active_count()
    with pytest.raises(OSError, match=said):
        list(rows_of(tmp_path, packed))
    assert threading.active_count() == before


def test_damaged_zst_files_are_unreadable(tmp_path):
    """One that is cut, and one with other bytes."""
    with pa.output_stream(tmp_path / "whole.zst", compression="zstd") as out:
        out.write(ROWS)
    packed = (tmp_path / "whole.zst").read_bytes()
    with pytest.raises(OSError, match="Truncated compressed stream"):
        list(rows_of(tmp_path, packed[:-9], "cut.csv.zst"))
    with pytest.raises(OSError, match="ZSTD decompress failed"):
        list(rows_of(tmp_path, ROWS, "plain.csv.zst"))


@pytest.mark.parametrize("read", [0, 1, 3])
def test_reading_ahead_ends_with_its_reader(tmp_path, read):
    """However much of the file is left, no thread is."""
    before = threading.active_count()
    lines = rows_of(tmp_path, PACKED)
    for _ in range(read):
        next(lines)
    assert threading.active_count() == before + (read > 0)
    lines.close()
    assert threading.active_count() == before


def test_a_run_that_fails_leaves_no_thread_that_reads_ahead(tmp_path):
    """Of the file that is damaged, and of another that is not read to its end."""
    rows = [b"key,time,site"] + [b"%d,%d,a" % (row, 1_700_000_000 + row) for row in range(200_000)]
    packed = gzip.compress(b"\n".join(rows), 1)
    (tmp_path / "impressions.csv.gz").write_bytes(packed)
    (tmp_path / "clicks.csv.gz").write_bytes(packed[: len(packed) // 4])
    (tmp_path / "run.toml").write_text(RUN + "[replay]\nbatch_rows = 256\n")
    with pytest.raises(UnreadableInputError, match=r"clicks.csv.gz.*Truncated compressed stream"):
        replay(tmp_path / "run.toml", tmp_path / "out")
    assert not [thread for thread in threading.enumerate() if thread.name == "reading"]
