"""A model in an ONNX file as a detector: scored by onnxruntime, attacked as a black box."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from robustad._checks import check_at_least
from robustad._extras import require
from robustad.adapters.callables import CallableDetector
from robustad.errors import CheckpointError

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
_SCORE_NAMES = ("pred_score", "pred_scores", "score", "scores", "image_score", "anomaly_score")
_MAP_NAMES = ("anomaly_map", "anomaly_maps", "map", "maps", "heatmap", "heatmaps")
_PROBED = 2  # images; one alone would not tell (N,) from (1,)

Array = NDArray[Any]


class OnnxInput(NamedTuple):
    """What a model takes.

    Attributes:
        name: Name of its input.
        dtype: Floating point type.
        batch: Images per call; 0 = any number.
        size: Side of the images, pixels.
        channels_last: Whether the layout is ``(N, S, S, 3)`` instead of ``(N, 3, S, S)``.
    """

    name: str
    dtype: Any
    batch: int
    size: int
    channels_last: bool


class OnnxScorer:
    """Images ``(N, 3, S, S)`` to scores ``(N,)``, or to scores and maps ``(N, S, S)``.

    Args:
        path: See `from_onnx`.
        image_size: See `from_onnx`.
    """

    def __init__(self, path: Path, image_size: int | None = None) -> None:
        self.path, self.session = path, _session(path)
        self.input = _input(self.session.get_inputs(), path, image_size)
        try:
            self.scores, self.maps = self._outputs(self.input.batch or _PROBED)
        except CheckpointError as error:
            if self.input.batch:
                raise
            try:  # some files leave the number of images open, and take one all the same
                self.scores, self.maps = self._outputs(1)
            except CheckpointError:
                raise error from None
            self.input = self.input._replace(batch=1)

    def _outputs(self, count: int) -> tuple[str, str | None]:
        """Names of the scores and of the maps, by what ``count`` images give."""
        grey = np.full((count, 3, self.input.size, self.input.size), 0.5)
        found, other = self._run(grey), self._run(grey * np.linspace(0, 2, self.input.size))
        usual = {*_SCORE_NAMES, *_MAP_NAMES}
        kept = {n: v for n, v in found.items() if n.lower() in usual or not np.array_equal(v, other[n])}
        return _chosen(kept, self.path, count, {n: v for n, v in found.items() if n not in kept})

    def __call__(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Scores, and maps where the model gives some, on the images' device and in their type."""
        parts = [self._piece(piece) for piece in torch.split(images, self.input.batch or max(1, len(images)))]
        scores, maps = (torch.from_numpy(np.concatenate(found)).to(images) for found in zip(*parts, strict=True))
        if self.maps is None:
            return scores
        if maps.ndim == 4:
            maps = maps.squeeze(1 if maps.shape[1] == 1 else 3)
        maps = maps[:, None]
        if maps.shape[-2:] != images.shape[-2:]:
            maps = F.interpolate(maps, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return scores, maps[:, 0]

    def _piece(self, images: Tensor) -> tuple[Array, Array]:
        """Scores ``(n,)`` and maps (empty where there are none) of at most a batch; what it lacks is filled up."""
        pixels, count = images.detach().cpu().numpy(), len(images)
        missing = max(0, self.input.batch - count)
        found = self._run(np.concatenate([pixels, np.repeat(pixels[-1:], missing, axis=0)]) if missing else pixels)
        maps = np.zeros(count) if self.maps is None else found[self.maps][:count]
        return found[self.scores].reshape(-1)[:count], maps

    def _run(self, pixels: Array) -> dict[str, Array]:
        pixels = pixels.transpose(0, 2, 3, 1) if self.input.channels_last else pixels  # (N,3,S,S) -> (N,S,S,3)
        names = [output.name for output in self.session.get_outputs()]
        try:
            found = self.session.run(names, {self.input.name: np.ascontiguousarray(pixels, dtype=self.input.dtype)})
        except Exception as error:
            raise CheckpointError(f"{self.path} fails on images of shape {pixels.shape}: {_line(error)}") from error
        return {name: np.asarray(value) for name, value in zip(names, found, strict=True) if value is not None}


def from_onnx(path: str | Path, *, image_size: int | None = None, name: str | None = None) -> CallableDetector:
    """A model in an ONNX file as a detector without gradients.

    The file says how large images are and where their channels lie. Outputs are found by the names that are usual
    (``pred_score``, ``anomaly_map`` and the like) or else by their shapes: scores ``(N,)`` or ``(N, 1)``, maps
    ``(N, 1, H, W)`` or ``(N, H, W, 1)``, or ``(N, H, W)`` if square, which are brought to the images' size. What is the
    same for different images is neither, unless it is called so. A model of a fixed batch size gets its images in
    pieces, one by one where it takes no more.

    Args:
        path: The file; needs the extra ``onnx``.
        image_size: Side of the images, for files that leave it open.
        name: Its name in tables; by default the file's.

    Raises:
        MissingExtra: If onnxruntime is not installed.
        CheckpointError: If it is no ONNX model, or takes or gives something else.
        ValueError: If the file leaves the image size open and none is given; later, if a score is NaN or infinite.
    """
    file = Path(path)
    scorer = OnnxScorer(file, image_size)
    return CallableDetector(
        scorer,
        scorer.input.size,
        differentiable=False,
        has_maps=scorer.maps is not None,
        name=name or file.stem,
        no_gradient="an ONNX model gives no gradient",
    )


def _session(path: Path) -> Any:
    runtime = require("onnxruntime", "onnx")
    if not path.is_file():
        raise CheckpointError(f"no ONNX file {path}")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors only: they are raised as well
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise CheckpointError(f"{path} is no ONNX model that onnxruntime can load: {_line(error)}") from error


def _input(inputs: Sequence[Any], path: Path, image_size: int | None) -> OnnxInput:
    if len(inputs) != 1:
        names = ", ".join(item.name for item in inputs) or "none"
        raise CheckpointError(f"{path} must have one input, the images; it has {len(inputs)}: {names}")
    (item,) = inputs
    shape = list(item.shape or [])
    if item.type not in _TYPES:
        raise CheckpointError(f"{path} must take floats in [0, 1], input {item.name!r} is {item.type}")
    if len(shape) != 4 or (shape[1] != 3 and shape[3] != 3):
        raise CheckpointError(
            f"{path} must take colour images (N, 3, S, S) or (N, S, S, 3), input {item.name!r} has the shape {shape}"
        )
    channels_last = shape[1] != 3
    sides = shape[1:3] if channels_last else shape[2:]
    size = _size(sides, path, image_size)
    batch = shape[0] if isinstance(shape[0], int) and shape[0] > 0 else 0
    return OnnxInput(item.name, _TYPES[item.type], batch, size, channels_last)


def _size(sides: Sequence[Any], path: Path, image_size: int | None) -> int:
    fixed = {side for side in sides if isinstance(side, int) and side > 0}
    if len(fixed) > 1:
        raise CheckpointError(f"{path} takes images of {sides[0]}x{sides[1]} pixels; only square ones are supported")
    if image_size is not None:
        check_at_least("image_size", image_size, 1)
        if fixed and fixed != {image_size}:
            raise ValueError(f"`image_size` must be {fixed.pop()} for {path}, got {image_size}")
        return image_size
    if not fixed:
        raise ValueError(f"{path} leaves the size of its images open; pass `image_size`")
    return int(fixed.pop())


def _chosen(found: dict[str, Array], path: Path, count: int, constant: dict[str, Array]) -> tuple[str, str | None]:
    """Names of the outputs with the scores and with the maps, if there are some, after ``count`` images.

    ``constant`` are outputs that did not change with the image.
    """
    floats = {
        name: value
        for name, value in found.items()
        if np.issubdtype(value.dtype, np.floating) and value.shape[:1] == (count,)
    }
    scores = [name for name, value in floats.items() if value.ndim == 1 or (value.ndim == 2 and value.shape[1] == 1)]
    planes = [name for name, value in floats.items() if value.ndim == 3 or (value.ndim == 4 and 1 in value.shape[1::2])]
    # tokens have three dimensions, too, and are hardly as many as they are long
    maps = [n for n in planes if floats[n].ndim == 4 or n.lower() in _MAP_NAMES or len({*floats[n].shape[1:]}) == 1]
    shapes = ", ".join(
        [f"{name} {value.shape}" for name, value in found.items()]
        + [f"{name} {value.shape}, the same for two images that differ" for name, value in constant.items()]
    )
    score = _one(scores, _SCORE_NAMES)
    if score is None:
        what = "no" if not scores else "more than one"
        raise CheckpointError(f"{path} has {what} output of floats (N,) or (N, 1) for the scores; it has {shapes}")
    return score, _one(maps, _MAP_NAMES)


def _one(names: Sequence[str], usual: Sequence[str]) -> str | None:
    """The only one, or else the one whose name is usual."""
    if len(names) == 1:
        return names[0]
    known = [name for name in names if name.lower() in usual]
    return known[0] if len(known) == 1 else None


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
