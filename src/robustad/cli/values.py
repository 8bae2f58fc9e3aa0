"""Numbers as people write them: ``8/255``, ``5m``."""

from __future__ import annotations

import math
import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import Any

from robustad._checks import check_epsilon

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")


def fraction(text: str) -> float:
    """``8/255`` or ``0.03`` as a number."""
    numerator, slash, denominator = str(text).partition("/")
    try:
        return float(numerator) / float(denominator) if slash else float(numerator)
    except (ValueError, ZeroDivisionError):
        raise ArgumentTypeError(f"expected a number such as 8/255 or 0.03, got {text!r}") from None


def radius(text: str) -> float:
    """A radius in pixel units of [0, 1], written as `fraction`; how large it may be depends on the norm."""
    value = fraction(text)
    if not 0 <= value < math.inf:
        raise ArgumentTypeError(f"epsilon must not be negative and not infinite, got {text}")
    return value


def epsilon(text: str) -> float:
    """A `radius` per pixel."""
    try:
        return check_epsilon(radius(text))
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def duration(text: str) -> float:
    """``300``, ``90s``, ``5m``, ``1h30m`` as seconds."""
    found = _DURATION.fullmatch(str(text).strip().lower())
    parts = [] if found is None else [part for part in found.groups() if part is not None]
    if found is None or not parts:
        raise ArgumentTypeError(f"expected a time such as 300, 90s, 5m or 1h30m, got {text!r}")
    seconds = sum(float(part) * unit for part, unit in zip(found.groups(default="0"), _UNITS.values(), strict=True))
    if seconds <= 0:
        raise ArgumentTypeError(f"expected a time above zero, got {text!r}")
    return seconds


BY_NAME: dict[str, Callable[[str], float]] = {
    "epsilon": epsilon,
    "epsilons": radius,
    "universal": radius,
    "max_time": duration,
}
"""How options of these names are read, on the command line and in YAML files alike."""
MANY = ("epsilons", "universal")
"""Those of them that take several values."""


def read_by_name(values: Any, name: str = "") -> Any:
    """Plain values from YAML with every text under a name of `BY_NAME` as its number, at any depth."""
    if isinstance(values, dict):
        return {key: read_by_name(value, str(key)) for key, value in values.items()}
    if isinstance(values, list):
        return [read_by_name(value, name) for value in values]
    return BY_NAME[name](values) if isinstance(values, str) and name in BY_NAME else values
