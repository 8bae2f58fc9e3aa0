"""Split-conformal thresholds: of new normal images, no more than a chosen share is expected above.

All that is asked for is that new normal images are drawn as those of the calibration were: several pictures of one part
count as less than several parts. Nothing is promised of attacked images, or of other lamps and cameras.

Source: Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005; the distribution of what one threshold
lets through: Vovk, "Conditional validity of inductive conformal predictors", 2012.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from robustad.types import Calibration

METHOD = "conformal"
"""`Calibration.method` of these thresholds."""
_ROUNDING = 1e-9  # 0.07 times 100 is a little more than 7


def images_needed(max_false_alarm_rate: float) -> int:
    """The least number of normal images that allow this rate, in (0, 1): 99 for one in a hundred."""
    _check_rate(max_false_alarm_rate)
    return math.ceil(1 / max_false_alarm_rate - _ROUNDING) - 1


def conformal_calibration(scores: Any, max_false_alarm_rate: float) -> Calibration:
    """The lowest threshold that new normal images are above at no more than this rate, in expectation.

    The expectation is over the images of the calibration as well; what one set of them may let through by bad luck is
    `false_alarm_bound`.

    Args:
        scores: Scores of normal images that were not trained on, any shape, finite, higher = more anomalous.
        max_false_alarm_rate: In (0, 1).

    Raises:
        ValueError: If the images are too few for the rate, a score is not finite, or the rate is out of range.
    """
    _check_rate(max_false_alarm_rate)
    values = np.sort(np.asarray(scores, dtype=np.float64).ravel())
    if not np.isfinite(values).all():
        raise ValueError("`scores` must be finite")
    allowed, needed = _above(values.size, max_false_alarm_rate), images_needed(max_false_alarm_rate)
    if values.size < needed:
        least = f"; {values.size} allow a rate of 1/{values.size + 1} at best" if values.size else ""
        raise ValueError(
            f"a rate of {max_false_alarm_rate:g} false alarms needs at least {needed:,} normal images that were not "
            f"trained on, got {values.size:,}{least}"
        )
    return Calibration(
        threshold=float(values[values.size - allowed]),
        max_false_alarm_rate=max_false_alarm_rate,
        num_images=values.size,
        method=METHOD,
    )


def false_alarm_bound(num_images: int, max_false_alarm_rate: float, *, confidence: float = 0.95) -> float:
    """The rate that a threshold from so many images does not exceed, with this confidence.

    It is that of continuous scores; ties only lower it.

    Args:
        num_images: Normal images of the calibration.
        max_false_alarm_rate: What it was made for, in (0, 1).
        confidence: In (0, 1).

    Raises:
        ValueError: If the images are too few for the rate, or a number is out of range.
    """
    from scipy.stats import beta

    _check_rate(max_false_alarm_rate)
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` must lie between 0 and 1, got {confidence:g}")
    allowed = _above(num_images, max_false_alarm_rate)
    if allowed < 1:
        raise ValueError(f"{num_images} images are too few for a rate of {max_false_alarm_rate:g}")
    return float(beta.ppf(confidence, allowed, num_images + 1 - allowed))


def _above(count: int, rate: float) -> int:
    """How many of the scores lie at the threshold or above: ``rate`` of them and one unknown more, rounded down."""
    return math.floor((count + 1) * rate + _ROUNDING)


def _check_rate(rate: float) -> None:
    if not 0 < rate < 1:
        raise ValueError(f"`max_false_alarm_rate` must lie between 0 and 1, got {rate:g}")
