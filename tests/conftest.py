"""Logs that the tests of several packages use."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from headrace.pipelines.app.commands import quiet_beam
from headrace.pipelines.jobs.generate import Traffic, write_traffic

# Machines are shared, and kernels are compiled at their first call: no test is about its time.
settings.register_profile("headrace", deadline=None)
settings.load_profile("headrace")

DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _quiet():
    quiet_beam()


@pytest.fixture(scope="session")
def log(tmp_path_factory):
    """A log of 6,000 impressions over a hundred minutes, with every fault that a log can have."""
    folder = tmp_path_factory.mktemp("log")
    write_traffic(Traffic(impressions=6_000, rate=1, seed=7, click_rate=0.2), folder)
    text = (folder / "headrace.toml").read_text()
    text = text.replace("bits = 20", "bits = 12").replace('window = "5m"', 'window = "30m"')
    (folder / "headrace.toml").write_text(text)
    return folder


@pytest.fixture
def data():
    """The folder of public data sets beside the repository."""
    if not DATA.is_dir():
        pytest.skip(f"no data sets at {DATA}")
    return DATA
