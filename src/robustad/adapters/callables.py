"""Any function that scores images, as a detector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustad._checks import check_at_least
from robustad.types import Prediction

_LARGEST = torch.finfo(torch.float32).max


class CallableDetector(nn.Module):
    """A function behind the contract of a detector: its answers are checked, its gradients are used if it has some.

    Args:
        score: See `from_callable`.
        image_size: See `from_callable`.
        differentiable: See `from_callable`.
        has_maps: See `from_callable`.
        name: See `from_callable`.
        no_gradient: Why there is no gradient, where it is not differentiable.
    """

    def __init__(
        self,
        score: Callable[[Any], Any],
        image_size: int,
        *,
        differentiable: bool,
        has_maps: bool,
        name: str,
        no_gradient: str = "",
    ) -> None:
        super().__init__()
        check_at_least("image_size", image_size, 1)
        self.image_size = image_size
        self.score, self.differentiable, self.has_maps, self.name = score, differentiable, has_maps, name
        self.no_gradient = no_gradient

    def forward(self, images: Tensor) -> Prediction:
        """Scores ``(N,)`` and maps ``(N, S, S)`` or None of images ``(N, 3, S, S)`` in [0, 1]."""
        if self.differentiable:
            found = self.score(images)
        else:
            with torch.no_grad():
                found = self.score(images.detach())
        scores, maps = self._parts(found)
        scores = self._checked(scores, "scores", (len(images),), images)
        if not self.has_maps:
            return Prediction(scores, None)
        if maps is None:
            raise ValueError(f"detector {self.name!r} gave no anomaly maps, although `has_maps` says so")
        return Prediction(scores, self._checked(maps, "anomaly maps", (len(images), *images.shape[-2:]), images))

    def _parts(self, found: Any) -> tuple[Any, Any]:
        """Scores, and maps or None."""
        if isinstance(found, Tensor | np.ndarray):
            return found, None
        if isinstance(found, tuple | list) and len(found) == 2 and all(p is None or hasattr(p, "shape") for p in found):
            return found[0], found[1]
        what = f"{type(found).__name__} of {len(found)}" if hasattr(found, "__len__") else type(found).__name__
        raise ValueError(
            f"detector {self.name!r} must give scores (N,), or a pair of scores and maps, as tensors or arrays; got a "
            f"{what}: pick them out in the function that is wrapped"
        )

    def _checked(self, values: Any, what: str, shape: tuple[int, ...], images: Tensor) -> Tensor:
        tensor = torch.as_tensor(np.asarray(values) if not isinstance(values, Tensor) else values)
        tensor = tensor.to(images.device)
        if tensor.shape != shape and tensor.numel() == int(np.prod(shape)) and tensor.ndim in (1, 2, 4):
            tensor = tensor.reshape(shape)  # (N, 1) and (N, 1, S, S) are meant
        where = f"the {what} of detector {self.name!r}"
        if tensor.shape != shape:
            raise ValueError(f"{where} must have the shape {shape} for {len(images)} images, got {tuple(tensor.shape)}")
        if not tensor.is_floating_point():
            tensor = tensor.to(images.dtype)
        if not bool(tensor.detach().isfinite().all()) or bool((tensor.detach().abs() > _LARGEST).any()):
            number = int((~tensor.detach().isfinite() | (tensor.detach().abs() > _LARGEST)).sum())
            raise ValueError(
                f"{where} hold {number} values that are NaN, infinite or beyond float32; correct the detector"
            )
        return tensor


def from_callable(
    score: Callable[[Any], Any],
    *,
    image_size: int,
    differentiable: bool = True,
    has_maps: bool = False,
    name: str = "callable",
) -> CallableDetector:
    """Any function as a detector for attacks, health checks and reports.

    Args:
        score: Images ``(N, 3, S, S)`` in [0, 1], a torch tensor, to scores ``(N,)``, higher = more anomalous; or to
            scores and maps ``(N, S, S)``. NumPy answers will do where there is no gradient anyway.
        image_size: Side of the images that it takes, pixels.
        differentiable: Whether gradients pass through it; without, only attacks that use none apply.
        has_maps: Whether it gives maps as well.
        name: Its name in tables.

    Raises:
        ValueError: Later, when it answers with other shapes, NaN, or numbers beyond float32.
    """
    return CallableDetector(score, image_size, differentiable=differentiable, has_maps=has_maps, name=name)
