"""Everything a run needs to go on exactly where it was killed: one file, written atomically."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustad.errors import CheckpointError
from robustad.files import atomic_path

STATE_FILE = "resume.pt"
IMAGES = "training images"
"""Key of the config that names what is trained on."""
COLLAPSE = 0.05
"""Fall of an early look's AUROC from the best one that chance does not explain, where the look does not say."""


@dataclass
class TrainingState:
    """Where a run stands.

    Attributes:
        step: Steps done.
        total: Steps of the whole run; None while a wall-clock budget is still being measured.
        config: The resolved config; a resumed run must have the same.
        last_look: Figure of the last early look.
        best_look: Figure of the best early look so far, and the weights it was of.
        best_weights: Those weights.
        best_step: Step of that look.
        looks: How many early looks the whole run has; None = as many as the config says.
    """

    config: dict[str, Any]
    step: int = 0
    total: int | None = None
    last_look: float | None = None
    best_look: float | None = None
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    best_step: int = 0
    looks: int | None = None

    def collapsed(self, tolerance: float = COLLAPSE) -> bool:
        """Whether the last look is so far below the best one that training has overfitted its own attack."""
        last, best = self.last_look, self.best_look
        return last is not None and best is not None and last < best - tolerance

    def save(self, folder: Path, **tensors: Any) -> None:
        """Write this and the given state dicts to ``folder``."""
        with atomic_path(folder / STATE_FILE) as temporary:
            torch.save({"state": vars(self), **tensors}, temporary)

    @classmethod
    def load(cls, folder: Path, config: dict[str, Any]) -> tuple[TrainingState, dict[str, Any]]:
        """The state and the state dicts that were saved with it.

        Raises:
            CheckpointError: If there is none, it is unreadable, or it belongs to another config.
        """
        path = folder / STATE_FILE
        if not path.is_file():
            raise CheckpointError(f"{folder} has no {STATE_FILE} to resume from: its run has ended, or never saved")
        try:
            stored = torch.load(path, map_location="cpu", weights_only=True)
            state = cls(**stored.pop("state"))
        except Exception as error:
            raise CheckpointError(f"cannot resume from {path}: {str(error).splitlines()[0]}") from error
        state.config.setdefault(IMAGES, config.get(IMAGES))  # a run of an earlier version did not say
        if state.config != config:
            keys = sorted(k for k in {*config, *state.config} if config.get(k) != state.config.get(k))
            raise CheckpointError(f"{path} belongs to a run with other options: {', '.join(keys)} differ")
        return state, stored
