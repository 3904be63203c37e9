"""What a log says is text in a terminal, whatever characters it has."""

import io
import sys

import pytest
from rich.table import Table

from headrace.pipelines.app import cli
from headrace.pipelines.app.display import announcing
from headrace.pipelines.app.shown import as_shown, say
from headrace.pipelines.app.terminal import Terminal, headed
from tests.pipelines.rows import START as S

HOSTILE = "\x1b]0;title\x07\x1b[2J\u202eevil\u2066\u200b\r\n[red]:smile:[/] \ud800\x9b é漢"
SHOWN = r"\x1b]0;title\x07\x1b[2J\u202eevil\u2066\u200b\r\n[red]:smile:[/] \ud800\x9b é漢"


def test_characters_that_are_not_seen_are_escapes():
    """Others stay as they are, in any language."""
    assert as_shown(HOSTILE) == SHOWN
    assert as_shown("a\nb\x1b", lines=True) == "a\nb\\x1b"


def test_a_line_stays_one_line(capsys):
    """So nothing can be forged after it."""
    say(f"finding: {HOSTILE}")
    with announcing(quiet=False) as announce:
        announce(HOSTILE)
    printed = capsys.readouterr()
    assert printed.out == f"finding: {SHOWN}\n"
    assert printed.err == f"headrace: {SHOWN}\n"


@pytest.mark.parametrize("shown", [str, lambda text: headed("attention", "bold", text)])
def test_tables_and_texts_show_no_markup_and_no_escapes(shown):
    """In colours too, where rich writes escapes of its own."""
    out = io.StringIO()
    terminal = Terminal(file=out, width=200, force_terminal=True, highlight=False)
    table = Table("name")
    table.add_row(shown(HOSTILE))
    terminal.print(table)
    terminal.print(shown(HOSTILE))
    printed = out.getvalue()
    for seen in (r"\x1b]0;title\x07\x1b[2J\u202eevil\u2066\u200b\r", ":smile:", "[/]"):
        assert printed.count(seen) == 2
    assert not {"\x07", "\u202e", "\u2066", "\u200b", "\r", "\x9b", "\ud800"} & set(printed)
    assert "\x1b]" not in printed


def test_errors_and_previews_of_a_log_show_escapes(tmp_path, capsys):
    """A column's name in an error; a record in the preview."""
    config = (
        '[impressions]\npath = "shown.csv"\nkey = "{key}"\ntime = {{ column = "t", unit = "s" }}\n'
        '[actions.click]\npath = "clicks.csv"\nkey = "id"\ntime = {{ column = "t", unit = "s" }}\n'
        'window = "10m"\n'
    )
    (tmp_path / "clicks.csv").write_text(f"id,t\nk,{S}\n")
    (tmp_path / "shown.csv").write_text(f"id,t,\x1b[2J[red]\nk,{S},a\nj,\x1b[31m[bold]\u202e,b\n")
    file = tmp_path / "headrace.toml"
    file.write_text(config.format(key="missing"))
    assert cli.main(["validate", str(file)]) == 2
    assert r"\x1b[2J[red]" in capsys.readouterr().err
    file.write_text(config.format(key="id"))
    cli.main(["validate", str(file)])
    printed = capsys.readouterr()
    assert r"\u001b[31m[bold]\u202e" in printed.out.replace("\n", "")
    assert "\x1b" not in printed.out + printed.err


def test_a_defect_that_tells_of_the_log_shows_escapes(monkeypatch, capsys):
    """A traceback has lines, and nothing else of its message is obeyed."""

    def fail(own_process):
        raise ValueError("\x1b[2J")

    monkeypatch.setattr(cli, "main", fail)
    monkeypatch.setattr(cli.os, "_exit", sys.exit)
    with pytest.raises(SystemExit, match="1"):
        cli.run()
    printed = capsys.readouterr().err
    assert printed.endswith("ValueError: \\x1b[2J\n")
    assert printed.count("\n") > 2
