"""Passes in bfloat16: whether they pay, and how a network is run in it."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import torch

PRECISIONS = ("auto", "float32", "bfloat16")
_SIDE, _ROUNDS = 512, 6
_PAYS = 1.2  # times faster: less than that is lost to rounding back and forth


def bfloat16_pays(device: torch.device | None = None) -> bool:
    """Whether matrices are multiplied faster in bfloat16 than in float32 on a device; None = where networks train.

    On a CPU that has it, it is measured: some take twice as long in it (Intel's without AMX, as virtual ones are).
    """
    kind = _training_device() if device is None else device.type
    if kind == "cuda":
        return torch.cuda.is_available() and bool(torch.cuda.is_bf16_supported(including_emulation=False))
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return kind == "cpu" and any(getattr(torch.cpu, name, bool)() for name in names) and _is_faster_on_the_cpu()


def _training_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


@cache
def _is_faster_on_the_cpu() -> bool:
    """By some products of two matrices in both types, in turn; some hundredths of a second."""
    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    matrix = torch.linspace(0, 1, _SIDE * _SIDE).view(_SIDE, _SIDE)
    with torch.no_grad():
        for _ in range(_ROUNDS):
            for dtype, taken in seconds.items():
                typed = matrix.to(dtype)
                began = time.process_time()
                torch.mm(typed, typed)
                taken.append(time.process_time() - began)
    single, half = (min(taken) for taken in seconds.values())
    return single > _PAYS * half


def is_bfloat16(precision: str, device: torch.device | None = None) -> bool:
    """What one of `PRECISIONS` means on a device; None = where networks train."""
    return precision == "bfloat16" or (precision == "auto" and bfloat16_pays(device))


def autocast_bfloat16(device: torch.device) -> AbstractContextManager[Any]:
    """A block in which matrices are multiplied in bfloat16, for forward passes only.

    Gradients are taken outside: inside, what a module computes in float32 on purpose would be rounded on its way back.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16)
