"""The secret of a join: where it is, what depends on it, and where it is not."""

import base64
import bz2
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.internal import pickler

import headrace
from headrace.pipelines.app.cli import main
from headrace.pipelines.beam import reading
from headrace.pipelines.jobs.stream import stream
from headrace.pipelines.run.interrupts import Stop
from headrace.pipelines.run.liveplace import opened_live
from headrace.pipelines.sources.blocks import LogBlocks
from headrace.pipelines.sources.inputs import resolve
from headrace.pipelines.sources.secrethash import PUBLIC_KEYS
from headrace.schemas.config.secrets import Secret
from headrace.schemas.errors import ConfigError
from headrace.schemas.records.keyed import KeyedHash
from tests.pipelines.growing import GrowingFiles
from tests.pipelines.outputs import contents

SECRET = "the secret of these tests, of forty letters"


@pytest.fixture
def log(tmp_path, monkeypatch):
    """A small log; returns a function that writes a configuration with more in ``[join]``."""
    monkeypatch.setenv("JOIN_SECRET", SECRET)
    (tmp_path / "secret").write_text(SECRET + "\n")
    (tmp_path / "other").write_text("another secret of these tests\n")
    shown = pa.table({
        "site": [f"s{number % 7}" for number in range(2_000)],
        "id": list(range(2_000)),
        "time": pa.array([1_700_000_000 + number for number in range(2_000)], pa.timestamp("s")),
    })  # fmt: skip
    pq.write_table(shown, tmp_path / "shown.parquet")
    pq.write_table(shown.filter(pa.array([n % 9 == 0 for n in range(2_000)])),
                   tmp_path / "clicks.parquet")  # fmt: skip

    def written(join="", name="join.toml", rest=""):
        stream = 'key = ["site", "id"]\ntime = { column = "time" }\n'
        path = tmp_path / name
        path.write_text(
            f'[impressions]\npath = "shown.parquet"\n{stream}'
            f'[actions.click]\npath = "clicks.parquet"\n{stream}window = "10s"\n'
            f"[join]\n{join}\n[sampling]\nnegative_rate = 0.2\n{rest}"
        )
        return path

    return written


def kept(config, out):
    """Replay a log; return the keys of the samples, and how many have a click."""
    samples = headrace.replay(config, out).samples.to_table()
    keys = set(zip(samples["site"].to_pylist(), samples["id"].to_pylist(), strict=True))
    return keys, samples["click"].to_pylist().count(True)


REFUSED = {
    "the secret itself": (f'secret = "{SECRET}"', "must not be in the configuration"),
    "a table of another kind": (f'secret = {{ value = "{SECRET}" }}', "is no value"),
    "two places": ('secret = { env = "A", file = "b" }', "is no value"),
    "a variable that is not set": ('secret = { env = "NONE" }', "has no variable NONE"),
    "a file that is not there": ('secret = { file = "none" }', "none cannot be read"),
}


@pytest.mark.parametrize(("join", "fact"), REFUSED.values(), ids=REFUSED)
def test_a_secret_has_one_place_that_is_not_the_configuration(log, join, fact):
    """The error names the key and never the value."""
    with pytest.raises(ConfigError) as error:
        resolve(headrace.load_config(log(join)))
    assert error.value.key == "join.secret"
    assert fact in str(error.value)
    assert SECRET not in str(error.value)


def test_a_short_secret_is_refused(log, monkeypatch):
    """It could be found by trying; the value is not shown."""
    monkeypatch.setenv("JOIN_SECRET", "hunter2")
    with pytest.raises(ConfigError, match="is shorter than 16 characters") as error:
        resolve(headrace.load_config(log('secret = { env = "JOIN_SECRET" }')))
    assert "hunter2" not in str(error.value)


def test_the_choice_of_negatives_is_another_with_a_secret_and_labels_are_not(log, tmp_path):
    """A secret in a file and in a variable is the same."""
    public, clicks = kept(log(), tmp_path / "public")
    own, own_clicks = kept(log('secret = { file = "secret" }'), tmp_path / "own")
    same, _ = kept(log('secret = { env = "JOIN_SECRET" }'), tmp_path / "same")
    assert own_clicks == clicks > 200
    assert own == same != public
    assert pq.read_table(tmp_path / "own/samples").equals(pq.read_table(tmp_path / "same/samples"))


def test_a_key_is_explained_with_the_secret_of_its_run(log, tmp_path, monkeypatch, capsys):
    """Its records are found by their digest; without the secret outputs alone are shown."""
    headrace.replay(log('secret = { env = "JOIN_SECRET" }'), tmp_path / "out")
    explain = ["explain", str(tmp_path / "out"), "s2", "9"]
    assert main(explain) == 0
    said = capsys.readouterr().out
    assert "configuration or logs have changed" not in said
    assert (said.count("    settled: "), said.count("click yes (1)")) == (2, 1)
    monkeypatch.delenv("JOIN_SECRET")
    assert main(explain) == 0
    assert "the environment has no variable JOIN_SECRET" in " ".join(
        capsys.readouterr().out.split()
    )


class Killed(BaseException):
    """Stands for the end of the process: no code handles it."""


def texts_of(folder):
    """Return every file below a folder that has the secret, or what its digests are made with."""
    keys = [key.tobytes() for key in KeyedHash(SECRET.encode())._keys.values()]
    return [
        path for path in folder.rglob("*")
        if path.is_file()
        and any(part in path.read_bytes() for part in [SECRET.encode(), *keys])
    ]  # fmt: skip


def interrupted(config, out, monkeypatch):
    """Replay half of a log, and end as a killed process does."""
    at = LogBlocks.at

    def dies(self, position):
        if position > 8:
            raise Killed
        return at(self, position)

    with monkeypatch.context() as patch:
        patch.setattr(LogBlocks, "at", dies)
        patch.setattr(reading, "_BUNDLE_BLOCKS", 1)
        with pytest.raises(Killed):
            main(["replay", str(config), "--out", str(out), "--quiet"])
    assert list(out.rglob("checkpoint-*"))


def test_a_run_goes_on_with_its_secret_alone(log, tmp_path, monkeypatch, capsys):
    """Whoever resumes may have the secret elsewhere; with another the error names its key."""
    small = '[replay]\ncheckpoint = "0s"\nbatch_rows = 100\n'
    own, out = log('secret = { file = "secret" }', rest=small), tmp_path / "out"
    interrupted(own, out, monkeypatch)
    assert texts_of(out) == []
    for other in ('secret = { file = "other" }', ""):
        changed = log(other, "changed.toml", small)
        assert main(["replay", str(changed), "--out", str(out), "--quiet", "--resume"]) != 0
        error = capsys.readouterr().err
        assert "join.secret: has changed since the checkpoint;" in error
    moved = log('secret = { env = "JOIN_SECRET" }', "moved.toml", small)
    assert main(["replay", str(moved), "--out", str(out), "--quiet", "--resume"]) == 0
    headrace.replay(own, tmp_path / "whole")
    assert contents(out).keys() == contents(tmp_path / "whole").keys()
    for name in ("samples", "dead_letters"):
        resumed, whole = (pq.read_table(folder / name) for folder in (out, tmp_path / "whole"))
        assert resumed.equals(whole)


def test_a_finished_run_is_continued_with_its_secret_alone(log, tmp_path, capsys):
    """And no file of its result has the secret."""
    own, out = log('secret = { file = "secret" }'), tmp_path / "out"
    headrace.replay(own, out)
    assert (out / "state").is_dir()
    assert texts_of(out) == []
    going_on = ["--out", str(tmp_path / "more"), "--quiet", "--continue", str(out)]
    for other in ('secret = { file = "other" }', ""):
        assert main(["replay", str(log(other, "changed.toml")), *going_on]) != 0
        assert "join.secret: has changed since" in capsys.readouterr().err
    moved = log('secret = { env = "JOIN_SECRET" }', "moved.toml")
    assert main(["replay", str(moved), *going_on]) == 0


def test_a_worker_reads_the_secret_itself_and_knows_it_is_the_same(log, monkeypatch):
    """A job is sent with the name of the variable; a worker without it, or with another, fails."""
    inputs = resolve(headrace.load_config(log('secret = { env = "JOIN_SECRET" }')))
    sent = pickler.dumps(inputs)
    keys = [key.tobytes() for key in inputs.secret.own._hash._keys.values()]
    clear = bz2.decompress(base64.b64decode(sent))  # as Beam packs it
    assert b"JOIN_SECRET" in clear
    assert not [part for part in [SECRET.encode(), *keys] if part in clear]
    assert pickler.loads(sent).secret.mark == inputs.secret.mark
    monkeypatch.setenv("JOIN_SECRET", "another secret of these tests")
    with pytest.raises(ConfigError, match="is another one on this worker"):
        pickler.loads(sent)
    monkeypatch.delenv("JOIN_SECRET")
    with pytest.raises(ConfigError, match="the environment has no variable JOIN_SECRET"):
        pickler.loads(sent)


def test_a_secret_is_shown_nowhere(log):
    """Neither by the configuration nor by what is planned from it."""
    config = headrace.load_config(log('secret = { file = "secret" }'))
    inputs = resolve(config)
    assert SECRET not in f"{config!r} {config.model_dump_json()} {inputs!r} {inputs.secret!r}"
    assert config.join.secret == Secret(file="secret")


def test_validate_says_by_what_keys_are_compared(log, capsys):
    """Without a secret that everybody can compute the hash."""
    for join, said in (("", "a hash that everybody can compute"),
                       ('secret = { env = "JOIN_SECRET" }', "join.secret")):  # fmt: skip
        assert main(["validate", str(log(join))]) == 0
        assert f"keys are compared by {said} (docs/security.md)" in " ".join(
            capsys.readouterr().out.split()
        )


def live(config, out):
    """Run the live job of a configuration until it is stopped at once; return what it said."""
    inputs, stopping, said = resolve(headrace.load_config(config)), Stop(), []
    stopping.set()
    with opened_live(out) as place:
        growing = GrowingFiles(inputs, Random(0))
        stream(inputs, growing, place, stopping, announce=said.append)
    return said


def test_a_live_run_says_once_that_it_has_no_secret_and_goes_on_with_its_own_alone(log, tmp_path):
    """Once, when it begins; a run with a secret says nothing of it."""
    assert live(log(), tmp_path / "public").count(PUBLIC_KEYS) == 1
    assert PUBLIC_KEYS not in live(log(), tmp_path / "public")
    own = log('secret = { file = "secret" }')
    assert PUBLIC_KEYS not in live(own, tmp_path / "own")
    assert texts_of(tmp_path / "own") == []
    live(log('secret = { env = "JOIN_SECRET" }'), tmp_path / "own")
    for other in ('secret = { file = "other" }', ""):
        with pytest.raises(ConfigError, match=r"join\.secret: has changed since"):
            live(log(other), tmp_path / "own")
