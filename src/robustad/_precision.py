"""Passes in bfloat16: whether the hardware has it, and how a network is run in it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

PRECISIONS = ("auto", "float32", "bfloat16")


def has_bfloat16() -> bool:
    """Whether this machine multiplies bfloat16 matrices in hardware."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)


def is_bfloat16(precision: str) -> bool:
    """What one of `PRECISIONS` means on this machine."""
    return precision == "bfloat16" or (precision == "auto" and has_bfloat16())


def autocast_bfloat16(device: torch.device) -> AbstractContextManager[Any]:
    """A block in which matrices are multiplied in bfloat16, for forward passes only.

    Gradients are taken outside: inside, what a module computes in float32 on purpose would be rounded on its way back.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16)
