"""Exponential average of the weights: the detector that is kept."""

from __future__ import annotations

import copy

import torch
from torch import nn


class WeightAverage:
    """A copy of a module whose weights follow the trained ones slowly.

    Early on the average follows faster, so that the random start is soon forgotten.

    Args:
        module: The module that is trained.
        decay: Share of the average that stays at each step, in [0, 1); 0 = the average is the module itself.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.module = copy.deepcopy(module).eval().requires_grad_(False) if decay else module

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move towards ``module`` after 0-based ``step``."""
        if not self.decay:
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        for mean, weight in zip(self.module.parameters(), module.parameters(), strict=True):
            mean.lerp_(weight.detach(), 1 - decay)
        for kept, buffer in zip(self.module.buffers(), module.buffers(), strict=True):
            kept.copy_(buffer)
