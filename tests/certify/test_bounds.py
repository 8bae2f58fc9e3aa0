"""Certificates are sound, and not vacuous: closed form on linear scores, binomial facts, rankings."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from robustad.certify import Certificate, bounds, certified_auroc, order_statistics, shifted_quantiles
from robustad.certify.bounds import linf_as_l2
from robustad.metrics import auroc

RADII = (0.0, 0.25, 0.5)


def test_the_median_shifted_by_nothing_is_the_median():
    assert shifted_quantiles(0.0, 0.3) == (0.5, 0.5)
    below, above = shifted_quantiles(0.3, 0.3)
    assert (below, above) == pytest.approx((norm.cdf(-1), norm.cdf(1)))


@pytest.mark.parametrize("level", [0.02, 0.16, 0.5, 0.84, 0.98])
@pytest.mark.parametrize("samples", [50, 1000])
def test_order_statistics_miss_the_quantile_as_rarely_as_promised(level, samples):
    """Counted in 4,000 samples of a uniform distribution, whose quantile is the level itself."""
    error = 0.05
    ranks = order_statistics(level, samples, error)
    drawn = np.sort(np.random.default_rng(0).uniform(size=(4000, samples)), axis=1)
    if ranks.low is not None:
        missed = (drawn[:, ranks.low] > level).mean()
        assert missed <= error + 0.012
        assert (drawn[:, ranks.low + 1] > level).mean() > error - 0.012, "the next one would promise too much"
    if ranks.high is not None:
        assert (drawn[:, ranks.high] < level).mean() <= error + 0.012
        assert (drawn[:, ranks.high - 1] < level).mean() > error - 0.012


def test_too_few_samples_say_nothing():
    assert order_statistics(0.001, 50, 0.01).low is None
    assert order_statistics(0.999, 50, 0.01).high is None
    assert order_statistics(0.0, 50, 0.01) == order_statistics(1.0, 50, 0.01) == (None, None)
    certificate = Certificate.of_samples(np.zeros((2, 10)), sigma=0.1, radii=(0.5,))
    assert np.isneginf(certificate.low).all() and np.isposinf(certificate.high).all()


def linear(samples, sigma=0.25, slope=3.0, count=6, seed=0):
    """Noisy scores of a linear detector with gradient length ``slope``; the scores themselves are 0, 1, 2, ..."""
    noise = np.random.default_rng(seed).standard_normal((count, samples))
    return np.arange(count)[:, None] + sigma * slope * noise


@pytest.mark.parametrize("seed", range(5))
def test_on_a_linear_score_the_interval_contains_the_closed_form(seed):
    certificate = Certificate.of_samples(linear(2000, seed=seed), sigma=0.25, radii=RADII, confidence=0.99)
    for row, radius in enumerate(RADII):
        assert (certificate.low[row] <= np.arange(6) - 3 * radius).all()
        assert (certificate.high[row] >= np.arange(6) + 3 * radius).all()


def test_on_a_linear_score_the_interval_approaches_the_closed_form():
    slack = []
    for samples in (1000, 10_000, 100_000):
        certificate = Certificate.of_samples(linear(samples), sigma=0.25, radii=RADII, confidence=0.99)
        exact = 3 * np.array(RADII)[:, None]
        slack.append(float((certificate.high - np.arange(6) - exact).max()))
    assert slack[0] > slack[1] > slack[2] > 0 and slack[2] < 0.05


def test_the_error_is_shared_out_over_images_and_radii():
    """More images, wider intervals: they have to hold together."""
    few = Certificate.of_samples(linear(500, count=1), sigma=0.25, radii=(0.25,))
    rows = np.repeat(linear(500, count=1), 200, axis=0)
    many = Certificate.of_samples(rows, sigma=0.25, radii=(0.25,))
    assert (many.low < few.low[0]).all() and (many.high > few.high[0]).all()


def test_the_promised_confidence_is_shared_out_exactly(monkeypatch):
    """Every end of every interval may be wrong: two for each image and radius."""
    asked = []

    def spy(level, samples, error):
        asked.append(error)
        return order_statistics(level, samples, error)

    monkeypatch.setattr(bounds, "order_statistics", spy)
    Certificate.of_samples(linear(500, count=6), sigma=0.25, radii=RADII, confidence=0.95)
    assert asked == pytest.approx([0.05 / (2 * 6 * 3)] * len(asked)) and len(asked) == 6


def test_decisions_abstain_where_the_threshold_lies_inside():
    certificate = Certificate.of_samples(linear(2000), sigma=0.25, radii=RADII)
    assert certificate.decisions(2.5, 0.25).tolist() == [0, 0, -1, -1, 1, 1]
    assert (certificate.decisions(2.5, 0.0) >= certificate.decisions(2.5, 0.5)).all()


def test_certified_auroc_falls_with_the_radius_and_is_a_lower_bound():
    scores = linear(2000)
    labels = np.array([False, False, False, True, True, True])
    certificate = Certificate.of_samples(scores, sigma=0.25, radii=(0.0, 0.2, 0.5, 3.0))
    curve = certified_auroc(certificate, labels)
    assert list(curve) == [0.0, 0.2, 0.5, 3.0]
    assert curve[0.0] == auroc(certificate.medians, labels) == 1
    values = list(curve.values())
    assert values == sorted(values, reverse=True) and values[-1] == 0, "beyond all samples, every pair is lost"
    # the true worst case of a linear score: normals up, anomalies down by slope x radius
    for radius, value in curve.items():
        worst = np.arange(6) + 3 * radius * np.where(labels, -1, 1)
        assert value <= auroc(worst, labels) + 1e-12


def test_two_intervals_without_an_end_are_a_lost_pair():
    certificate = Certificate.of_samples(np.zeros((2, 5)), sigma=0.1, radii=(0.5,))
    assert certified_auroc(certificate, np.array([False, True])) == {0.5: 0.0}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"scores": np.zeros((0, 3))}, "images x samples"),
        ({"scores": np.full((1, 3), np.nan)}, "holds NaN"),
        ({"sigma": 0}, "`sigma` must be above 0"),
        ({"confidence": 1}, r"`confidence` must be in \(0, 1\)"),
        ({"radii": ()}, "`radii` must be at least 0"),
        ({"radii": (-1,)}, "`radii` must be at least 0"),
    ],
)
def test_wrong_numbers(options, text):
    values = {"scores": np.zeros((1, 3)), "sigma": 0.1, "radii": (0.1,), **options}
    with pytest.raises(ValueError, match=text):
        Certificate.of_samples(values.pop("scores"), **values)


def test_what_an_l2_radius_does_not_cover():
    assert linf_as_l2(2 / 255, 3 * 128 * 128) == pytest.approx(1.739, abs=1e-3)
