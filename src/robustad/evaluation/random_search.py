"""A small black-box attack: squares of extreme colour at random places, kept where they help. Uses no gradient.

Good enough to catch gradients that lie; the full Square attack belongs to `robustad.attacks`.
Source: the idea of Andriushchenko et al., "Square Attack", ECCV 2020. Differs: fewer queries, fixed shrinking schedule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robustad._checks import check_at_least, check_epsilon
from robustad._random import torch_generator


@dataclass(frozen=True, kw_only=True)
class RandomSearch:
    """Maximises a value per image in an L-inf ball by asking for values only.

    Attributes:
        queries: Times that each image is scored.
        first_share: Share of the image that the first squares cover, in (0, 1].
        seed: Same seed, same result.
    """

    queries: int = 200
    first_share: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        check_at_least("queries", self.queries, 2)

    def __call__(self, value: Callable[[Tensor], Tensor], images: Tensor, *, epsilon: float) -> tuple[Tensor, Tensor]:
        """The best images found and their values.

        Args:
            value: Images ``(N, 3, S, S)`` to values ``(N,)``, to be maximised.
            images: Clean images in [0, 1].
            epsilon: Radius in pixel units of [0, 1].
        """
        check_epsilon(epsilon)
        generator = torch_generator(self.seed, "random-search")
        with torch.no_grad():
            best, values = images.clone(), value(images)
            stripes = _signs((len(images), 3, 1, images.shape[3]), generator).to(images)
            best, values = _keep(value, best, values, (images + epsilon * stripes).clamp(0, 1))
            for query in range(2, self.queries):
                share = self.first_share * 0.5 ** (6 * query / self.queries)
                trial = best.clone()
                for number in range(len(images)):
                    rows, columns = _square(images.shape[-1], share, generator)
                    colour = _signs((3, 1, 1), generator).to(images)
                    part = (number, slice(None), rows, columns)
                    trial[part] = (images[part] + epsilon * colour).clamp(0, 1)
                best, values = _keep(value, best, values, trial)
        return best, values


def _keep(value: Callable[[Tensor], Tensor], best: Tensor, values: Tensor, trial: Tensor) -> tuple[Tensor, Tensor]:
    found = value(trial)
    better = found > values
    return torch.where(better[:, None, None, None], trial, best), torch.where(better, found, values)


def _signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, shape, generator=generator).float() * 2 - 1


def _square(size: int, share: float, generator: torch.Generator) -> tuple[slice, slice]:
    side = max(1, round(size * share**0.5))
    row, column = torch.randint(0, size - side + 1, (2,), generator=generator).tolist()
    return slice(row, row + side), slice(column, column + side)
