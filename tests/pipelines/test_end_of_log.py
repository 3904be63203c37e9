"""The end of a log: what has not settled by then stays open."""

from __future__ import annotations

import json

import pytest

from headrace.pipelines.app.cli import main
from tests.pipelines.rows import START, every

OPEN = 'end_of_log = "open"'


def test_what_has_not_settled_stays_open(replay):
    """The last ten minutes leave no sample; the run prints how many and until when labels hold."""
    clicks = [(START + n * 60 + 30, f"i{n}") for n in range(100)]
    result = replay(every(60, 100), clicks, end=OPEN)
    # The impressions end at minute 99: those up to minute 89 were watched for ten minutes.
    assert list(result.labels) == [f"i{n}" for n in range(90)]
    assert all(row["click_mature"] for row in result.samples)
    outcomes = result.summary["outcomes"]
    assert (outcomes["impressions"]["settled"], outcomes["impressions"]["open"]) == (90, 10)
    assert (outcomes["click"]["settled"], outcomes["click"]["open"]) == (90, 10)
    assert result.summary["end_of_log"] == {
        "mode": "open",
        "complete_until": {
            "impressions": "2026-01-01T01:39:00+00:00", "click": "2026-01-01T01:39:30+00:00",
        },
        "labels_complete_until": "2026-01-01T01:39:00+00:00",
        "held_back_by": "impressions",
    }  # fmt: skip
    assert (
        "10 of 100 impressions (10.0%) and 10 actions stayed open; "
        "labels are complete until 2026-01-01 01:39:00, when the log of impressions ends"
    ) in result.printed


def test_a_log_declared_complete_leaves_nothing_open(replay):
    """Every window closes at its end, and all labels are final."""
    clicks = [(START + n * 60 + 30, f"i{n}") for n in range(100)]
    result = replay(every(60, 100), clicks, end='end_of_log = "close"')
    assert len(result.samples) == 100
    assert result.summary["outcomes"]["click"]["open"] == 0
    assert result.summary["end_of_log"]["mode"] == "close"
    assert result.summary["end_of_log"]["labels_complete_until"] is None
    assert "stayed open" not in result.printed


def test_a_log_ends_open_by_default_with_a_finding_unless_it_is_configured(replay):
    """A configuration without the key gets a finding; one with it does not."""
    finding = "join.end_of_log is not set: by default what has not settled"
    assert finding in replay(every(60, 100), [(START + 30, "i0")], end="").printed
    assert finding not in replay(every(60, 100), [(START + 30, "i0")], end=OPEN).printed
    closed = replay(every(60, 100), [(START + 30, "i0")], end='end_of_log = "close"')
    assert finding not in closed.printed


def test_a_stream_that_ends_early_holds_the_others_open_and_is_named(replay):
    """The finding has the stream, its end and the setting; with that set there is none."""
    clicks = [(START + n * 60 + 30, f"i{n}") for n in range(30)]
    result = replay(every(60, 100), clicks, end=OPEN)
    assert len(result.samples) == 20
    assert (
        "click holds 80 impressions open: its log ends at 2026-01-01 00:29:30, 1h 9m 30s "
        "before the next to end. If its log is complete to a later time, set "
        "actions.click.complete_until; if the whole log is complete, set join.end_of_log"
    ) in result.printed
    declared = replay(
        every(60, 100), clicks, end=OPEN, action='complete_until = "2026-01-01T01:39:00Z"'
    )
    assert len(declared.samples) == 90
    assert sum(row["click"] for row in declared.samples) == 30
    assert "holds" not in declared.printed


def test_a_stream_that_ends_moments_before_the_others_is_not_named(replay):
    """The last window is open in any case."""
    clicks = [(START + n * 60 + 30, f"i{n}") for n in range(99)]
    result = replay(every(60, 100), clicks, end=OPEN)
    assert result.summary["end_of_log"]["held_back_by"] == "click"
    assert "holds" not in result.printed


def test_an_empty_stream_holds_everything_open_and_is_named(replay, tmp_path, capsys):
    """A log without clicks may mean that none were exported, so even `--quiet` prints it."""
    result = replay(every(60, 100), [], end=OPEN)
    assert result.samples == []
    assert result.summary["end_of_log"]["labels_complete_until"] is None
    assert "click holds 100 impressions open: it has no event." in result.printed
    quiet = ["replay", str(tmp_path / "join.toml"), "--out", str(tmp_path / "out"), "--quiet"]
    assert main(quiet) == 0
    assert "headrace: no sample has left: 100 of 100 impressions" in capsys.readouterr().err
    until = 'complete_until = "2026-01-01T01:39:00Z"'
    assert len(replay(every(60, 100), [], end=OPEN, action=until).samples) == 90


def test_what_comes_after_a_cut_off_does_not_count_as_complete(replay):
    """An export that was cut at minute 50 has a few later clicks, and labels end there."""
    clicks = [*((START + n * 60 + 30, f"i{n}") for n in range(50)), (START + 95 * 60, "i90")]
    until = 'complete_until = "2026-01-01T00:50:00Z"'
    result = replay(every(60, 100), clicks, end=OPEN, action=until, rows=7)
    assert list(result.labels) == [f"i{n}" for n in range(41)]
    assert result.summary["end_of_log"]["labels_complete_until"] == "2026-01-01T00:50:00+00:00"


def test_complete_until_a_later_time_closes_windows_after_the_last_event(replay):
    """The export of clicks covers the time until midnight."""
    until = "complete_until = 2026-01-02T00:00:00Z"
    result = replay(every(60, 100), [(START + 30, "i0")], end=OPEN, action=until)
    assert len(result.samples) == 90  # the impressions themselves end at minute 99
    assert result.summary["end_of_log"]["held_back_by"] == "impressions"


def test_files_of_a_stream_that_end_at_different_times_are_one_stream(replay):
    """The stream is complete until the latest of them ends, whichever is read last."""
    first, second = every(60, 50), every(60, 50, "j", START + 50 * 60)
    clicks = [[(START + 99 * 60, "j49")], [(START + 30, "i0")]]
    for rows in (1, 1000):
        result = replay([first, second], clicks, end=OPEN, rows=rows)
        assert len(result.samples) == 90


@pytest.mark.parametrize("order", ["sorted", "sort"])
@pytest.mark.parametrize("at", ["middle", "end"])
def test_one_broken_clock_does_not_make_a_log_complete(replay, order, at):
    """A click of 2099 leaves the log complete until the clicks around it."""
    clicks = [(START + n * 60 + 30, f"i{n}") for n in range(30)]
    clicks.insert(15 if at == "middle" else 30, (4_070_908_800, "i5"))
    result = replay(every(60, 100), clicks, end=OPEN, action=f'order = "{order}"')
    until = result.summary["end_of_log"]["complete_until"]["click"]
    assert until == "2026-01-01T00:29:30+00:00"
    assert len(result.samples) == 20


@pytest.mark.parametrize("emission", ["immediate", "elapsed", "window_and_immediate"])
def test_early_samples_of_open_impressions_have_left_immature(replay, emission):
    """They leave when the clock passes their emit time, and are marked as immature."""
    clicks = [(START + n * 60 + 30, f"i{n}") for n in range(0, 100, 7)]
    join = f'emission = "{emission}"'
    if emission == "elapsed":
        join += "\nelapsed = [0.5, 0.5]"
    result = replay(every(60, 100), clicks, end=OPEN, join=join)
    last = 99 if emission != "elapsed" else 94
    firsts = [row for row in result.samples if row["emission"] not in ("window", "positive")]
    # The clock stops at the click of minute 98 and a half.
    assert [row["key"] for row in firsts] == [f"i{n}" for n in range(last)]
    assert result.summary["outcomes"]["impressions"]["open"] == 11
    negative = [row for row in firsts if not row["click"]]
    assert negative
    assert not any(row["click_mature"] for row in negative)


def test_windows_and_replay_agree_on_what_is_open(tmp_path, replay, capsys):
    """For the configured window both count the same impressions."""
    clicks = [(START + n * 60 + 30, f"i{n}") for n in range(0, 70, 3)]
    until = 'complete_until = "2026-01-01T01:15:00Z"'
    for action, end in (("", OPEN), (until, OPEN), ("", 'end_of_log = "close"')):
        result = replay(every(60, 100), clicks, end=end, action=action)
        out = tmp_path / "windows"
        assert main(["windows", str(tmp_path / "join.toml"), "--out", str(out)]) == 0
        rows = json.loads((out / "windows.json").read_text())["click"]["windows"]
        (configured,) = (row for row in rows if "configured" in row["note"])
        assert configured["open"] == result.summary["outcomes"]["impressions"]["open"]
    capsys.readouterr()


@pytest.mark.parametrize(
    ("action", "end", "says"),
    [
        ('complete_until = "2026-01-02"', OPEN, "actions.click.complete_until: has no time zone"),
        ('complete_until = "soon"', OPEN, 'complete_until: expected a time such as "2026-'),
        ("complete_until = 17", OPEN, 'complete_until: expected a time such as "2026-'),
        ('complete_until = "2026-01-02T00:00Z"', 'end_of_log = "close"', "has no meaning with"),
        ("", 'end_of_log = "closed"', "join.end_of_log: input should be 'open' or 'close'"),
    ],
    ids=["no time zone", "not a time", "a number", "both settings", "an unknown value"],
)
def test_an_error_in_the_end_of_a_log_is_named(replay, action, end, says):
    """With key, value and hint, before anything is read."""
    code, error = replay(every(60, 10), [], action=action, end=end)
    assert code == 2
    assert says in error
