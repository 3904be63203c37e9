"""First lines of JSON whose event times are of another kind than the declared unit says."""

import pytest

import headrace
from tests.pipelines.rows import START as S


@pytest.mark.parametrize("odd", ["true", "[1]", '{"a": 1}', '"x"', "null"])
def test_strangers_do_not_choose_how_times_of_a_unit_are_read(tmp_path, odd):
    """They wrote the first records of both files, all but one."""
    for name in ("a", "b"):
        lines = [f'{{"id": "{name}{n}", "t": {odd}}}' for n in range(30)]
        lines += [f'{{"id": "{name}", "t": {S}.5}}', f'{{"id": "{name}+", "t": "{S + 1}"}}']
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines if name == "a" else lines[::-1]))
    (tmp_path / "clicks.jsonl").write_text(f'{{"id": "a", "t": {S + 3}}}')
    time = {"column": "t", "unit": "s"}
    config = {
        "impressions": {"path": str(tmp_path / "[ab].jsonl"), "key": "id", "time": time},
        "actions": {"click": {"path": str(tmp_path / "clicks.jsonl"), "key": "id", "time": time,
                              "window": "10m"}},
        "join": {"end_of_log": "close"},
    }  # fmt: skip
    result = headrace.replay(config, tmp_path / "out")
    counts = result.summary.outcomes["impressions"]
    assert (counts["settled"], counts["invalid"]) == (4, 60)
