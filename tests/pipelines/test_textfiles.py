"""Lines of text files, wherever reads end."""

import tracemalloc

import pyarrow as pa
import pytest

from headrace.pipelines.sources.locations import find
from headrace.pipelines.sources.textfiles import first_lines, read_lines

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
