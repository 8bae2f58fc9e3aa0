"""From memory to the device that computes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """The same values on a device; a GPU reads them from pinned memory while the processor goes on."""
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def device_of(detector: Any) -> torch.device:
    """Where a detector's tensors lie."""
    if isinstance(detector, nn.Module):
        for tensor in (*detector.parameters(), *detector.buffers()):
            return tensor.device
    return torch.device("cpu")
