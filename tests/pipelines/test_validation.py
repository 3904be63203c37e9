"""What validate says is what a replay would do."""

from __future__ import annotations

import tempfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headrace
from headrace.learners.features import FeatureEncoder
from headrace.learners.registry import parameter_models
from headrace.pipelines.app.cli import main
from headrace.pipelines.jobs.trial import try_replay
from headrace.pipelines.sources.inputs import resolve
from headrace.schemas.config.loading import parse_config
from tests.pipelines.rows import START as S

HEADER = "id,t,device,price"
GOOD = [f"k{n},{S + n},d{n % 2},{n}" for n in range(200)]
CLICKS = [f"k{n},{S + n + 5}" for n in range(0, 200, 10)]


def tables(folder, lines=GOOD, **others):
    (folder / "shown.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    (folder / "clicks.csv").write_text("\n".join(["id,t", *CLICKS]) + "\n")
    time = {"column": "t", "unit": "s"}
    return {
        "impressions": {"path": str(folder / "shown*"), "key": "id", "time": time},
        "actions": {
            "click": {"path": str(folder / "clicks.csv"), "key": "id", "time": time,
                      "window": "10m"},
        },
        "join": {"shards": 2},
        "learner": {"label": "click", "bits": 8,
                    "features": {"categorical": ["device"], "numeric": {"price": "log"}}},
        **others,
    }  # fmt: skip


def inputs_of(tables):
    return resolve(parse_config(tables, "configuration", parameter_models()))


def test_a_trial_joins_and_learns_the_first_records_of_every_file(tmp_path):
    """Though their windows would not close by the end of these records."""
    rows = {"id": [f"q{n}" for n in range(5_000)], "t": [S + n for n in range(5_000)],
            "device": ["d"] * 5_000, "price": [1] * 5_000}  # fmt: skip
    pq.write_table(pa.table(rows), tmp_path / "shown.parquet")
    config = tables(tmp_path)
    config["impressions"]["path"] = str(tmp_path / "shown.parquet")
    shown, clicks = try_replay(inputs_of(config)).streams
    assert (shown.records, shown.outcomes["settled"]) == (1_000, 1_000)
    assert (clicks.records, clicks.outcomes["orphan"]) == (20, 20)
    config["impressions"]["path"] = str(tmp_path / "shown.csv")
    shown, clicks = try_replay(inputs_of(config)).streams
    assert (shown.outcomes["settled"], clicks.outcomes["settled"]) == (200, 20)


def test_what_a_replay_could_not_run_is_refused_in_one_line(tmp_path, monkeypatch, capsys):
    """Wherever it fails; nothing is left behind."""

    def fail(self, batch):
        raise ZeroDivisionError("no\nway")

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    config = tables(tmp_path)
    assert headrace.validate(config).warnings == ()
    monkeypatch.setattr(FeatureEncoder, "encode", fail)
    with pytest.raises(headrace.ConfigError) as refused:
        headrace.validate(config)
    assert str(refused.value) == (
        "configuration: the first records cannot be replayed (ZeroDivisionError: no way); this is "
        "a defect of Headrace; please report it"
    )
    assert list(scratch.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "clicks.csv", "scratch", "shown.csv",
    ]  # fmt: skip


def test_more_than_one_in_a_hundred_is_a_warning_with_an_example(tmp_path, capsys):
    """Of invalid records by their most frequent reason, of bad values by their column."""
    lines = [*GOOD]
    lines[7:12] = [f"k{n},soon,d1,1" for n in range(7, 12)]
    lines[20] = f",{S + 20},d1,1"
    lines[30:33] = [f"k{n},{S + n},d1,dear" for n in range(30, 33)]
    warnings = headrace.validate(tables(tmp_path, lines)).warnings
    assert warnings == (
        "impressions: 3.0 % of 200 records are invalid, most for wrong_type. Declare the columns' "
        "types in impressions.types. Such as column t is not a number: "
        '{"id": "k7", "t": "soon", "device": "d1", "price": 1.0}',
        "impressions: 3 of 200 values of price are not float64 (such as dear, dear, dear) and null "
        "in samples. Declare the column's type in impressions.types, or these texts in "
        "impressions.null_values.",
    )


def test_the_command_ends_with_2_if_the_trial_fails(tmp_path, monkeypatch, capsys):
    """And with 0 if it does not, without a word of Beam."""
    tables(tmp_path)
    (tmp_path / "join.toml").write_text(
        'impressions = { path = "shown.csv", key = "id", time = { column = "t", unit = "s" } }\n'
        "[learner]\nlabel = \"click\"\nbits = 8\nfeatures.categorical = [\"device\"]\n"
        "[actions.click]\npath = \"clicks.csv\"\nkey = \"id\"\nwindow = \"10m\"\n"
        'time = { column = "t", unit = "s" }\n'
    )  # fmt: skip
    assert main(["validate", str(tmp_path / "join.toml")]) == 0
    printed = capsys.readouterr()
    assert (printed.err, printed.out.splitlines()[-1]) == ("", "The configuration is good.")

    def fail(self, batch):
        raise ValueError("odd")

    monkeypatch.setattr(FeatureEncoder, "encode", fail)
    assert main(["validate", str(tmp_path / "join.toml")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_settings_of_sampling_that_nothing_meets_are_warnings_and_findings(tmp_path):
    """By validate for the first records, by a replay for the whole log."""
    sampling = {
        "negative_rate": {"column": "device", "values": {"d0": 0.9, "D1": 0.9}, "default": 0.9},
        "keep": "price > 1000 or device == 'D1'",
    }
    config = {**tables(tmp_path, sampling=sampling), "join": {"end_of_log": "close"}}
    expected = [
        "sampling.keep: no sample meets price > 1000 or device == 'D1'. Are its values written as "
        "in the log, with the same case and type?",
        "sampling.negative_rate.values: no sample has 'D1' in device. Is it written as in the log, "
        "or is its rate so low that all were dropped?",
    ]
    assert list(headrace.validate(config).warnings) == expected
    assert list(headrace.replay(config, tmp_path / "out").findings) == expected
    sampling["keep"] = "price > 198"
    del sampling["negative_rate"]["values"]["D1"]
    assert headrace.validate(config).warnings == ()


@pytest.mark.parametrize(
    ("sampling", "key", "fact", "hint"),
    [
        ({"keep": "price == '5'"}, "sampling.keep",
         "cannot be evaluated: '5' is no value of price, which is double",
         "quote text and nothing else, or declare the column's type in impressions.types"),
        ({"keep": "price in ['x']"}, "sampling.keep",
         "cannot be evaluated: ['x'] is no value of price, which is double",
         "quote text and nothing else, or declare the column's type in impressions.types"),
        ({"negative_rate": {"column": "price", "values": {"1.0": 0.5}}},
         "sampling.negative_rate.values", "price is double, and never written like this",
         'write "1"'),
        ({"negative_rate": {"column": "price", "values": {"x": 0.5}}},
         "sampling.negative_rate.values", "price is double, and never this",
         "name values of price, or declare its type in impressions.types"),
    ],
    ids=["a number and text", "a number among texts", "a fraction of zero", "text for a number"],
)  # fmt: skip
def test_what_can_never_be_met_is_refused(tmp_path, sampling, key, fact, hint):
    """The types are those with which columns are read: learners' numbers are numbers."""
    config = tables(tmp_path, sampling=sampling)
    for check in (headrace.validate, lambda tables: headrace.replay(tables, tmp_path / "out")):
        with pytest.raises(headrace.ConfigError) as refused:
            check(config)
        assert (refused.value.key, refused.value.fact, refused.value.hint) == (key, fact, hint)
