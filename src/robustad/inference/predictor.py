"""A detector in use: batches, devices, and streams of files of any length."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustad._checks import check_at_least
from robustad._devices import to_device
from robustad.detectors import AnomalyDetector, Checkpoint, load_checkpoint
from robustad.inference.reading import ByteArray, Picture, Read, picture_reader, read_ahead
from robustad.inference.sources import Source
from robustad.types import Calibration, Prediction


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What became of one image.

    Attributes:
        source: Which one.
        score: Raw score, higher = more anomalous; None if it could not be read.
        anomalous: Whether the score is above the checkpoint's threshold; None without threshold or score.
        error: Why there is no score, in one line.
        anomaly_map: ``(S, S)`` float32, if the detector gives maps.
        picture: What was read.
    """

    source: Source
    score: float | None = None
    anomalous: bool | None = None
    error: str | None = None
    anomaly_map: NDArray[np.float32] | None = None
    picture: Picture | None = None


class Predictor:
    """Scores images with a trained detector.

    Args:
        detector: A checkpoint folder, a loaded checkpoint, or a detector.
        batch_size: Images per forward pass.
        device: ``auto`` (the accelerator if there is one), or any torch device.
        num_workers: Threads that read files; 0 = one per two processors.

    Raises:
        CheckpointError: If the checkpoint cannot be loaded, or has no scores yet.
        ValueError: If the device does not exist or a number is out of range.
    """

    def __init__(
        self,
        detector: str | Path | Checkpoint | AnomalyDetector,
        *,
        batch_size: int = 16,
        device: str = "auto",
        num_workers: int = 0,
    ) -> None:
        check_at_least("batch_size", batch_size, 1)
        check_at_least("num_workers", num_workers, 0)
        self.device = pick_device(device)
        if isinstance(detector, str | Path):
            detector = load_checkpoint(detector)
        self.checkpoint = detector if isinstance(detector, Checkpoint) else Checkpoint(detector=detector)
        self.checkpoint.check_complete()
        self.detector = self.checkpoint.detector.to(self.device).eval()
        self.batch_size = batch_size
        self.num_workers = num_workers or max(2, (os.cpu_count() or 2) // 2)

    @property
    def calibration(self) -> Calibration | None:
        """The threshold, if the checkpoint has one."""
        return self.checkpoint.calibration

    @torch.no_grad()  # not inference_mode: what a detector caches must stay usable for an attack
    def __call__(self, images: Tensor | ByteArray) -> Prediction:
        """Score a batch.

        Args:
            images: Floats ``(N, 3, S, S)`` in [0, 1], or uint8 pixels ``(N, S, S, 3)`` as an array.

        Returns:
            Scores and maps on the CPU, float32.

        Raises:
            ValueError: If they are neither.
        """
        prediction: Prediction = self.detector(to_device(to_images(images), self.device))
        maps = prediction.anomaly_maps
        return Prediction(prediction.scores.float().cpu(), None if maps is None else maps.float().cpu())

    def stream(
        self,
        sources: Iterable[Source | str | Path],
        *,
        shown_size: int = 0,
        read: Callable[[Path], Picture] | None = None,
    ) -> Iterator[list[Scored]]:
        """Score any number of files, in order, with memory for a few batches.

        Args:
            sources: Files, consumed lazily; an unreadable one gives a result with an error.
            shown_size: Keep a copy of each picture with this longest side, pixels, to draw on; 0 = none.
            read: Another reader of files than the built-in one.

        Yields:
            The results of one batch after the other.
        """
        reader = read or picture_reader(self.detector.image_size, shown_size=shown_size)
        window = 2 * self.batch_size + self.num_workers  # one batch in the model, one ready, and work for each thread
        reads = read_ahead(map(_as_source, sources), reader, num_workers=self.num_workers, window=window)
        try:
            while batch := list(islice(reads, self.batch_size)):
                yield self._score(batch)
        finally:
            reads.close()  # type: ignore[attr-defined]  # a generator: stops the threads at once

    def _score(self, batch: list[Read[Picture]]) -> list[Scored]:
        pictures = [read.value for read in batch if read.value is not None]
        prediction = self(np.stack([picture.pixels for picture in pictures])) if pictures else Prediction(_NONE, None)
        scores = iter(prediction.scores.tolist())
        maps = iter(() if prediction.anomaly_maps is None else prediction.anomaly_maps.numpy())
        return [
            Scored(source=read.source, error=read.error)
            if read.value is None
            else self._scored(read.source, next(scores), next(maps, None), read.value)
            for read in batch
        ]

    def _scored(
        self, source: Source, score: float, anomaly_map: NDArray[np.float32] | None, picture: Picture
    ) -> Scored:
        if not math.isfinite(score):
            return Scored(source=source, error=f"{source.path} gets the score {score}; the checkpoint is damaged")
        anomalous = None if self.calibration is None else score > self.calibration.threshold
        return Scored(source=source, score=score, anomalous=anomalous, anomaly_map=anomaly_map, picture=picture)


_NONE = torch.empty(0)
_LEVEL = 1 / 255  # resizing may overshoot a little


def _as_source(source: Source | str | Path) -> Source:
    return source if isinstance(source, Source) else Source(Path(source), Path(source).as_posix())


def to_images(images: Tensor | ByteArray) -> Tensor:
    """Pixels ``(N, S, S, 3)`` uint8 as floats ``(N, 3, S, S)`` in [0, 1]; tensors stay as they are.

    Raises:
        ValueError: If an array is not of pixels, or a tensor's values are clearly not in [0, 1].
    """
    if isinstance(images, Tensor):
        if images.numel() and bool(((images < -_LEVEL) | (images > 1 + _LEVEL)).any()):
            low, high = float(images.min()), float(images.max())
            raise ValueError(
                f"images must lie in [0, 1], got {low:g} to {high:g}; pixels of 0 to 255 are divided by 255"
            )
        return images
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(
            f"an array of images must be uint8 (N, S, S, 3), got {images.dtype} {images.shape}; floats in [0, 1] are "
            "given as a tensor (N, 3, S, S)"
        )
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255)  # (N,S,S,3) -> (N,3,S,S)


def pick_device(device: str) -> torch.device:
    """``auto`` or a device's name as a device.

    Raises:
        ValueError: If torch does not know it or it is not there.
    """
    if device == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return found or torch.device("cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"`device` {device!r} cannot be used: {str(error).splitlines()[0]}; try auto or cpu"
        ) from error
    return chosen
