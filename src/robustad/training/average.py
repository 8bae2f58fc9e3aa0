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
        shared = {id(buffer): buffer for buffer in module.buffers()}  # what is not averaged need not be there twice
        self.module = copy.deepcopy(module, shared).eval().requires_grad_(False) if decay else module

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move towards ``module`` after 0-based ``step``."""
        if not self.decay:
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.module.parameters()), list(module.parameters()), 1 - decay)
        for kept, buffer in zip(self.module.buffers(), module.buffers(), strict=True):
            if kept.data_ptr() != buffer.data_ptr():  # moved to a device since, each for itself
                kept.copy_(buffer)
