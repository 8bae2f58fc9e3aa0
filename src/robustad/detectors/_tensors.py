"""What every state dict must pass before a detector takes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from robustad.errors import CheckpointError


def check_finite(tensors: Mapping[str, Tensor], source: str | Path) -> None:
    """Raise a `CheckpointError` that names the first tensor with a NaN or an infinite value."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not _is_finite(tensor):
            raise CheckpointError(
                f"{source}: tensor {name!r} holds NaN or infinite values; the file is damaged or its training diverged"
            )


def _is_finite(tensor: Tensor) -> bool:
    """Both extremes tell, and are found without a copy: NaN is one wherever it occurs."""
    return not tensor.numel() or all(bool(extreme.isfinite()) for extreme in tensor.aminmax())
