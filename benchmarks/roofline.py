"""What this machine allows: the measured speed of large matrix products on one thread, and operations counted.

A share of peak is the matrix operations of a piece of work, by its CPU seconds, by the measured peak of the same dtype.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from robustad._precision import bfloat16_pays
from robustad.evaluation import BenchmarkRow

_SIDES, _ROUNDS = (1024, 2048), 7
_ATEN = torch.ops.aten
_CPU_ATTENTION = {  # fused attention of a CPU, which PyTorch's own table leaves out: functions of shapes
    _ATEN._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(grad, q, k, v)
    ),
}


def measure(*, quick: bool) -> list[BenchmarkRow]:
    """The peaks in float32 and bfloat16, one thread; quick or not, it takes seconds."""
    single, half = peak(torch.float32), peak(torch.bfloat16)
    claim = "gemm peak of this machine, one thread: float32 against bfloat16"
    ratio = round(half / single, 3)
    return [BenchmarkRow(claim=claim, baseline=round(single, 1), ours=round(half, 1), unit="GFLOP/s", ratio=ratio)]


def automatic() -> torch.dtype:
    """The dtype that training with ``precision: auto`` multiplies in on this machine."""
    return torch.bfloat16 if bfloat16_pays() else torch.float32


@cache
def peak(dtype: torch.dtype) -> float:
    """The fastest of several products of large square matrices, GFLOP per CPU second."""
    return max(_product_speed(side, dtype) for side in _SIDES)


def operations(call: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products, convolutions and attention in one call."""
    with FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter:
        call()
    return int(counter.get_total_flops())


def share_of_peak(count: int, seconds: float, dtype: torch.dtype) -> float:
    """The share of the machine's peak that ``count`` operations in so many CPU seconds reach."""
    return round(count / seconds / peak(dtype) / 1e9, 3)


def _product_speed(side: int, dtype: torch.dtype) -> float:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(side, side, generator=generator).to(dtype) for _ in range(2))
    torch.mm(first, second)
    seconds = []
    for _ in range(_ROUNDS):
        start = time.process_time()
        torch.mm(first, second)
        seconds.append(time.process_time() - start)
    return 2 * side**3 / min(seconds) / 1e9
