"""Argument checks that several packages need; each message gives the name, the rule, the value and a hint."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_MAX_LISTED = 60  # names; a longer list is no help


def check_choice(name: str, value: str, known: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``known``; otherwise a ValueError lists them and guesses what was meant."""
    options = sorted(known)
    if value in options:
        return value
    close = difflib.get_close_matches(value, options, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    if len(options) > _MAX_LISTED:
        near = difflib.get_close_matches(value, options, n=3)
        hint = f"; near to it: {', '.join(near)}" if near else ""
        raise ValueError(f"`{name}`: there is no {value!r} among {len(options)} names{hint}")
    raise ValueError(f"`{name}` must be one of {', '.join(options)}; got {value!r}{hint}")


def check_epsilon(epsilon: float, *, norm: str = "linf", name: str = "epsilon") -> float:
    """Return ``epsilon`` if it is a sensible radius in pixel units of [0, 1] (L2 radii may exceed 1)."""
    if not epsilon >= 0:
        raise ValueError(f"`{name}` must not be negative, got {epsilon}")
    if epsilon == math.inf:
        raise ValueError(f"`{name}` must be finite")
    if norm == "linf" and epsilon > 1:
        raise ValueError(
            f"`{name}` must be in [0, 1], got {epsilon:g}; for {epsilon:g} grey levels pass {epsilon:g}/255"
        )
    return epsilon


def check_radii(epsilons: Sequence[float], *, norm: str = "linf", name: str = "epsilons") -> tuple[float, ...]:
    """Return radii above 0, ascending; 0 may stand among them, since clean images are scored anyway."""
    single = "epsilon" if name == "epsilons" else name
    radii = sorted(check_epsilon(epsilon, norm=norm, name=single) for epsilon in epsilons)
    for smaller, larger in pairwise(radii):
        if larger - smaller < 1e-9:
            raise ValueError(f"`{name}` holds {larger:g} twice; give each radius once")
    return tuple(radius for radius in radii if radius > 0)


def check_at_least(name: str, value: float, minimum: float) -> None:
    """Raise a ValueError unless ``value >= minimum``."""
    if not value >= minimum:
        raise ValueError(f"`{name}` must be at least {minimum:g}, got {value:g}")


def check_fraction(name: str, value: float) -> None:
    """Raise a ValueError unless ``value`` lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"`{name}` must be in [0, 1], got {value:g}")


def check_images(images: Tensor) -> Tensor:
    """Return ``images`` if it is a float batch ``(N, 3, H, W)``."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(f"`images` must be a float tensor (N, 3, H, W), got {images.dtype} {tuple(images.shape)}")
    return images
