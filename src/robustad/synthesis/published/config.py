"""Every published constant and every released defect of the generator, as one frozen record."""

from __future__ import annotations

from dataclasses import dataclass

from robustad._checks import check_at_least, check_fraction
from robustad.synthesis.published.bounds import DEFAULT_BOUNDS


@dataclass(frozen=True, kw_only=True)
class PublishedConfig:
    """Settings of `PublishedGenerator`; the defaults are the released behaviour, `fixed` switches every repair on.

    Attributes:
        lower: Smallest side of a pasted patch, pixels.
        upper: Largest side, pixels; the released code stores it and never reads it.
        use_upper: Draw sizes up to ``upper`` only (released: False, 39 % of the patches are larger).
        skip_small_sizes: Draw sizes from ``lower`` on (released: False, draws from 0 and throws small ones away).
        reseed_elastic: Take the elastic noise from ``elastic_seed`` on every call (released: True, one warp per patch
            shape); False draws it from the NumPy stream.
        elastic_seed: Seed of that noise, 0 to 2**32 - 1.
        perlin_offset: Start the Perlin noise at a random place (released: False, always the same crop).
        binarise_foreground: Foreground is what lies above 0.5 (released: False, only what is exactly 1).
        empty_foreground_is_full: An empty foreground means the whole image (released: False, a ValueError).
        checked_fallback: When no place is found, take a smallest box inside the image that covers as much foreground
            as possible (released: False, any corner on the foreground, unchecked).
        squeeze_rotation: Rotate with an enlarged canvas and squeeze that back into the box (released: True, which
            shrinks and shears); False rotates in place and cuts the corners.
        alpha_above: The mask is where opacity exceeds this, 0 to 254 (released: 0, blended rims belong to the mask).
        min_change: Redraw an anomaly whose mean absolute change inside the mask is below this, scale [0, 1]
            (released: 0, nearly invisible ones are kept).
        max_redraws: How often at most; then the strongest of the draws is taken.
        dilation: Growth of the foreground, pixels in each direction.
        max_failures: Rejected places before the fallback.
        size_draws: Draws of a size for each pair of corners.
    """

    lower: int = DEFAULT_BOUNDS[0]
    upper: int = DEFAULT_BOUNDS[1]
    use_upper: bool = False
    skip_small_sizes: bool = False
    reseed_elastic: bool = True
    elastic_seed: int = 0
    perlin_offset: bool = False
    binarise_foreground: bool = False
    empty_foreground_is_full: bool = False
    checked_fallback: bool = False
    squeeze_rotation: bool = True
    alpha_above: int = 0
    min_change: float = 0.0
    max_redraws: int = 4
    dilation: int = 10
    max_failures: int = 250
    size_draws: int = 11

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_at_least("lower", self.lower, 2)
        if self.upper < self.lower:
            raise ValueError(f"`upper` must not be below `lower`, got lower={self.lower} and upper={self.upper}")
        check_at_least("elastic_seed", self.elastic_seed, 0)
        check_fraction("min_change", self.min_change)
        for name in ("alpha_above", "max_redraws", "dilation", "max_failures"):
            check_at_least(name, getattr(self, name), 0)
        check_at_least("size_draws", self.size_draws, 1)

    @classmethod
    def fixed(
        cls, *, lower: int = DEFAULT_BOUNDS[0], upper: int = DEFAULT_BOUNDS[1], min_change: float = 0.04
    ) -> PublishedConfig:
        """The same recipe with every known defect repaired."""
        return cls(
            lower=lower,
            upper=upper,
            use_upper=True,
            skip_small_sizes=True,
            reseed_elastic=False,
            perlin_offset=True,
            binarise_foreground=True,
            empty_foreground_is_full=True,
            checked_fallback=True,
            squeeze_rotation=False,
            alpha_above=127,
            min_change=min_change,
        )
