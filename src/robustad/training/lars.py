"""LARS, as COBRA's released recipe uses it: SGD whose step is scaled by each tensor's own norm."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

_EPS = 1e-8


class LARS(torch.optim.SGD):
    """SGD with momentum on gradients scaled by ``trust * |p| / (|g| + weight_decay * |p|)``.

    Every parameter is scaled, biases and normalisations too; where a norm is 0 the factor is 1.

    Args:
        parameters: What is trained.
        lr: Learning rate.
        momentum: Of SGD.
        weight_decay: Added to the gradient before it is scaled.
        trust: Factor of the layer-wise rate.

    Source: You et al. 2017, with the constants of COBRA's released recipe.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        *,
        lr: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 1e-6,
        trust: float = 1e-3,
    ) -> None:
        super().__init__(parameters, lr=lr, momentum=momentum)
        self.trust, self.decay = trust, weight_decay

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                size, slope = parameter.norm(), parameter.grad.norm()
                factor = self.trust * size / (slope + self.decay * size + _EPS)
                factor = torch.where((size > 0) & (slope > 0), factor, torch.ones_like(factor))
                parameter.grad.add_(parameter, alpha=self.decay).mul_(factor)
        result: float | None = super().step(closure)
        return result
