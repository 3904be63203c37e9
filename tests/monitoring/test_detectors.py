import numpy as np
import pytest

from headrace.monitoring.detectors import label_psi, what_others_say


def windows_of(rates, p=0.05, samples=2_000):
    """Return hourly windows with these label rates and equal predictions."""
    found = []
    for hour, rate in enumerate(rates):
        hits = round(rate * samples)
        found.append(
            (hour * 10, np.array([samples, hits, samples, hits, p * samples, 0, samples, hits, 0]))
        )
    return found


def first_alarms(rates):
    """Return when each detector would have spoken first, in hours."""
    said = what_others_say(windows_of(rates))
    assert {of.windows for of in said} == {len(rates)}
    return [of.alarms[0] // 10 if of.alarms else None for of in said]


def test_steady_labels_alarm_nobody():
    """Noise of the size that such windows have."""
    rates = 0.05 + np.random.default_rng(0).normal(0, 0.005, 200)
    assert first_alarms(rates) == [None, None, None, None]


def test_a_total_outage_is_seen_at_once_by_predictions_and_by_psi():
    """PSI is infinite where there is no positive; the usual detectors of change come later."""
    adwin, page_hinkley, psi, actual = first_alarms([0.05] * 50 + [0.0] * 50)
    assert (psi, actual) == (50, 50)
    assert adwin is None or adwin > 50
    assert page_hinkley is None or page_hinkley > 50


def test_labels_doubled_are_seen_by_predictions_alone_at_first():
    """PSI of labels stays below 0.1 where the rate is small."""
    _, _, psi, actual = first_alarms([0.05] * 50 + [0.1] * 50)
    assert (psi, actual) == (None, 50)


def test_page_hinkley_speaks_of_a_lasting_change():
    """Its rates are relative to their mean so far."""
    assert first_alarms([0.05] * 50 + [0.15] * 50)[1] in range(50, 60)


def test_windows_without_samples_are_left_out():
    """They have no rate."""
    said = what_others_say([(0, np.zeros(9)), *windows_of([0.05])])
    assert {of.windows for of in said} == {1}
    assert [of.windows for of in what_others_say([])] == [0] * 4


@pytest.mark.parametrize(
    ("rate", "reference", "expected"),
    [(0.5, 0.5, 0.0), (0.0, 0.0, 0.0), (0.0, 0.1, np.inf), (1.0, 0.9, np.inf)],
)
def test_psi_of_labels(rate, reference, expected):
    """Infinite if a class is only in one of the two."""
    assert label_psi(rate, reference) == expected
