"""Counting normal pixels against anomalous ones: the same as sorting all of them, however values are spread."""

from __future__ import annotations

import numpy as np
import pytest

from robustad.metrics import _streams
from robustad.metrics._streams import tally

SPREADS = {
    "even": lambda x: x,
    "heavy upper tail": lambda x: np.exp(3 * x),
    "heavy lower tail": lambda x: -np.exp(3 * x),
    "one far away": lambda x: np.where(np.arange(x.size).reshape(x.shape) == 5, 1e6, x),
    "eight bits": lambda x: np.round((x + 5) * 25),
    "near each other": lambda x: 0.5 + 1e-4 * x,
    "all equal": np.zeros_like,
    "two zeros": lambda x: np.where(x > 0, 0.0, -0.0),
    "beyond half of the range": lambda x: np.sign(x) * (2.5e38 + np.abs(x) * 1e37),
    "tiny": lambda x: x * 1e-41,
}


def sorted_tally(values, truth):
    """What `tally` counts, by comparing everything with everything."""
    scores, anomalous = np.unique(values[truth], return_counts=True)
    normal = np.sort(values[~truth])
    above = normal.size - np.searchsorted(normal, scores, side="right")
    equal = normal.size - np.searchsorted(normal, scores, side="left") - above
    return anomalous[::-1], above[::-1], equal[::-1]


@pytest.mark.parametrize("share", [0.5, 0.01])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f4", np.longdouble])
@pytest.mark.parametrize("spread", SPREADS)
def test_counts_are_those_of_sorting(spread, dtype, share, monkeypatch):
    monkeypatch.setattr(_streams, "CHUNK", 1000)
    rng = np.random.default_rng(0)
    made = rng.normal(size=(4, 40, 40))
    truth = rng.random(made.shape) < share
    values = SPREADS[spread](made + truth).astype(dtype)
    found = tally(values, truth)
    anomalous, above, equal = sorted_tally(values, truth)
    assert np.array_equal(found.anomalous, anomalous)
    assert np.array_equal(found.above, above) and np.array_equal(found.equal, equal)
    assert found.num_normal == (~truth).sum() and found.num_anomalous == truth.sum()
    assert np.array_equal(np.unique(values[truth])[::-1][found.first], values[truth] + 0)


@pytest.mark.parametrize("spread", ["even", "heavy upper tail", "heavy lower tail", "near each other"])
def test_few_normal_pixels_are_looked_at_twice_however_they_are_spread(spread):
    rng = np.random.default_rng(0)
    made = rng.normal(size=(4, 100, 100)).astype(np.float32)
    truth = rng.random(made.shape) < 0.03
    values = SPREADS[spread](made).astype(np.float32)
    grid = _streams._Grid(np.unique(values[truth]))
    shared = grid.occupied[grid.bins(values[~truth])].mean()
    assert shared < 0.25, f"{shared:.0%} of the pixels share a bin with an anomalous one"
