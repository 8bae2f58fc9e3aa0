"""Look at chosen images: what the detector sees, and what it sees after an attack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustad._checks import check_at_least, check_choice, check_epsilon
from robustad._progress import Progress
from robustad._random import torch_generator
from robustad.attacks import PGD, ImageObjective
from robustad.data.layouts import MaskFinder
from robustad.errors import ImageError, LayoutError
from robustad.images import read_image, read_mask, resize_mask
from robustad.inference import (
    MapScale,
    Predictor,
    Scored,
    Sources,
    check_place,
    map_scale,
    output_path,
    to_images,
    write_png,
)
from robustad.types import Prediction
from robustad.visual import strip

_EPSILON = 2 / 255
LABELS = ("auto", "normal", "anomalous", "both")


@dataclass(frozen=True, kw_only=True)
class VisualizeConfig:
    """Options of `visualize`.

    Attributes:
        epsilon: Radius of the attack, L-inf, pixel units of [0, 1]; 0 shows no attacked twin. None = the radius that
            the detector was trained at, 2/255 where that is not known or 0.
        steps: Gradient steps.
        restarts: Independent runs of the attack; further ones start at random points.
        label: What the images are, hence which way the attack pushes: the score of ``normal`` images up (a false
            alarm), that of ``anomalous`` ones down (a hidden defect); ``both`` makes two pictures of each image.
            ``auto`` takes the mask's word where there is one, else the side of the checkpoint's threshold on which the
            image lies, and ``both`` where there is neither.
        masks: Folder of ground-truth masks, named as the images, in the same sub-folders.
        batch_size: Images per forward pass.
        device: ``auto`` or a torch device.
        seed: Of the random starts.
    """

    epsilon: float | None = None
    steps: int = 10
    restarts: int = 1
    label: str = "auto"
    masks: Path | None = None
    batch_size: int = 16
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epsilon is not None:
            check_epsilon(self.epsilon)
        check_choice("label", self.label, LABELS)
        check_at_least("steps", self.steps, 1)
        check_at_least("restarts", self.restarts, 1)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One picture that `visualize` wrote, or why it could not.

    Attributes:
        path: The image.
        picture: The file written; None after an error.
        label: What the attack took the image for; None after an error or without attack.
        score: Before the attack.
        attacked_score: After it; None without attack.
        error: Why there is no picture.
    """

    path: Path
    picture: Path | None = None
    label: bool | None = None
    score: float | None = None
    attacked_score: float | None = None
    error: str | None = None


def visualize(
    checkpoint: str | Path,
    images: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    config: VisualizeConfig | None = None,
) -> list[Shown]:
    """Write a strip for each image: image, ground truth if known, map, attacked twin, its map; scores below.

    The attack is PGD on the reported image score, at the network's input size, which is also the size of the pictures.
    Maps of all strips share one scale (see `robustad.inference.map_scale`).

    Args:
        checkpoint: Folder of a checkpoint.
        images: Files, folders, globs.
        out: Folder for ``NAME.EXT.raised.png`` (score pushed up), ``.lowered.png`` or, at epsilon 0, ``.map.png``.
        config: See `VisualizeConfig`.

    Returns:
        One entry per picture, in order; unreadable images and masks have an error instead.

    Raises:
        LayoutError: If an argument stands for nothing, or there is no image.
        ImageError: If not a single image could be shown.
        CheckpointError: If the checkpoint cannot be loaded.
        ValueError: If an option is wrong.
    """
    config = config or VisualizeConfig()
    sources = Sources([images] if isinstance(images, str | Path) else images)
    check_place(Path(out), sources, "out")
    if config.masks is not None and not config.masks.is_dir():
        raise LayoutError(f"folder {config.masks} does not exist; give the folder of the masks")
    work = _Work(Predictor(checkpoint, batch_size=config.batch_size, device=config.device), config, Path(out))
    shown = []
    with Progress("drawing", sources.count(), unit="images") as progress:
        for batch in work.predictor.stream(sources):
            shown += work.show(batch)
            progress.update(len(batch))
    if not shown:
        raise LayoutError("no images found there; expected files such as .png, .jpg, .bmp or .tif")
    if all(entry.error for entry in shown):
        others = f" (and {len(shown) - 1} more)" if len(shown) > 1 else ""
        raise ImageError(f"{shown[0].error}{others}")
    return shown


def _trained_at(predictor: Predictor) -> float:
    training = predictor.checkpoint.info.get("training")
    return float(training.get("epsilon") or _EPSILON) if isinstance(training, dict) else _EPSILON


class _Work:
    """What stays the same from batch to batch: detector, attack and its radius, masks, scale of the maps."""

    def __init__(self, predictor: Predictor, config: VisualizeConfig, out: Path) -> None:
        self.predictor = predictor
        self.config = config
        self.out = out
        self.epsilon = _trained_at(predictor) if config.epsilon is None else config.epsilon
        self.scale: MapScale | None = None
        self.finder = MaskFinder()
        self.attack = PGD(steps=config.steps, restarts=config.restarts)

    def show(self, batch: list[Scored]) -> list[Shown]:
        """Write the strips of one batch."""
        plan = [self._plan(scored) for scored in batch]
        drawn = self._draw([job for part in plan if not isinstance(part, Shown) for job in part])
        result: list[Shown] = []
        for part in plan:
            result += [part] if isinstance(part, Shown) else islice(drawn, len(part))
        return result

    def _plan(self, scored: Scored) -> list[_Job] | Shown:
        """The strips of one image, or why there is none."""
        if scored.error is not None:
            return Shown(path=scored.source.path, error=scored.error)
        try:
            mask = self._mask(scored)
        except ImageError as error:
            return Shown(path=scored.source.path, error=str(error))
        if self.epsilon == 0:
            return [_Job(scored, mask, None)]
        return [_Job(scored, mask, label) for label in self._labels(scored, mask)]

    def _mask(self, scored: Scored) -> NDArray[np.bool_] | None:
        """The ground truth at the network's size, if there is one."""
        if self.config.masks is None:
            return None
        name = PurePosixPath(scored.source.name)
        folder = self.config.masks / name.parent
        stems = (name.stem, f"{name.stem}_mask")
        found = filter(None, (self.finder.find(folder, stem, name.suffix) for stem in stems))
        path = next((path for path in found if path.resolve() != scored.source.path.resolve()), None)
        if path is None:
            return None
        mask, shape = read_mask(path), read_image(scored.source.path).shape[:2]
        if mask.shape != shape:
            sizes = f"{mask.shape[1]} x {mask.shape[0]} pixels but {scored.source.path} is {shape[1]} x {shape[0]}"
            raise ImageError(f"mask {path} is {sizes}; save the mask at the size of its image")
        return resize_mask(mask, self.predictor.detector.image_size)

    def _labels(self, scored: Scored, mask: NDArray[np.bool_] | None) -> tuple[bool, ...]:
        if self.config.label in ("normal", "anomalous"):
            return (self.config.label == "anomalous",)
        if self.config.label == "auto" and mask is not None:
            return (bool(mask.any()),)
        if self.config.label == "auto" and scored.anomalous is not None:
            return (scored.anomalous,)
        return (False, True)

    def _draw(self, jobs: list[_Job]) -> Iterator[Shown]:
        if not jobs:
            return
        images = to_images(np.stack([job.pixels for job in jobs]))
        attacked, prediction = (images, None) if self.epsilon == 0 else self._attacked(images, jobs)
        maps = None if prediction is None or prediction.anomaly_maps is None else prediction.anomaly_maps.numpy()
        if self.scale is None:
            clean = [job.scored.anomaly_map for job in jobs if job.scored.anomaly_map is not None]
            known = clean + ([] if maps is None else list(maps))
            self.scale = map_scale(self.predictor.checkpoint, known) if known else MapScale(0.0, 1.0)
        for number, job in enumerate(jobs):
            twin = None if prediction is None else _to_pixels(attacked[number])
            score = None if prediction is None else float(prediction.scores[number])
            yield self._write(job, twin, None if maps is None else maps[number], score)

    def _attacked(self, images: Tensor, jobs: list[_Job]) -> tuple[Tensor, Prediction]:
        device = self.predictor.device
        labels = torch.tensor([bool(job.label) for job in jobs], device=device)
        generator = torch_generator(self.config.seed, "visualize") if self.config.restarts > 1 else None
        objective = ImageObjective(self.predictor.detector, labels)
        attacked = self.attack(objective, images.to(device), epsilon=self.epsilon, generator=generator)
        return attacked.cpu(), self.predictor(attacked)

    def _write(self, job: _Job, twin: Any, twin_map: Any, twin_score: float | None) -> Shown:
        assert self.scale is not None and job.scored.score is not None
        direction = {None: "map", False: "raised", True: "lowered"}[job.label]
        path = output_path(self.out, job.scored.source.name, f".{direction}.png")
        captions = {"image": f"score {job.scored.score:.4g}"}
        if twin_score is not None:
            captions["attacked_image"] = f"attacked, {grey_levels(self.epsilon)}: {twin_score:.4g}"
        png = strip(
            job.pixels,
            mask=job.mask,
            anomaly_map=job.scored.anomaly_map,
            attacked_image=twin,
            attacked_map=twin_map,
            vmin=self.scale.low,
            vmax=self.scale.high,
            captions=captions,
        )
        write_png(path, png)
        return Shown(
            path=job.scored.source.path,
            picture=path,
            label=job.label,
            score=job.scored.score,
            attacked_score=twin_score,
        )


@dataclass(frozen=True)
class _Job:
    """One strip: an image, its ground truth, and what the attack takes it for (None = no attack)."""

    scored: Scored
    mask: NDArray[np.bool_] | None
    label: bool | None

    @property
    def pixels(self) -> NDArray[np.uint8]:
        assert self.scored.picture is not None
        return self.scored.picture.pixels


def grey_levels(epsilon: float) -> str:
    """A radius in the way people write it: ``8/255`` where it is a whole number of grey levels."""
    levels = round(epsilon * 255, 6)
    return f"{levels:.0f}/255" if levels == round(levels) else f"{epsilon:.4g}"


def _to_pixels(image: Tensor) -> NDArray[np.uint8]:
    """A float image ``(3, S, S)`` as pixels ``(S, S, 3)``."""
    pixels: NDArray[np.uint8] = image.mul(255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    return pixels
