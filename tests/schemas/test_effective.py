"""The configuration as it took effect."""

import tomllib

import pytest

from headrace.learners.registry import parameter_models
from headrace.monitoring.report.ran import configuration_lines
from headrace.schemas.config.effective import effective
from headrace.schemas.config.loading import parse_config

STREAM = {"path": "x.parquet", "key": ["id"], "time": {"column": "t", "unit": "us"}}
TREES = {
    "the least": {"impressions": STREAM},
    "with learners": {
        "impressions": {**STREAM, "types": {"a b": "int64"}},
        "actions": {"click": {**STREAM, "window": "10m", "complete_until": "2026-01-02T00:00Z"}},
        "join": {"group": ["id"], "early": "1m 30s"},
        "sampling": {
            "negative_rate": {"column": "a b", "values": {'a "b" = c': 0.5}, "default": 0.1}
        },
        "learners": {
            "one": {
                "label": "click", "alpha": 0.3, "table": "exact", "expire": "30d",
                "features": {
                    "multi_valued": [{"column": "tags", "separator": ";"}],
                    "numeric": {"price": [1.0, 2.0]},
                    "crosses": [["a b", "tags"]],
                },
            },
            "two": {"label": "click", "algorithm": "probit", "calibration": "isotonic"},
        },
        "guard": {"accept": ["2026-01-02T00:00Z"]},
    },
    "of topics": {
        "impressions": {
            "topic": "shown", "key": ["id"], "time": {"column": "t", "unit": "us"},
            "types": {"id": "string", "t": "int64"},
        },
        "kafka": {"servers": "broker:9092"},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", TREES)
def test_a_file_of_its_lines_has_the_same_effect(name):
    """It is TOML, in which every default has been written out and no key is refused."""
    config = parse_config(TREES[name], "f.toml", parameter_models())
    found = effective(config)
    tree = tomllib.loads("\n".join(configuration_lines(found)))
    assert tree == found
    again = parse_config(tree, "f.toml", parameter_models())
    assert effective(again) == found


def test_durations_and_times_are_text_and_defaults_resolved():
    """As in a file; what is not set and has no default is not there."""
    config = parse_config(TREES["with learners"], "f.toml", parameter_models())
    found = effective(config)
    assert found["join"]["early"] == "1m 30s"
    assert found["join"]["wait_for_impression"] == "10m"
    assert (found["join"]["dedup_horizon"], found["join"]["group_span"]) == ("1h", "10s")
    assert found["actions"]["click"]["complete_until"] == "2026-01-02T00:00:00+00:00"
    assert found["guard"]["accept"] == ["2026-01-02T00:00:00+00:00"]
    assert found["learners"]["one"]["expire"] == "30d"
    assert found["learners"]["one"]["alpha"] == 0.3
    assert "delay" not in found["learners"]["one"]


def test_what_changes_no_result_is_left_out():
    """Summaries and reports of one log are equal whatever the machine does."""
    config = parse_config(
        {**TREES["the least"], "join": {"shards": 7}, "replay": {"batch_rows": 3}}, "f.toml",
        parameter_models(),
    )  # fmt: skip
    found = effective(config)
    assert found.keys().isdisjoint({"live", "replay"})
    assert "shards" not in found["join"]


def test_secrets_are_hidden():
    """In paths, and in properties of the client, wherever they come from."""
    tree = {
        **TREES["of topics"],
        "kafka": {
            "servers": "broker:9092", "sasl.password": "SECRET",
            "ssl.key.password": {"env": "NAME"},
        },
    }  # fmt: skip
    assert "SECRET" not in str(effective(parse_config(tree, "f.toml", parameter_models())))
    stored = {"impressions": {**STREAM, "path": "s3://KEY:SECRET@logs/x.parquet"}}
    found = effective(parse_config(stored, "f.toml", parameter_models()))
    assert found["impressions"]["path"] == ["s3://logs/x.parquet"]
