import json

import numpy as np
import pytest

from learners.ftrl import FtrlModel, FtrlParameters
from learners.snapshot import load_snapshot, save_snapshot
from schemas.errors import SnapshotError
from tests.learners.test_ftrl import samples


@pytest.fixture
def model():
    rows, label = samples(300, 4, 200, seed=1)
    model = FtrlModel(FtrlParameters(l1=0.5), bits=10)
    model.learn(rows, np.arange(300), label, np.ones(300), np.zeros(300))
    return model


def test_a_snapshot_comes_back_bit_by_bit(tmp_path, model):
    """Z and n are complete, so learning goes on as if nothing had happened."""
    manifest = save_snapshot(tmp_path / "s", model, {"samples": 300})
    again, read = load_snapshot(tmp_path / "s")
    assert np.array_equal(again.zn, model.zn)
    assert (again.parameters, again.bits) == (model.parameters, model.bits)
    assert read == manifest
    assert read["nonzero_weights"] == np.count_nonzero(model.weights())
    rows, label = samples(100, 4, 200, seed=2)
    for one in (model, again):
        one.learn(rows, np.arange(100), label, np.ones(100), np.zeros(100))
    assert np.array_equal(again.zn, model.zn)


def test_the_checksum_depends_on_the_model_alone(tmp_path, model):
    """Other words about a model leave its checksum; another model changes it."""
    first = save_snapshot(tmp_path / "a", model, {"samples": 1})
    second = save_snapshot(tmp_path / "b", model, {"samples": 2})
    assert first["sha256"] == second["sha256"]
    model.zn[3, 0] += 1e-3
    assert save_snapshot(tmp_path / "c", model, {})["sha256"] != first["sha256"]


def test_what_is_damaged_or_not_understood_is_refused(tmp_path, model):
    """A reader says what is wrong instead of guessing."""
    folder = tmp_path / "s"
    save_snapshot(folder, model, {})
    manifest = json.loads((folder / "manifest.json").read_text())
    for change, said in (
        ({"format": 2}, r"expected format 1 of ftrl \(got format 2 of 'ftrl'\)"),
        ({"algorithm": "adagrad"}, "got format 1 of 'adagrad'"),
        ({"sha256": "0"}, "checksum is 0, the coordinates have .*; the snapshot is damaged"),
    ):
        (folder / "manifest.json").write_text(json.dumps({**manifest, **change}))
        with pytest.raises(SnapshotError, match=said):
            load_snapshot(folder)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "coordinates.arrow").write_bytes(b"short")
    with pytest.raises(SnapshotError, match=r"coordinates.arrow is not readable"):
        load_snapshot(folder)
    with pytest.raises(SnapshotError, match=r"holds no readable manifest.json"):
        load_snapshot(tmp_path / "none")


def test_a_snapshot_is_written_aside(tmp_path, model):
    """Nothing half-written stays under the final name, and an old one is replaced."""
    (tmp_path / "s.partial").mkdir()
    (tmp_path / "s.partial" / "junk").write_text("junk")
    save_snapshot(tmp_path / "s", model, {"n": 1})
    save_snapshot(tmp_path / "s", model, {"n": 2})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s"]
    assert load_snapshot(tmp_path / "s")[1]["n"] == 2
