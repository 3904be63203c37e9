"""The band that a guard needs is measured from windows."""

import numpy as np
import pytest

from headrace.monitoring.band import deviation_of, suggested_band


@pytest.mark.parametrize("deviation", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("expected", [50.0, 5_000.0])
def test_the_deviation_is_that_of_the_model_and_not_of_counts(deviation, expected):
    """However many positives a window has."""
    random = np.random.default_rng(1)
    windows = np.full(20_000, expected)
    ratio = np.exp(random.normal(0.0, deviation, windows.size))
    positives = random.poisson(windows * ratio).astype(float)
    assert deviation_of(positives, windows) == pytest.approx(deviation, abs=0.03)


def test_windows_of_few_positives_say_nothing():
    """Nor does a single one."""
    assert np.isnan(deviation_of(np.array([0.0, 90.0, 5.0]), np.array([19.0, 100.0, 3.0])))


@pytest.mark.parametrize(
    ("deviation", "band"), [(0.0, 1.25), (0.06, 1.5), (0.1, 1.5), (0.11, 2.0), (0.2, 3.0), (1, 3.0)]
)
def test_a_band_has_room_for_four_deviations(deviation, band):
    """Of those that are offered."""
    assert suggested_band(deviation) == band
