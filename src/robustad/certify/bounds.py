"""Intervals that a median of noisy scores cannot leave, and what they mean for a ranking.

The median over Gaussian noise of any score moves, under a perturbation of L2 length r, no further than to the quantile
that a shift by r / sigma makes of the median. Quantiles of the noisy scores are not known but sampled; their order
statistics bound them with a chosen confidence.

Source: Chiang et al., "Detection as Regression: Certified Object Detection by Median Smoothing", NeurIPS 2020.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, norm

from robustad._checks import check_at_least
from robustad.metrics import auroc

Floats = NDArray[np.float64]


class Ranks(NamedTuple):
    """Which order statistics of sorted samples bound a quantile, counted from 0; None = the sample is too small.

    Attributes:
        low: At most the quantile, with the wanted confidence.
        high: At least the quantile, with the wanted confidence.
    """

    low: int | None
    high: int | None


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What is certain about the smoothed scores of some images.

    Attributes:
        sigma: Standard deviation of the noise, pixel units of [0, 1].
        radii: L2 radii, pixel units of [0, 1].
        medians: Smoothed scores ``(N,)``: sample medians.
        low: ``(R, N)``: the smoothed score of no perturbed image is lower; ``-inf`` = nothing can be said.
        high: ``(R, N)``: nor higher than this; ``inf`` = nothing can be said.
        confidence: With this probability all intervals of all images and radii hold together.
        samples: Noisy copies per image.
    """

    sigma: float
    radii: tuple[float, ...]
    medians: Floats
    low: Floats
    high: Floats
    confidence: float
    samples: int

    @classmethod
    def of_samples(
        cls, scores: Floats, *, sigma: float, radii: Sequence[float], confidence: float = 0.99
    ) -> Certificate:
        """Intervals from noisy scores.

        Args:
            scores: ``(N, n)``: scores of n noisy copies of each image.
            sigma: Standard deviation of the noise.
            radii: L2 radii, at least 0.
            confidence: Wanted for all intervals together; the allowed error is shared out evenly (Bonferroni).

        Raises:
            ValueError: If there is no score, one is NaN, or a number makes no sense.
        """
        scores = np.asarray(scores, dtype=np.float64)
        if scores.ndim != 2 or 0 in scores.shape:
            raise ValueError(f"`scores` must be images x samples, got the shape {scores.shape}")
        if np.isnan(scores).any():
            raise ValueError("`scores` holds NaN: the detector gives no number for a noisy image")
        if not sigma > 0:
            raise ValueError(f"`sigma` must be above 0, got {sigma}")
        if not 0 < confidence < 1:
            raise ValueError(f"`confidence` must be in (0, 1), got {confidence}")
        if not radii or min(radii) < 0:
            raise ValueError(f"`radii` must be at least 0, got {list(radii)}")
        count, samples = scores.shape
        error = (1 - confidence) / (2 * count * len(radii))
        rows = np.sort(scores, axis=1)
        low, high = np.full((len(radii), count), -np.inf), np.full((len(radii), count), np.inf)
        for number, radius in enumerate(radii):
            below, above = shifted_quantiles(radius, sigma)
            lowest, highest = order_statistics(below, samples, error).low, order_statistics(above, samples, error).high
            if lowest is not None:
                low[number] = rows[:, lowest]
            if highest is not None:
                high[number] = rows[:, highest]
        medians = np.median(rows, axis=1)
        radii = tuple(float(radius) for radius in radii)
        return cls(
            sigma=sigma, radii=radii, medians=medians, low=low, high=high, confidence=confidence, samples=samples
        )

    def decisions(self, threshold: float, radius: float) -> NDArray[np.int8]:
        """Per image: 1 = anomalous whatever happens within the radius, 0 = normal whatever happens, -1 = abstains.

        Args:
            threshold: Scores above it are anomalous.
            radius: One of `radii`.
        """
        row = self.radii.index(radius)
        decided = np.full(len(self.medians), -1, dtype=np.int8)
        decided[self.low[row] > threshold] = 1
        decided[self.high[row] <= threshold] = 0
        return decided


def shifted_quantiles(radius: float, sigma: float) -> tuple[float, float]:
    """Levels in [0, 1] of the quantiles that the median of a shifted distribution lies between."""
    shift = radius / sigma
    return float(norm.cdf(-shift)), float(norm.cdf(shift))


def order_statistics(level: float, samples: int, error: float) -> Ranks:
    """Order statistics that bound a quantile from below and from above, each wrong with at most some probability.

    Args:
        level: Level of the quantile, in [0, 1].
        samples: Number of independent samples.
        error: Largest probability that one of the two bounds is wrong.
    """
    check_at_least("samples", samples, 1)
    if level <= 0 or level >= 1:
        return Ranks(None, None)
    # Of the samples, Binomial(samples, level) many lie below the quantile. The k-th smallest (from 0) is above it if
    # these are at most k, and below it if they are at least k + 1.
    low = int(binom.ppf(error, samples, level)) - 1
    while low >= 0 and binom.cdf(low, samples, level) > error:
        low -= 1
    high = int(binom.isf(error, samples, level))
    while high < samples and binom.sf(high, samples, level) > error:
        high += 1
    return Ranks(low if low >= 0 else None, high if high < samples else None)


def certified_auroc(certificate: Certificate, labels: NDArray[np.bool_]) -> dict[float, float]:
    """For each radius an AUROC that no perturbation of the images falls below, with the certificate's confidence.

    Anomalous images count with the lower end of their interval, normal ones with the upper end; where nothing can be
    said, the pair counts as lost.

    Args:
        certificate: Of the images.
        labels: ``(N,)`` bool, True = anomalous; both kinds must be there.

    Raises:
        ValueError: If one kind is missing.
    """
    found = {}
    for row, radius in enumerate(certificate.radii):
        scores = np.where(labels, certificate.low[row], certificate.high[row])
        finite = scores[np.isfinite(scores)]
        edge = 1 + (float(np.abs(finite).max()) if len(finite) else 0.0)
        # an interval without an end loses against everything, also against another one
        scores = np.where(labels & ~np.isfinite(scores), -2 * edge, scores)
        scores = np.where(~labels & ~np.isfinite(scores), 2 * edge, scores)
        found[radius] = auroc(scores.astype(np.float64), labels)
    return found


def linf_as_l2(epsilon: float, pixels: int) -> float:
    """L2 length of the largest L-inf perturbation: a certificate for less says nothing about all of those.

    Args:
        epsilon: Radius in L-inf, pixel units of [0, 1].
        pixels: Values of an image, channels included.
    """
    return epsilon * math.sqrt(pixels)
