"""Weights to start from that `robustad pretrain` made: one file for backbone and discriminator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from robustad.files import atomic_path

BACKBONE, DISCRIMINATOR = "features.vit.", "discriminator."
_MADE_BY = "robustad pretrain"


def save_start(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors, by their names in a detector, and how they were made."""
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(kept, str(temporary), metadata={"format": "pt", "made_by": _MADE_BY, "facts": json.dumps(facts)})


def start_facts(weights: str | Path) -> dict[str, Any] | None:
    """How a file of `save_start` was made; None for any other file, and for words such as ``none`` or ``hub``."""
    path = Path(weights)
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError:  # who reads its tensors says so, better
        return None
    if metadata.get("made_by") != _MADE_BY:
        return None
    facts: dict[str, Any] = json.loads(metadata.get("facts", "{}"))
    return facts


def part_of(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
