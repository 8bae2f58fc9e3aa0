"""Momentum PGD: directions are remembered, so that small hills on the way do not hold the ascent up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustad._checks import check_at_least
from robustad.attacks.pgd import PGD


@dataclass(frozen=True, kw_only=True)
class MomentumPGD(PGD):
    """PGD along a decaying sum of gradients, each divided by its mean size.

    Attributes:
        decay: What is left of the sum after each step, at least 0.

    Source: Dong et al., CVPR 2018. Deviates: the step reaches beyond epsilon in sum, as PGD's does.
    """

    name: ClassVar[str] = "momentum-pgd"
    decay: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("decay", self.decay, 0)

    def next_way(self, way: Tensor, gradient: Tensor) -> Tensor:
        """See `PGD.next_way`."""
        size = gradient.abs().mean(dim=(1, 2, 3), keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny)
        return self.decay * way + gradient / size
