"""Lines of text files, wherever reads end."""

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
    assert [line for lines in parts for line in lines.lines] == expected
    assert [lines.first for lines in parts] == [
        sum(len(before.lines) for before in parts[:at]) for at in range(len(parts))
    ]
    assert first_lines(file, 2) == expected[:2]
