"""How soon the guard sees faults, how often it is wrong, and what it costs, beside other detectors.

Usage: ``python -m benchmarks.guard [--quick]`` (``make bench-guard``). Simulates a model whose
calibration deviates by 8 % from day to day and drifts by 6 % within one, and legitimate steps of
15 % twice a week, which it has learned after some hours; impressions have a daily curve. Prints

- expected positives from the begin of a fault to the alarm, of the guard itself, row by row; they
  do not depend on traffic;
- false alarms a week at 10, 1,000 and 50,000 impressions a second, of which 2 % are positive, over
  all samples and over 1,000 values whose frequencies follow Zipf's law, and which deviate by 8 %
  more from day to day;
- the same of other detectors on the minutes of such traffic: in how many hours of a week they
  alarm for nothing, and positives until they see a fault within an hour;
- the deviation that is measured in a healthy week, and the band that it suggests;
- nanoseconds that a row costs.

A week at 50,000 a second is 3e10 rows. Where positives are rare, what the test sees depends on
their counts alone, so for false alarms a kernel does the same sums over stretches of eight expected
positives. At 1,000 a second the guard itself judges rows too, of odds 0.1, of which five times
fewer have as many positives, in traffic that deviates twice as much: the kernel's counts of the
same minutes are beside them.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import Any

import numba as nb
import numpy as np
import pyarrow as pa
from river.drift import ADWIN

from headrace.monitoring import guard as guards
from headrace.monitoring.band import deviation_of, suggested_band
from headrace.monitoring.guard import GuardPlan, LabelGuard
from headrace.schemas.config.durations import MINUTE, SECOND

RATES = (10, 1_000, 50_000)
POSITIVE = 0.02
VALUES = 1_000
FAULTS = {"stop": 0.0, "half": 0.5, "doubled": 2.0, "x3": 3.0, "x10": 10.0}
AIMS = {"stop": (25, 50), "half": (None, None), "doubled": (150, None), "x3": (25, None),
        "x10": (3, 5)}  # fmt: skip
"""Expected positives of all samples, and of a value, that a fault may take at most."""
STRETCH = 8.0
START = 1_700_000_000 * SECOND
UP, DOWN = guards.UP, guards.DOWN


def deviation(minutes: int, random: np.random.Generator, extra: float = 0.0) -> np.ndarray:
    """Return by what positives are more than predicted, in each minute, while all is well.

    Parameters
    ----------
    minutes
        How many.
    random
        Where chance comes from.
    extra
        Standard deviation of a further level of each day, as values have.
    """
    at = np.arange(minutes)
    days = minutes // 1_440 + 1
    level = random.normal(0.0, math.hypot(0.08, extra), days)[at // 1_440]
    # A drift that returns to zero within six hours or so.
    keep = math.exp(-1 / 360)
    noise = random.normal(0.0, 0.06 * math.sqrt(1 - keep**2), minutes)
    drift = np.empty(minutes)
    last = 0.0
    for minute in range(minutes):
        drift[minute] = last = keep * last + noise[minute]
    steps = np.zeros(minutes)
    for begin in random.choice(minutes, max(1, round(2 * minutes / 10_080)), replace=False):
        step = random.choice([-1, 1]) * math.log(1.15)
        steps[begin:] += step * np.exp(-(at[begin:] - begin) / 120)
    return np.exp(level + drift + steps)


def expected(minutes: int, per_second: float) -> np.ndarray:
    """Return how many positives are expected in each minute, over all samples."""
    hour = np.arange(minutes) / 60 % 24
    curve = 1 + 0.6 * np.cos((hour - 15) * (2 * np.pi / 24))
    return per_second * 60 * POSITIVE * curve


class Shown:
    """Rows that a guard judges, one epoch after the other."""

    def __init__(self, columns: int = 0, **plan: Any) -> None:
        names = tuple(f"c{at}" for at in range(columns))
        self.guard = LabelGuard("click", GuardPlan(**plan), names, armed=True)
        self.events: list[dict[str, Any]] = []

    def show(self, emit: np.ndarray, positive: np.ndarray, odds: float, *values: pa.Array) -> None:
        """Show the guard rows of equal odds, with a column for each of its slices."""
        guard, at = self.guard, 0
        guard.begin()
        columns = dict(zip(guard.columns, values, strict=True))
        encoded = guard.encode(columns, np.arange(emit.size))
        every = np.full(emit.size, odds)
        while at < emit.size:
            some = slice(at, min(at + guard.remaining, emit.size))
            scopes = guard.look_up(encoded, some)
            guard.holder(scopes)
            guard.observe(emit[some], positive[some], every[some], scopes)
            at = some.stop
        self.events += guard.take_journal()


def positives_to(factor: float, sliced: bool, seed: int) -> dict[str, float]:
    """Return the expected positives from the begin of a fault to a warning and to a disconnect.

    Of all samples, or of one value that has 3 % of them; in rows of odds 0.02. What did not come
    within 400 of them, or 150 of a value, is infinite.
    """
    random = np.random.default_rng(seed)
    shown = Shown(int(sliced), settle=0)
    share, most = (0.03, 150) if sliced else (1.0, 400)
    p, gap = POSITIVE / (1 + POSITIVE), SECOND // 50
    # A value is armed after three blocks of thirty positives.
    healthy, count = int(130 / p / share), int(most / p / share)
    emit = START + np.arange(healthy + count) * gap
    bad = random.random(emit.size) < share
    odds = POSITIVE * np.where(bad & (np.arange(emit.size) >= healthy), factor, 1.0)
    positive = random.random(emit.size) < odds / (1 + odds)
    values = pa.DictionaryArray.from_arrays((~bad).astype(np.int32), pa.array(["bad", "good"]))
    found = {"warn": math.inf, "disconnect": math.inf}
    for at in [0, *range(healthy, emit.size, 20_000)]:
        some = slice(at, healthy if at == 0 else at + 20_000)
        shown.show(emit[some], positive[some], POSITIVE, *([values[some]] if sliced else []))
        for row in shown.events:
            if row["value"] == ("bad" if sliced else None) and at:
                took = ((row["time"] - emit[healthy]) / gap + 1) * p * share
                found[row["event"]] = min(found.get(row["event"], math.inf), took)
        if math.isfinite(found["disconnect"]):
            break
    return found


@nb.njit(cache=True, nogil=True)
def _week(ratios, rates, likelihood, alarms, tops, random):
    """Judge stretches of `STRETCH` expected positives; return warnings and disconnects.

    Parameters
    ----------
    ratios, rates
        True over predicted, and expected positives, of each minute.
    likelihood
        Likelihood ratio of a stretch by its positives, level and alternative, shape (k, 2, 12).
    alarms, tops
        By level: when R alarms, and the band.
    random
        Where chance comes from.
    """
    half = likelihood.shape[2]
    evidence = np.zeros((2, half))
    state, calm = 0, 0
    warnings, disconnects = 0, 0
    k_block, n_block, opened = 0.0, 0.0, 0.0
    minute, at = 0.0, 0
    while at < rates.size:
        n = STRETCH
        k = min(random.poisson(n * ratios[at]), likelihood.shape[0] - 1)
        minute += n / rates[at]
        at = int(minute)
        k_block += k
        n_block += n
        if state < 2:
            for level in range(2):
                mean = 0.0
                for j in range(half):
                    factor = likelihood[k, level, j]
                    # What is added comes in the middle of the stretch, on average.
                    evidence[level, j] = evidence[level, j] * factor + n * math.sqrt(factor)
                    mean += evidence[level, j]
                if mean / half >= alarms[level]:
                    if level == 1:
                        disconnects += 1
                        state, calm = 2, 0
                        k_block = n_block = 0.0
                        opened = minute
                        break
                    if state == 0:
                        warnings += 1
                        state, calm = 1, 0
        if n_block >= 30.0 and minute - opened >= 5.0:
            top = tops[1] if state == 2 else tops[0]
            calm = calm + 1 if n_block / top <= k_block <= n_block * top else 0
            if calm >= 3 and state:
                state = 0
                evidence[:] = 0.0
            k_block = n_block = 0.0
            opened = minute
    return warnings, disconnects


def by_stretches(ratios: np.ndarray, rates: np.ndarray, sliced: bool) -> tuple[int, int]:
    """Return warnings and disconnects over minutes, see `_week`."""
    plan = GuardPlan()
    tops = plan.bands[int(sliced)]
    edges = np.array([[*[top] * UP.size, *[1 / top] * DOWN.size] for top in tops])
    factors = np.concatenate([UP, DOWN])
    scopes = guards.MOST_VALUES + 1 if sliced else 1
    alarms = plan.alarm * scopes * np.array([guards.RARER, 1.0])
    gains = np.exp(-STRETCH * (factors - 1) * edges)
    likelihood = factors ** np.arange(100)[:, np.newaxis, np.newaxis] * gains
    found: tuple[int, int] = _week(
        ratios, rates, likelihood, alarms, tops, np.random.default_rng(5)
    )
    return found


def by_rows(
    ratios: np.ndarray, rates: np.ndarray, odds: float, random: np.random.Generator,
    zipf: np.ndarray | None = None, of_value: np.ndarray | None = None,
) -> Shown:  # fmt: skip
    """Show the guard itself rows of such odds, as many as have the positives."""
    shown = Shown(0 if zipf is None else 1)
    names = [f"v{at}" for at in range(VALUES)]
    dictionary = pa.array(names)
    for minute in range(rates.size):
        count = max(1, round(rates[minute] / (odds / (1 + odds))))
        emit = START + minute * MINUTE + np.arange(count) * MINUTE // count
        true = odds * ratios[minute]
        values = []
        if zipf is not None and of_value is not None:
            code = np.searchsorted(zipf, random.random(count))
            true = true * of_value[code, minute // 1_440]
            values.append(pa.DictionaryArray.from_arrays(code.astype(np.int32), dictionary))
        positive = random.random(count) < true / (1 + true)
        shown.show(emit, positive, odds, *values)
    return shown


def trailing_z(k: np.ndarray, n: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Alarm where the rate of five minutes is four deviations off that of the hour before."""
    total_k, total_n = (np.concatenate([[0], np.cumsum(of)]) for of in (k, shown))
    at = np.arange(65, k.size + 1)
    k5, n5 = (of[at] - of[at - 5] for of in (total_k, total_n))
    k60, n60 = (of[at - 5] - of[at - 65] for of in (total_k, total_n))
    p = np.maximum(k60 + k5, 1) / (n60 + n5)
    z = (k5 / n5 - k60 / n60) / np.sqrt(p * (1 - p) * (1 / n5 + 1 / n60))
    return np.concatenate([np.zeros(64, bool), np.abs(z) > 4])


def cusum(k: np.ndarray, n: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Alarm where deviations from calibration, each less a half, add up to eight."""
    alarms, up, down = np.zeros(k.size, bool), 0.0, 0.0
    for at, z in enumerate((k - n) / np.sqrt(n)):
        up, down = max(0.0, up + z - 0.5), max(0.0, down - z - 0.5)
        if up > 8 or down > 8:
            alarms[at], up, down = True, 0.0, 0.0
    return alarms


def psi(k: np.ndarray, n: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Alarm where labels of an hour are not as those of the day before: 0.1 or more."""
    total_k, total_n = (np.concatenate([[0], np.cumsum(of)]) for of in (k, shown))
    alarms = np.zeros(k.size, bool)
    at = np.arange(1_500, k.size + 1)
    now = (total_k[at] - total_k[at - 60] + 0.5) / (total_n[at] - total_n[at - 60] + 1)
    past = at - 60, at - 1_500
    then = (total_k[past[0]] - total_k[past[1]] + 0.5) / (total_n[past[0]] - total_n[past[1]] + 1)
    found = (now - then) * np.log(now / then)
    found += (then - now) * np.log((1 - now) / (1 - then))
    alarms[1_499:] = found > 0.1
    return alarms


def adwin(k: np.ndarray, n: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Alarm where river's detector finds that the rate of minutes has changed."""
    detector, alarms = ADWIN(), np.zeros(k.size, bool)
    for at, rate in enumerate(k / shown):
        detector.update(rate)
        alarms[at] = detector.drift_detected
    return alarms


OTHERS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "z, 5 minutes of 65": trailing_z, "CUSUM of calibration": cusum, "PSI of labels": psi,
    "ADWIN of the rate": adwin,
}  # fmt: skip


def hours(alarms: np.ndarray) -> int:
    """Return in how many hours there is an alarm."""
    return np.unique(np.flatnonzero(alarms) // 60).size


def of_others(name: str, per_second: int, minutes: int, tries: int) -> tuple[float, list[float]]:
    """Return hours a week with a false alarm, and the median positives until a fault is seen."""
    detect = OTHERS[name]
    random = np.random.default_rng(7)
    ratios, n = deviation(minutes, random), expected(minutes, per_second)
    k = random.poisson(n * ratios).astype(np.float64)
    shown = n / POSITIVE
    false = hours(detect(k, n, shown)) * 10_080 / minutes
    needed = []
    for factor in FAULTS.values():
        took = []
        for begin in random.integers(minutes - 1_440, minutes - 60, tries):
            some = slice(begin - 2_880, begin + 60)
            bad = k[some].copy()
            bad[-60:] = random.poisson(n[begin : begin + 60] * ratios[begin : begin + 60] * factor)
            alarms = np.flatnonzero(detect(bad, n[some], shown[some])[-60:])
            took.append(float(n[begin : begin + alarms[0] + 1].sum()) if alarms.size else math.inf)
        needed.append(float(np.median(took)))
    return false, needed


def cost(columns: int, rows: int) -> float:
    """Return nanoseconds a row, with so many slice columns of 100 values."""
    random = np.random.default_rng(3)
    shown = Shown(columns)
    dictionary = pa.array([f"v{at}" for at in range(100)])
    seconds = math.inf
    for turn in range(4):
        emit = START + (turn * rows + np.arange(rows)) * 1_000
        positive = random.random(rows) < POSITIVE / (1 + POSITIVE)
        values = [
            pa.DictionaryArray.from_arrays(
                random.integers(0, 100, rows).astype(np.int32), dictionary
            )
            for _ in range(columns)
        ]
        started = time.perf_counter()
        shown.show(emit, positive, POSITIVE, *values)
        if turn:
            seconds = min(seconds, time.perf_counter() - started)
    return seconds / rows * 1e9


def _number(found: float) -> str:
    return f"{'-':>10}" if math.isinf(found) else f"{found:>10,.4g}"


def print_delays(tries: int) -> None:
    print(f"{'expected positives until':<40}" + "".join(f"{name:>10}" for name in FAULTS))
    for sliced in (False, True):
        runs = [
            [positives_to(factor, sliced, seed) for seed in range(tries)]
            for factor in FAULTS.values()
        ]
        for event in ("warn", "disconnect"):
            what = f"{event}, {'a value' if sliced else 'all samples'}"
            found = [float(np.median([run[event] for run in of])) for of in runs]
            print(f"{what:<40}" + "".join(map(_number, found)), flush=True)
        aims = [AIMS[name][int(sliced)] for name in FAULTS]
        print(f"{'  aim: at most':<40}" + "".join(f"{aim or '':>10}" for aim in aims))


def print_false_alarms(days: int, weeks: int) -> None:
    print(f"\n{'false alarms a week':<40}{'warnings':>10}{'disconnects':>12}{'weeks':>8}")
    shares = 1 / np.arange(1, VALUES + 1) ** 1.1
    shares /= shares.sum()
    minutes = days * 1_440
    for per_second in RATES:
        many = max(1, weeks // 10) if per_second == RATES[-1] else weeks
        found = np.zeros(2)
        for seed in range(many):
            random = np.random.default_rng(seed)
            found += by_stretches(deviation(10_080, random), expected(10_080, per_second), False)
        print_line(f"all samples, {per_second:,}/s", found, many)
    for per_second in RATES:
        found = np.zeros(2)
        random = np.random.default_rng(1)
        ratios, rates = deviation(minutes, random), expected(minutes, per_second)
        for share in shares:
            own = np.exp(random.normal(0.0, 0.08, days))[np.arange(minutes) // 1_440]
            found += by_stretches(ratios * own, rates * share, True)
        print_line(f"{VALUES:,} values, {per_second:,}/s", found, days / 7)
    # All deviations twice as large, so that there is something to compare.
    ratios, rates = deviation(minutes, np.random.default_rng(1)) ** 2, expected(minutes, RATES[1])
    print_line("rough, 1,000/s, stretches", np.array(by_stretches(ratios, rates, False)), days / 7)
    own = np.exp(np.random.default_rng(2).normal(0.0, 0.16, (VALUES, days)))
    found = np.zeros(2)
    for share, of in zip(shares, own, strict=True):
        found += by_stretches(ratios * of[np.arange(minutes) // 1_440], rates * share, True)
    print_line("  values, stretches", found, days / 7)
    random = np.random.default_rng(3)
    shown = by_rows(ratios, rates, 0.1, random)
    print_line("rough, 1,000/s, rows of odds 0.1", counts(shown, False), days / 7)
    shown = by_rows(ratios, rates, 0.1, random, np.cumsum(shares)[:-1], own)
    print_line("  values, rows of odds 0.1", counts(shown, True), days / 7)


def counts(shown: Shown, sliced: bool) -> np.ndarray:
    """Return how often there were warnings and disconnects."""
    events = [row["event"] for row in shown.events if (row["slice"] is not None) == sliced]
    return np.array([events.count("warn"), events.count("disconnect")])


def print_line(what: str, found: np.ndarray, weeks: float) -> None:
    """Print counts of so many weeks as those of one."""
    print(f"{what:<40}{found[0] / weeks:>10.2f}{found[1] / weeks:>12.2f}{weeks:>8.2f}", flush=True)


def print_others(days: int, tries: int) -> None:
    print(
        f"\n{'others: positives until':<29}{'false h/week':>13}"
        + "".join(f"{name:>10}" for name in FAULTS)
    )
    for name in OTHERS:
        for per_second in RATES:
            false, needed = of_others(name, per_second, max(days, 4) * 1_440, tries)
            print(
                f"{f'{name}, {per_second:,}/s':<29}{false:>13.1f}" + "".join(map(_number, needed)),
                flush=True,
            )


def main() -> None:
    """Print all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="fewer tries, and days for weeks")
    quick = parser.parse_args().quick
    print_delays(15 if quick else 60)
    print_false_alarms(1 if quick else 4, 2 if quick else 10)
    print_others(4 if quick else 7, 5 if quick else 20)
    random = np.random.default_rng(11)
    n = expected(10_080, RATES[1]).reshape(-1, 5).sum(axis=1)
    k = random.poisson(expected(10_080, RATES[1]) * deviation(10_080, random)).astype(np.float64)
    measured = deviation_of(k.reshape(-1, 5).sum(axis=1), n)
    print(f"\nmeasured deviation {measured:.3f}, suggested band {suggested_band(measured)}")
    for columns in (0, 3):
        found = cost(columns, 300_000 if quick else 1_000_000)
        print(f"{columns} slice columns: {found:.0f} ns a row")


if __name__ == "__main__":
    main()
