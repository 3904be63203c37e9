"""The kernels in their plain form: as the pages of the learners have them, and nothing else.

`headrace.learners.models` has the same arithmetic in another arrangement, to the last bit.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from headrace.learners.models.probit import _LEAST, FARTHEST, _cumulative, _density, log_odds
from headrace.learners.models.probit import from_log_odds as clipped_t


@nb.njit
def _x(values, k):
    return values[k] if values.size else np.float32(1)


@nb.njit
def ftrl_weight(z, n, alpha, beta, l1, l2):
    if abs(z) <= l1:
        return np.float32(0)
    divisor = (beta + np.sqrt(n)) / alpha + l2
    if divisor == 0:
        return np.float32(0)
    return -(z - l1) / divisor if z > 0 else -(z + l1) / divisor


@nb.njit
def ftrl(zn, starts, indices, values, order, label, importance, offset, parameters):
    """Learn by Algorithm 1 of McMahan et al.; return the progressive log-odds."""
    alpha, beta, l1, l2 = parameters[0], parameters[1], parameters[2], parameters[3]
    margins = np.empty(order.size)
    for at in range(order.size):
        here = np.arange(starts[order[at]], starts[order[at] + 1])
        weights = np.empty(here.size, np.float32)
        margin = 0.0
        for a, k in enumerate(here):
            z, n = zn[indices[k]]
            weights[a] = ftrl_weight(z, n, alpha, beta, l1, l2)
            margin += np.float64(weights[a] * _x(values, k))
        margins[at] = margin
        if not np.isfinite(margin):
            margins[at:] = np.nan
            break
        p = 1.0 / (1.0 + np.exp(-(margin + offset[at])))
        gradient = np.float32((p - label[at]) * importance[at])
        for a, k in enumerate(here):
            g = gradient * _x(values, k)
            z, n = zn[indices[k]]
            sigma = (np.sqrt(n + g * g) - np.sqrt(n)) / alpha
            zn[indices[k], 0] += g - sigma * weights[a]
            zn[indices[k], 1] = n + g * g
    return margins


@nb.njit
def sgd(table, starts, indices, values, order, label, importance, offset, alpha, beta):
    """Learn with a rate for each coordinate; return the progressive log-odds."""
    margins = np.empty(order.size)
    for at in range(order.size):
        here = range(starts[order[at]], starts[order[at] + 1])
        margin = 0.0
        for k in here:
            margin += np.float64(table[indices[k], 0]) * _x(values, k)
        p = 1.0 / (1.0 + np.exp(-(margin + offset[at])))
        gradient = (p - label[at]) * importance[at]
        if not (np.isfinite(margin) and np.isfinite(gradient)):
            margins[at:] = np.nan
            break
        margins[at] = margin
        if importance[at] == 0:
            continue
        for k in here:
            g = gradient * _x(values, k)
            coordinate = table[indices[k]]
            coordinate[1] = min(coordinate[1] + g * g, float(np.finfo(np.float32).max))
            rate = max(alpha / (beta + np.sqrt(np.float64(coordinate[1]))), 1e-5)
            coordinate[0] -= rate * g
    return margins


@nb.njit
def probit(beliefs, starts, indices, values, order, label, importance, offset, beta):
    """Learn by the equations of ``docs/learners/probit.md``; return the progressive log-odds."""
    margins = np.empty(order.size)
    for at in range(order.size):
        here = np.arange(starts[order[at]], starts[order[at] + 1])
        before = np.empty(here.size)
        mean, variance = 0.0, 0.0
        for a, k in enumerate(here):
            x = np.float64(_x(values, k))
            before[a] = beliefs[indices[k], 1]
            mean += beliefs[indices[k], 0] * x
            variance += before[a] * x * x
        total = beta * beta + variance
        t = mean / np.sqrt(total)
        margin = log_odds(t)
        if not np.isfinite(margin + offset[at] + label[at] + importance[at]):
            margins[at:] = np.nan
            break
        margins[at] = margin
        if importance[at] == 0:
            continue
        if offset[at] != 0:
            t = clipped_t(margin + offset[at])
        t = min(max(t, -FARTHEST), FARTHEST)
        up, down = _density(t) / _cumulative(t), _density(t) / _cumulative(-t)
        v = label[at] * up - (1 - label[at]) * down
        w = label[at] * up * (up + t) + (1 - label[at]) * down * (down - t)
        known = w * variance / total
        times = importance[at] / (1 - known + importance[at] * known)
        step, share = times * v / np.sqrt(total), times * w / total
        for a, k in enumerate(here):
            x = np.float64(_x(values, k))
            belief = beliefs[indices[k]]
            belief[0] += step * x * before[a]
            belief[1] = max(belief[1] * (1 - share * x * x * before[a]), _LEAST)
    return margins
