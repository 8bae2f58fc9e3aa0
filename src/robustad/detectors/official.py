"""Released weights of either method: the file's own tensors say whose they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from robustad.backbones import read_tensors
from robustad.detectors._tensors import check_finite
from robustad.detectors.base import AnomalyDetector
from robustad.detectors.official_cobra import cobra_of
from robustad.detectors.official_patchguard import patchguard_of
from robustad.errors import CheckpointError

_PARALLEL = "module."  # what torch's DataParallel puts before every name


class Released(NamedTuple):
    """A row of the table of released state dicts.

    Attributes:
        title: Name of the method.
        marks: A state dict with a tensor whose name begins so belongs to the method.
        build: Makes the detector from the tensors, the file's name for messages, and the image size asked for.
    """

    title: str
    marks: tuple[str, ...]
    build: Callable[[dict[str, Tensor], str, int | None], AnomalyDetector]


OFFICIAL = (
    Released("PatchGuard", ("feature_extractor.pretrained_model.", "discriminator."), patchguard_of),
    Released("COBRA", ("simclr_layer.", "shift_cls_layer."), cobra_of),
)


def released_as(tensors: dict[str, Tensor], source: str) -> Released:
    """The row of the method that a state dict belongs to.

    Raises:
        CheckpointError: If it belongs to none.
    """
    for row in OFFICIAL:
        if any(key.startswith(row.marks) for key in tensors):
            return row
    known = " or ".join(f"{row.title} ({', '.join(f'{mark}*' for mark in row.marks)})" for row in OFFICIAL)
    found = ", ".join(sorted(tensors)[:3]) or "none"
    raise CheckpointError(f"{source} is no released state dict of {known}; its tensors: {found[:200]}")


def load_official(path: str | Path, *, image_size: int | None = None) -> AnomalyDetector:
    """A released ``.pth`` (or a state dict of the same keys) as a detector with equal outputs.

    The architecture is read from the tensors.

    Args:
        path: File of the released code.
        image_size: Input side, pixels; by default as the tensors say.

    Raises:
        CheckpointError: If the file holds anything else, or does not fit the released architecture.
    """
    tensors = read_tensors(Path(path))
    if tensors and all(key.startswith(_PARALLEL) for key in tensors):
        tensors = {key.removeprefix(_PARALLEL): tensor for key, tensor in tensors.items()}
    row = released_as(tensors, str(path))
    check_finite(tensors, path)
    return row.build(tensors, str(path), image_size)
