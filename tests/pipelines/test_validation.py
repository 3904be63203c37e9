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
         "cannot be evaluated: '5' is no value of price, which is float64",
         "quote text and nothing else, or declare the column's type in impressions.types"),
        ({"keep": "price in ['x']"}, "sampling.keep",
         "cannot be evaluated: ['x'] is no value of price, which is float64",
         "quote text and nothing else, or declare the column's type in impressions.types"),
        ({"negative_rate": {"column": "price", "values": {"1.0": 0.5}}},
         "sampling.negative_rate.values", "price is float64, and never written like this",
         'write "1"'),
        ({"negative_rate": {"column": "price", "values": {"x": 0.5}}},
         "sampling.negative_rate.values", "price is float64, and never this",
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


def numbers(folder, values, form="linear", **others):
    rows = {"id": [f"k{n}" for n in range(len(values))], "t": [S + n for n in range(len(values))],
            "device": ["d"] * len(values), "price": values}  # fmt: skip
    config = {**tables(folder), "join": {"end_of_log": "close"}}
    (folder / "shown.csv").unlink()
    pq.write_table(pa.table(rows), folder / "shown.parquet")
    features = {"categorical": ["device"], "numeric": {"price": form}}
    config["learner"] = {"label": "click", "bits": 8, "features": features, **others}
    return config


def test_clipped_values_are_counted_and_named(tmp_path):
    """In the summary of the learner, however the log is cut, and by validate."""
    config = numbers(tmp_path, [2e9 if n % 50 == 0 else n + 0.5 for n in range(200)])
    expected = (
        'learner click: 4 of 200 values of price lie beyond ±1e9 and are clipped. Use "log" or '
        "edges for it in learner.features.numeric.",
        "learner click: 3 of 200 samples were not learned, because price is far beyond its other "
        'values. Look into them; if they are right, use "log" or edges in '
        "learner.features.numeric.",
    )
    assert headrace.validate(config).warnings == expected
    for rows in (1, 1_000):
        config["replay"] = {"batch_rows": rows, "checkpoint": "0s"}
        result = headrace.replay(config, tmp_path / f"out-{rows}")
        assert result.findings == expected
        assert result.summary.learners["click"].clipped == {"price": 4}


def test_identifiers_of_64_bits_train_and_are_named(tmp_path):
    """As numbers they are rounded; a sentence says to make them categorical."""
    config = numbers(tmp_path, [2**62 + n for n in range(200)], "log")
    expected = (
        "learner click: the numeric feature price looks like an identifier (such as "
        f"{2**62}), whose magnitude says nothing: put it into features.categorical, in learner.",
    )
    assert headrace.validate(config).warnings == expected
    result = headrace.replay(config, tmp_path / "out")
    assert result.findings == expected
    assert result.summary.learners["click"].samples == 200
    assert result.summary.learners["click"].log_loss < 1


@pytest.mark.parametrize(
    ("rows", "when"),
    [(200, "after the samples from 2026-01-01T00:10:00 UTC on"), (1, "after 1 samples")],
    ids=["in an epoch", "at the end"],
)
def test_a_model_that_is_not_finite_names_its_columns(tmp_path, rows, when):
    """The first column to overflow, not those to which it spreads; validate refuses it."""
    config = numbers(tmp_path, [1_000.0] * rows, alpha=1e-37)
    said = (
        f"learner click: its model is not finite {when}; the numbers of price are too large: use "
        '"log" or edges for them in features.numeric'
    )
    with pytest.raises(headrace.HeadraceError) as failed:
        headrace.replay(config, tmp_path / "out")
    assert str(failed.value) == said
    with pytest.raises(headrace.ConfigError) as refused:
        headrace.validate(config)
    assert str(refused.value) == f"configuration: cannot be replayed: {said}"


def test_without_a_column_at_fault_the_weights_are(tmp_path):
    """Or the rate: an intercept overflows too."""
    config = numbers(tmp_path, [1.0] * 200, alpha=1e-45)
    with pytest.raises(headrace.HeadraceError, match="lower the weights of samples, or the"):
        headrace.replay(config, tmp_path / "out")


def test_without_regularisation_tiny_numbers_train(tmp_path):
    """Nothing is divided by zero."""
    config = numbers(tmp_path, [1e-30] * 200, beta=0.0, l1=0.0, l2=0.0)
    result = headrace.replay(config, tmp_path / "out")
    assert result.summary.learners["click"].log_loss < 1


def test_without_a_temporary_folder_validate_says_so(tmp_path, monkeypatch):
    """In one line, as of any folder that cannot be written to."""
    config = tables(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(headrace.HeadraceError, match=r"^temporary folder: cannot be written \("):
        headrace.validate(config)
