"""A model whose features are hashed with a key: who can use it, and who goes on from it."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headrace
from headrace.pipelines.app.cli import main
from headrace.schemas.errors import ConfigError, SnapshotError

KEY = "a hash key of these tests"
IN_FILE = 'hash_key = { file = "key" }'
IN_VARIABLE = 'hash_key = { env = "HASH_KEY" }'
ROWS = 1_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small log, keys in files, and the results of a run with a key in a variable."""
    folder = tmp_path_factory.mktemp("keyed")
    (folder / "key").write_text(KEY + "\n")
    (folder / "other").write_text("another hash key of these tests\n")
    numbers = np.arange(ROWS)
    shown = pa.table({
        "id": numbers, "site": [f"s{n % 7}" for n in numbers],
        "time": pa.array(1_700_000_000 + numbers, pa.timestamp("s")),
    })  # fmt: skip
    pq.write_table(shown, folder / "shown.parquet")
    pq.write_table(shown.filter(pa.array(numbers % 7 == 3)), folder / "clicks.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HASH_KEY", KEY)
        headrace.replay(written(folder, IN_VARIABLE), folder / "out")
    return folder


def written(folder, key="", learner=""):
    """Write a configuration with a key of its features."""
    stream = 'key = "id"\ntime = { column = "time" }\n'
    path = folder / "join.toml"
    path.write_text(
        f'[impressions]\npath = "shown.parquet"\n{stream}'
        f'[actions.click]\npath = "clicks.parquet"\n{stream}window = "10s"\n'
        f'[learner]\nlabel = "click"\nbits = 10\n{learner}\n'
        f'[learner.features]\ncategorical = ["site"]\n{key}\n'
    )
    return path


def test_a_model_predicts_with_its_key_alone(folder, monkeypatch):
    """With the key it tells sites apart; without it, or with another, it is refused."""
    monkeypatch.setenv("HASH_KEY", KEY)
    model = headrace.load_model(folder / "out" / "model")
    clicked, other = model.predict_proba(pa.table({"site": ["s3", "s4"]}))
    assert clicked > 0.5 > 0.1 > other
    monkeypatch.setenv("HASH_KEY", "another hash key of these tests")
    with pytest.raises(SnapshotError, match=r"features\.hash_key is another one"):
        headrace.load_model(folder / "out" / "model")
    monkeypatch.delenv("HASH_KEY")
    with pytest.raises(SnapshotError, match="the environment has no variable HASH_KEY"):
        headrace.load_model(folder / "out" / "model")


def test_no_file_of_a_result_has_the_key(folder):
    """Models and the state to go on from have its mark alone."""
    files = [path for path in (folder / "out").rglob("*") if path.is_file()]
    assert any(b'"hash_key"' in path.read_bytes() for path in files)
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_a_learner_starts_with_a_model_of_its_key_alone(folder):
    """By another key every feature has another place; the key may be in a file now."""
    start = 'start = "out/model"'
    headrace.validate(written(folder, IN_FILE, start))
    for key in ("", 'hash_key = { file = "other" }'):
        with pytest.raises(ConfigError, match=r"another features\.hash_key"):
            headrace.validate(written(folder, key, start))


def test_a_run_is_continued_with_its_key_alone(folder, tmp_path, capsys):
    """The place of the key may be another, the key may not."""
    going_on = ["--out", str(tmp_path / "more"), "--quiet", "--continue", str(folder / "out")]
    for key in ("", 'hash_key = { file = "other" }'):
        assert main(["replay", str(written(folder, key)), *going_on]) != 0
        assert "learner.features.hash_key: has changed since" in capsys.readouterr().err
    assert main(["replay", str(written(folder, IN_FILE)), *going_on]) == 0


def test_a_key_in_the_configuration_is_refused_and_not_shown(folder):
    """Results have a copy of the configuration."""
    with pytest.raises(ConfigError) as error:
        headrace.load_config(written(folder, f'hash_key = "{KEY}"'))
    assert error.value.key == "learner.features.hash_key"
    assert KEY not in str(error.value)
