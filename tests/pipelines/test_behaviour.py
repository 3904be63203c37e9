"""Generated traffic beyond the additive model, and that without it nothing changes."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from scipy.special import expit

from headrace.pipelines.app.cli import main
from headrace.pipelines.jobs.behaviour import THETA, effect_of_user, interactions, without_user
from headrace.pipelines.jobs.generate import Traffic, write_traffic
from headrace.schemas.config.durations import SECOND


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A quarter of a million impressions with all that can be added."""
    folder = tmp_path_factory.mktemp("log")
    more = {"examination": True, "interactions": True, "delays_differ": True}
    write_traffic(Traffic(270_000, clean=True, click_rate=0.2, **more), folder)
    shown = pq.read_table(folder / "impressions.parquet")
    clicks = pq.read_table(folder / "clicks.parquet")
    return shown, clicks, json.loads((folder / "truth.json").read_text())


def test_without_options_logs_and_their_truth_stay_as_they_were(tmp_path):
    """Byte for byte: these are checksums from before there were any."""
    write_traffic(Traffic(impressions=2_000, seed=3), tmp_path, "text")
    found = {name: (tmp_path / name).read_bytes() for name in ("truth.json", "headrace.toml")}
    for name, compression in (("impressions.csv.gz", "gzip"), ("clicks.jsonl.zst", "zstd")):
        with pa.input_stream(str(tmp_path / name), compression=compression) as stream:
            found[name] = stream.read()
    assert {name: hashlib.sha256(text).hexdigest()[:16] for name, text in found.items()} == {
        "truth.json": "e223448929803d2e",
        "headrace.toml": "dae6dd9c6b93d712",
        "impressions.csv.gz": "8a1a9f2b7db3d4dc",
        "clicks.jsonl.zst": "486a528aa2f15b68",
    }


def test_better_impressions_are_higher_but_on_a_tenth_of_the_pages(log):
    """A page has one user's device, and every position once."""
    shown, clicks, truth = log
    assert truth["theta"] == list(THETA)
    position = shown["position"].to_numpy()
    page = position[: position.size // 5 * 5].reshape(-1, 5)
    # A chunk of the generator may end in the middle of a page.
    assert (np.sort(page[:50_000], axis=1) == np.arange(1, 6)).all()
    randomised = shown["randomised"].to_numpy(zero_copy_only=False)
    assert randomised.mean() == pytest.approx(0.1, abs=0.005)
    clicked = pc.is_in(shown["request_id"], clicks["request_id"]).to_numpy()

    def rates(which):
        chosen = position[which]
        return np.bincount(chosen, clicked[which])[1:] / np.bincount(chosen)[1:]

    random, sorted_rates = rates(randomised), rates(~randomised)
    np.testing.assert_allclose(random / random[0], THETA, rtol=0.15)
    assert (sorted_rates / sorted_rates[0] < 0.8 * np.array(THETA))[1:].all()
    assert random[0] == pytest.approx(truth["relevance"], rel=0.08)


def test_the_truth_says_what_columns_can_attain(log):
    """Which is worse than the best prediction, because no column shows the user."""
    truth = log[2]
    lost = truth["log_loss_of_columns"] / truth["log_loss"] - 1
    assert 0.002 < lost < 0.02


def test_the_user_is_integrated_out_over_those_of_the_site():
    """As a loop over all users finds it."""
    rest, site = np.array([-3.0, -1.0, 0.5]), np.array([0, 199, 7])
    expected = [
        np.mean([expit(r + effect_of_user(np.array(user))) for user in range(s, 50_000, 200)])
        for r, s in zip(rest, site, strict=True)
    ]
    np.testing.assert_allclose(without_user(rest, site), expected, rtol=1e-12)


def test_no_sum_of_effects_of_single_columns_is_an_interaction():
    """Of site and ad, what the best such sum leaves has most of the variance."""
    site, ad = (values.ravel() for values in np.meshgrid(np.arange(200), np.arange(1, 301)))
    found = interactions(site, ad, np.zeros_like(ad), np.zeros_like(ad)).reshape(300, 200)
    rest = found - found.mean(axis=0) - found.mean(axis=1, keepdims=True) + found.mean()
    assert rest.var() > 0.9 * found.var()
    assert found.std() > 0.5


def test_clicks_take_longer_on_some_devices(log):
    """By the factors of the devices, of which that of a phone is least."""
    shown, clicks, _ = log
    joined = clicks.join(shown.select(["request_id", "device", "time"]), "request_id",
                         right_suffix="_shown")  # fmt: skip
    delay = (joined["time"].to_numpy() - joined["time_shown"].to_numpy()) / SECOND
    device = joined["device"].to_numpy()
    median = {name: np.median(delay[device == name]) for name in ("phone", "desktop", "tablet")}
    assert median["desktop"] == pytest.approx(2 * median["phone"], rel=0.1)
    assert median["tablet"] == pytest.approx(4 * median["phone"], rel=0.15)


@pytest.mark.parametrize("form", ["parquet", "text"])
def test_a_log_with_examination_replays_as_it_is_configured(tmp_path, form, capsys):
    """The learner is corrected by the randomised pages; the position is no feature."""
    out = str(tmp_path / "log")
    command = ["generate", "--out", out, "--impressions", "3000", "--format", form]
    assert main([*command, "--examination", "--interactions", "--delays-differ"]) == 0
    assert main(["validate", f"{out}/headrace.toml"]) == 0
    assert 'from = "randomised"' in (tmp_path / "log" / "headrace.toml").read_text()


def test_live_traffic_has_no_examination(capsys):
    """The option is refused, by its name."""
    command = ["generate", "--to-kafka", "nowhere:9092", "--delays-differ"]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert (
        said == "headrace generate: --delays-differ has no effect with --to-kafka; leave it out\n"
    )
