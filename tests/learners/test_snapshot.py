import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest

from headrace.learners.exact import ExactTable
from headrace.learners.models.ftrl import FtrlModel, FtrlParameters
from headrace.learners.registry import ALGORITHMS
from headrace.learners.snapshot import load_snapshot, save_snapshot
from headrace.schemas.errors import SnapshotError
from tests.learners.test_ftrl import samples


@pytest.fixture
def model():
    rows, label = samples(300, 4, 200, seed=1)
    model = FtrlModel(FtrlParameters(l1=0.5), bits=10)
    model.learn(rows, np.arange(300), label, np.ones(300), np.zeros(300))
    return model


def test_a_loaded_model_equals_the_saved_one_bit_for_bit(tmp_path, model):
    """Learning continues from it as from the original."""
    manifest = save_snapshot(tmp_path / "s", "ftrl", model, {"samples": 300})
    again, read = load_snapshot(tmp_path / "s")
    assert np.array_equal(again.zn, model.zn)
    assert (again.parameters, again.bits) == (model.parameters, model.bits)
    assert read == manifest
    assert read["figures"]["nonzero_weights"] == np.count_nonzero(model.weights())
    rows, label = samples(100, 4, 200, seed=2)
    for one in (model, again):
        one.learn(rows, np.arange(100), label, np.ones(100), np.zeros(100))
    assert np.array_equal(again.zn, model.zn)


def test_the_checksum_depends_on_the_model_alone(tmp_path, model):
    """Other entries of the manifest leave it as it is; another model changes it."""
    first = save_snapshot(tmp_path / "a", "ftrl", model, {"samples": 1})
    second = save_snapshot(tmp_path / "b", "ftrl", model, {"samples": 2})
    assert first["sha256"] == second["sha256"]
    model.zn[3, 0] += 1e-3
    assert save_snapshot(tmp_path / "c", "ftrl", model, {})["sha256"] != first["sha256"]


def test_a_snapshot_that_is_damaged_or_unknown_is_refused(tmp_path, model):
    """The error says what is wrong and what to do."""
    folder = tmp_path / "s"
    save_snapshot(folder, "ftrl", model, {})
    manifest = json.loads((folder / "manifest.json").read_text())
    for change, said in (
        (
            {"format": 1},
            r"expected format 2, or 3 of small ones \(got 1\); load it with",
        ),
        (
            {"algorithm": "adagrad"},
            r"expected an algorithm of \['ffm', 'ftrl', 'probit', 'sgd'\] \(got 'adagrad'\)",
        ),
        ({"bits": 11}, r"is damaged: expected checksum .* \(got .*\); use an older snapshot"),
        ({"parameters": {"alpha": "much"}}, "is damaged"),
        ({"sha256": "0"}, r"is damaged: expected checksum 0 \(got .*\); use an older snapshot"),
    ):
        (folder / "manifest.json").write_text(json.dumps({**manifest, **change}))
        with pytest.raises(SnapshotError, match=said):
            load_snapshot(folder)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pa.ipc.new_file(folder / "arrays.arrow", pa.schema([("z", pa.float32())])):
        pass
    with pytest.raises(SnapshotError, match=r"arrays.arrow is not readable \(not one row of"):
        load_snapshot(folder)
    (folder / "arrays.arrow").write_bytes(b"short")
    with pytest.raises(SnapshotError, match=r"arrays.arrow is not readable"):
        load_snapshot(folder)
    with pytest.raises(SnapshotError, match=r"holds no readable manifest.json"):
        load_snapshot(tmp_path / "none")


def test_a_snapshot_of_another_version_of_the_learner_is_refused(tmp_path, model, monkeypatch):
    """Its arrays may mean something else."""
    save_snapshot(tmp_path / "s", "ftrl", model, {})
    monkeypatch.setattr(FtrlModel, "version", 2)
    with pytest.raises(SnapshotError) as refused:
        load_snapshot(tmp_path / "s")
    assert str(refused.value) == (
        f"{tmp_path / 's'}: expected version 2 of ftrl (got 1); load it with the version of "
        "Headrace that wrote it"
    )


def test_the_table_is_part_of_a_snapshot(tmp_path):
    """Another admission is another model; a table of another version is refused."""
    found = {}
    for admit in (1, 2):
        learner = ALGORITHMS["ftrl"].make(FtrlParameters(), 64, ExactTable(admit, expire=5))
        found[admit] = save_snapshot(tmp_path / str(admit), "ftrl", learner, {})
        again, _ = load_snapshot(tmp_path / str(admit))
        assert again.plan == ExactTable(admit, expire=5)
    assert found[2]["table"] == {"version": 1, "admit": 2, "expire": 5}
    assert found[1]["sha256"] != found[2]["sha256"]
    table = {**found[2]["table"], "admit": 3}
    (tmp_path / "2" / "manifest.json").write_text(json.dumps({**found[2], "table": table}))
    with pytest.raises(SnapshotError, match="is damaged"):
        load_snapshot(tmp_path / "2")


def test_an_exact_table_of_an_algorithm_that_has_none_is_refused(tmp_path):
    learner = ALGORITHMS["ftrl"].make(FtrlParameters(), 64, ExactTable())
    save_snapshot(tmp_path / "s", "ftrl", learner, {})
    algorithms = {"ftrl": dataclasses.replace(ALGORITHMS["ftrl"], growing=None)}
    with pytest.raises(SnapshotError, match=r"expected a hashed table of ftrl \(got an exact one"):
        load_snapshot(tmp_path / "s", algorithms)


def test_a_table_of_another_version_is_refused(tmp_path, monkeypatch):
    learner = ALGORITHMS["ftrl"].make(FtrlParameters(), 64, ExactTable())
    save_snapshot(tmp_path / "s", "ftrl", learner, {})
    monkeypatch.setattr("headrace.learners.exact.VERSION", 2)
    with pytest.raises(SnapshotError) as refused:
        load_snapshot(tmp_path / "s")
    assert str(refused.value) == (
        f"{tmp_path / 's'}: expected version 2 of its exact table (got 1); "
        "load it with the version of Headrace that wrote it"
    )


def test_a_model_that_is_not_finite_is_never_written(tmp_path, model):
    """The error has the number of broken values, and the older snapshot stays."""
    folder = tmp_path / "s"
    save_snapshot(folder, "ftrl", model, {"n": 1})
    touched = np.flatnonzero(model.zn[:, 1])
    model.zn[touched[:2], 0] = [np.nan, -np.inf]
    model.zn[touched[1:3], 1] = np.inf
    with pytest.raises(SnapshotError) as refused:
        save_snapshot(folder, "ftrl", model, {"n": 2})
    assert str(refused.value) == (
        f"{folder}: every value of z must be finite (got 2 of {touched.size} that are not); "
        "lower sampling weights or the learner's rate; no model was written"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    assert load_snapshot(folder)[1]["n"] == 1


def test_a_snapshot_that_is_not_finite_is_refused(tmp_path, model, monkeypatch):
    """However it came to be written."""
    folder = tmp_path / "s"
    model.zn[3] = [np.nan, 1.0]
    with monkeypatch.context() as without:
        without.setattr("headrace.learners.snapshot._refuse_not_finite", lambda *_: None)
        touched = save_snapshot(folder, "ftrl", model, {})["figures"]["coordinates"]
    with pytest.raises(SnapshotError) as refused:
        load_snapshot(folder)
    assert str(refused.value) == (
        f"{folder}: every value of z must be finite (got 1 of {touched} that are not); "
        "use an older snapshot"
    )


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_a_snapshot_that_is_not_finite_is_neither_written_nor_loaded(
    tmp_path, algorithm, monkeypatch
):
    """Of any algorithm, in any array of numbers with fractions, and in what is beside them."""
    kind = ALGORITHMS[algorithm]
    learner = kind.make(kind.parameters(), 8, None)
    rows, label = samples(300, 4, 200, seed=1)
    learner.learn(rows, np.arange(300), label, np.ones(300), np.zeros(300))
    sound = dict(learner.export())
    broken = [{**sound, name: np.where(np.arange(array.size) == 1, value, array)}
              for name, array in sound.items() if array.dtype.kind == "f"
              for value in (np.nan, np.inf)]  # fmt: skip
    assert broken
    for arrays, theta in [*((arrays, None) for arrays in broken), (sound, [1.0, np.nan])]:
        monkeypatch.setattr(learner, "export", lambda arrays=arrays: arrays)
        with pytest.raises(SnapshotError, match="must be finite"):
            save_snapshot(tmp_path / "s", algorithm, learner, {}, theta=theta)
        assert not (tmp_path / "s").exists()
        with monkeypatch.context() as without:
            without.setattr("headrace.learners.snapshot._refuse_not_finite", lambda *_: None)
            save_snapshot(tmp_path / "t", algorithm, learner, {}, theta=theta)
        with pytest.raises(SnapshotError, match="must be finite"):
            load_snapshot(tmp_path / "t")


def test_a_snapshot_gets_its_name_only_when_complete(tmp_path, model):
    """Left-overs of an interrupted write are removed, and an older snapshot is replaced."""
    (tmp_path / "s.partial").mkdir()
    (tmp_path / "s.partial" / "junk").write_text("junk")
    save_snapshot(tmp_path / "s", "ftrl", model, {"n": 1})
    save_snapshot(tmp_path / "s", "ftrl", model, {"n": 2})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s"]
    assert load_snapshot(tmp_path / "s")[1]["n"] == 2


def test_no_damaged_byte_is_taken_for_a_model(tmp_path, model):
    """Whichever it is: the snapshot is refused in one line, or is the same model."""
    folder = tmp_path / "s"
    small = FtrlModel(FtrlParameters(), bits=4)
    small.restore({name: array[:0] for name, array in model.export().items()})
    small.zn[3] = 0.5, 2.0
    save_snapshot(folder, "ftrl", small, {})
    whole = (folder / "arrays.arrow").read_bytes()
    refused = []
    for at in range(len(whole)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(whole)
            damaged[at] ^= flip
            (folder / "arrays.arrow").write_bytes(damaged)
            try:
                found, _ = load_snapshot(folder)
            except SnapshotError as error:
                refused.append(str(error))
            else:
                assert np.array_equal(found.zn, small.zn)
    assert len(refused) > len(whole)
    assert not any("\n" in said for said in refused)
