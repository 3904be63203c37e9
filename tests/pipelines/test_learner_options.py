"""What a learner learns, and how much of it, on whole replays."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headrace
from headrace.schemas.config.durations import SECOND

START, N = 1_767_225_600 * SECOND, 4_000


@pytest.fixture
def log(tmp_path):
    """Write impressions of which a third is clicked, and a third of these bought."""
    random = np.random.default_rng(1)
    shown = pa.table(
        {
            "id": [f"i{n}" for n in range(N)],
            "time": START + np.arange(N) * SECOND,
            "site": random.choice(["a", "b", "c"], N),
            "shift": pa.array(random.normal(size=N)),
            "worth": pa.array([None if n % 10 == 0 else float(n % 4) for n in range(N)]),
        }
    )
    clicked = random.random(N) < 1 / 3
    bought = clicked & (random.random(N) < 1 / 3)
    pq.write_table(shown, tmp_path / "shown.parquet")
    for name, which, later in (("click", clicked, 1), ("buy", bought, 2)):
        pq.write_table(
            pa.table({"id": shown["id"].filter(which),
                      "time": START + np.flatnonzero(which) * SECOND + later * SECOND}),
            tmp_path / f"{name}.parquet",
        )  # fmt: skip
    return tmp_path, clicked, bought


def tables(folder, emission="window", **learners):
    def stream(path):
        time = {"column": "time", "unit": "us"}
        return {"path": str(folder / f"{path}.parquet"), "key": "id", "time": time}

    actions = {name: {**stream(name), "window": "1m"} for name in ("click", "buy")}
    return {
        "impressions": stream("shown"),
        "actions": actions,
        "join": {"end_of_log": "close", "emission": emission},
        "features": {"site": {"categorical": ["site"]}},
        "learners": {name: {"features": "site", "bits": 8, **keys}
                     for name, keys in learners.items()},
    }  # fmt: skip


@pytest.mark.parametrize("emission", ["window", "immediate", "window_and_immediate"])
def test_conversions_are_learned_among_clicks(log, emission):
    """As a rate of those who clicked, and not of all."""
    folder, clicked, bought = log
    config = tables(
        folder, emission, all={"label": "buy"}, some={"label": "buy", "filter": "click"}
    )
    learners = headrace.replay(config, folder / "out").summary.learners
    assert learners["some"].samples in range(clicked.sum(), 2 * clicked.sum() + 1)
    if emission == "window":
        assert learners["some"].samples == clicked.sum()
        assert learners["all"].samples == N
    for name in ("all", "some"):
        positives = sum(window.positives for window in learners[name].windows)
        assert positives == bought.sum()


def test_an_offset_is_part_of_predictions_and_weights_count(log):
    """A weight that is missing leaves its sample out, and is told."""
    folder, _, _ = log
    config = tables(
        folder,
        plain={"label": "click"},
        shifted={"like": "plain", "offset": "shift"},
        worth={"like": "plain", "weight": "worth"},
    )
    result = headrace.replay(config, folder / "out")
    learners = result.summary.learners
    assert {name: (found.samples, found.refused) for name, found in learners.items()} == {
        "plain": (N, 0), "shifted": (N, 0), "worth": (N - N // 10, N // 10)
    }  # fmt: skip
    (said,) = [found for found in result.findings if "weight" in found]
    assert said.startswith(f"learner worth: {N // 10} samples were not learned")
    shown = pq.read_table(folder / "shown.parquet")
    model = headrace.load_model(folder / "out" / learners["shifted"].model.path)
    zeros = shown.set_column(3, "shift", pa.array(np.zeros(N)))
    with_shift, without = (np.log(p / (1 - p)) for p in map(model.predict_proba, (shown, zeros)))
    np.testing.assert_allclose(with_shift - without, shown["shift"].to_numpy(), atol=1e-9)


def test_impressions_may_have_a_column_that_is_called_trigger(log):
    """Where samples have none; it says nothing of what is learned, nor of the order."""
    folder, _, _ = log
    config = tables(folder, plain={"label": "click"})
    plain = headrace.replay(config, folder / "plain").summary
    shown = pq.read_table(folder / "shown.parquet")
    twice = [START + n // 2 * SECOND for n in range(N)]  # ties are ordered
    for name in ("plain", "named"):
        column = pa.array(["swipe", "click"] * (N // 2))
        table = shown.set_column(1, "time", pa.array(twice))
        table = table.append_column("trigger", column) if name == "named" else table
        pq.write_table(table, folder / "shown.parquet")
        found = headrace.replay(config, folder / f"ties-{name}").summary
        assert found.learners["plain"].samples == plain.learners["plain"].samples == N
        digest = found.learners["plain"].model.sha256
        if name == "plain":
            expected = digest
    assert digest == expected


@pytest.mark.parametrize("algorithm", ["ffm", "ftrl", "probit", "sgd"])
def test_a_model_with_an_exact_table_predicts_what_it_would_learn_next(log, algorithm):
    """Its figures say which features it has; one that is forgotten, or new, does not count."""
    folder, _, _ = log
    shown = pq.read_table(folder / "shown.parquet")
    site = ["old" if n < N // 2 else f"site{n % 7}" for n in range(N - 1)] + ["once"]
    pq.write_table(shown.set_column(2, "site", pa.array(site)), folder / "shown.parquet")
    config = tables(folder, exact={"label": "click", "table": "exact", "algorithm": algorithm,
                                   "admit": 2, "expire": "20m"})  # fmt: skip
    result = headrace.replay(config, folder / "out").summary.learners["exact"]
    figures = result.model.figures
    assert {name: figures[name] for name in ("features", "admitted", "waiting", "expired")} == {
        "features": 9, "admitted": 8, "waiting": 1, "expired": 1
    }  # fmt: skip
    model = headrace.load_model(folder / "out" / result.model.path)
    asked = pa.table({"site": ["site1", "old", "new", "once"]})
    known, old, new, once = model.predict_proba(asked)
    assert old == new
    # Of one that would be admitted now, these learners know how little is known of it.
    assert bool(once != new) is (algorithm in ("ffm", "probit"))
    assert known != new


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"filter": "site > 3"}, "learners.x.filter: cannot be evaluated"),
        ({"filter": "sight == 'a'"}, "learners.x.filter"),
        ({"weight": "site"}, "learners.x.weight: column is string, not a number"),
        ({"offset": "shifty"}, "learners.x.offset"),
    ],
)
def test_what_does_not_fit_the_log_is_named(log, keys, said):
    """Before anything is read."""
    with pytest.raises(headrace.ConfigError, match=said.replace(".", r"\.")):
        headrace.validate(tables(log[0], x={"label": "click", **keys}))
