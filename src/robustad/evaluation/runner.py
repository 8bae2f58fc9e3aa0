"""Evaluate a detector: clean, then under every attack of a suite at every radius, image by image resumable."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustad._checks import check_at_least, check_radii
from robustad._devices import device_of, to_device
from robustad._precision import is_bfloat16
from robustad._progress import Progress, duration_text
from robustad.attacks import Ball, value_and_grad
from robustad.data import ImageDataset, against_each
from robustad.evaluation.ensemble import ROUNDING, Attacked, Batch, goals, in_bfloat16
from robustad.evaluation.goals import GOALS, Scene
from robustad.evaluation.protocol import Plan, Suite
from robustad.evaluation.store import Arrays, Store
from robustad.evaluation.where import allowed_pixels
from robustad.evaluation.witness import Witness, frozen, learn_maps
from robustad.metrics import PIXEL_METRICS
from robustad.ops.patches import patch_labels

WORTH_SAYING = 60.0
"""Seconds; what will take longer is announced."""
Floats = NDArray[np.float32]
Keep = Callable[[Floats, NDArray[np.bool_]], Iterable[int]]
"""``keep(clean scores, labels) -> indices`` of the images whose pictures are wanted afterwards."""


@dataclass(frozen=True)
class View:
    """A picture for the report.

    Attributes:
        image: ``(S, S, 3)`` uint8, rounded.
        anomaly_map: ``(S, S)``, or None.
    """

    image: NDArray[np.uint8]
    anomaly_map: Floats | None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One attack at one radius.

    Attributes:
        attack: Name of the attack; ``none`` for clean images.
        epsilon: Radius.
        scores: ``(N,)``.
        steps: Gradient steps, where one number says it.
        members: Scores ``(N,)`` of each run of a worst case, by its label.
        pixel: Pixel metrics by name: value, or None and why it is undefined. Empty without maps or masks.
        views: Pictures of the kept images, by index.
    """

    attack: str
    epsilon: float
    scores: Floats
    steps: int | None = None
    members: dict[str, Floats] = field(default_factory=dict)
    pixel: dict[str, tuple[float | None, str | None]] = field(default_factory=dict)
    views: dict[int, View] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Everything that was measured.

    Attributes:
        labels: ``(N,)`` bool, True = anomalous.
        groups: Group of each image, for intervals.
        brightness: Mean brightness ``(N,)`` in [0, 1] of each clean image.
        brightness_bounds: For each radius the lowest and highest brightness ``(2, N)`` that an attack can reach.
        has_mask: ``(N,)`` bool, whether the image counts for pixel metrics.
        masks: Ground truth of the kept images, by index; None where it is not known.
        plans: What each attack came down to.
        cells: Clean first, then radius by radius.
        targets: Who was attacked.
        where: Which pixels could change.
        draws: Calls whose mean attacks followed.
        norm: Of the ball of attacks.
        against: By kind of anomaly the positions of all normal images and of these anomalies; see `against_each`.
    """

    labels: NDArray[np.bool_]
    groups: tuple[str, ...]
    brightness: Floats
    brightness_bounds: dict[float, Floats]
    has_mask: NDArray[np.bool_]
    masks: dict[int, NDArray[np.bool_] | None]
    plans: tuple[Plan, ...]
    cells: tuple[Cell, ...]
    targets: str
    where: str
    draws: int
    norm: str = "linf"
    against: dict[str, list[int]] = field(default_factory=dict)

    @property
    def clean(self) -> Cell:
        """The cell without attack."""
        return self.cells[0]

    def cell(self, attack: str, epsilon: float) -> Cell | None:
        """One cell, or None if it was not run."""
        return next((c for c in self.cells if c.attack == attack and np.isclose(c.epsilon, epsilon)), None)


def evaluate(
    detector: Any,
    dataset: ImageDataset,
    suite: Suite,
    *,
    epsilons: Sequence[float],
    batch_size: int = 32,
    seed: int = 0,
    other: Any = None,
    keep: Keep | None = None,
    store: Store | None = None,
    show_progress: bool = True,
) -> Evaluation:
    """Score a data set clean and under attack.

    The result depends on the seed, not on the batch size (up to rounding) nor on interruptions.

    Args:
        detector: Images ``(N, 3, S, S)`` in [0, 1] to a `Prediction`; differentiable.
        dataset: Test images.
        suite: Attacks.
        epsilons: Radii in pixel units of [0, 1]; clean images are always scored.
        batch_size: Images per pass.
        seed: Seed of random starts.
        other: Another detector, for ``transfer``.
        keep: Chooses the images whose pictures are kept.
        store: Keeps finished pieces; see `Store`.
        show_progress: Show how far it is and how long it will take.

    Raises:
        ValueError: If there is no image, or a radius or the suite makes no sense.
    """
    check_at_least("batch_size", batch_size, 1)
    radii = check_radii(epsilons, norm=suite.norm)
    if len(dataset) == 0:
        raise ValueError("there is no test image")
    learn_maps(detector, to_device(dataset[0]["image"][None], device_of(detector)).float() / 255)
    work = _Work(detector, dataset, suite, batch_size=batch_size, seed=seed, other=other, store=store or Store())
    with (
        frozen(detector, other),
        Progress("testing", len(dataset) * (1 + work.cost * len(radii)), unit="passes", enabled=show_progress) as shown,
    ):
        began = time.monotonic()
        clean = [work.clean(chunk, shown) for chunk in work.chunks]
        _announce(shown, work, radii, (time.monotonic() - began) / len(dataset))
        scores = np.concatenate([part["scores"] for part in clean])
        if suite.stop_early and suite.draws == 1:
            work.goals, work.rounding = goals(scores, work.labels), ROUNDING * float(np.abs(scores).max())
        if keep is not None:
            work.kept = frozenset(keep(scores, work.labels))
        cells = [work.cell(work.none, 0.0, [work.attack(chunk, 0.0, shown) for chunk in work.chunks])]
        bounds = {}
        for epsilon in radii:
            parts = [work.attack(chunk, epsilon, shown) for chunk in work.chunks]
            bounds[epsilon] = np.concatenate([part["bounds"] for part in parts], axis=1)
            cells += [work.cell(plan, epsilon, parts) for plan in work.plans if plan.runs]
    return work.joined(clean, bounds, cells)


def _announce(shown: Progress, work: _Work, radii: Sequence[float], seconds: float) -> None:
    """Say what attacks will take, if that may be worth saying; ``seconds`` per image is what clean ones took."""
    passes = work.cost
    steep = work.suite.draws * sum(run.cost for run in work.runs if run.attack.uses_gradient)
    images = len(radii) * len(work.dataset)
    if (passes + 2 * steep) * images * seconds < WORTH_SAYING:
        return
    plain, slope = work.seconds()  # the first pass over clean images also read them
    expected = ((passes - steep) * plain + steep * slope) * images
    if expected >= WORTH_SAYING:
        shown.announce(
            f"{len(work.dataset):,} images, {passes:,} passes for each of them at each of {len(radii)} radii: "
            f"about {duration_text(expected)}"
        )


class _Work:
    """What stays the same from piece to piece."""

    none = Plan(name="none", runs=())

    def __init__(
        self,
        detector: Any,
        dataset: ImageDataset,
        suite: Suite,
        *,
        batch_size: int,
        seed: int,
        other: Any,
        store: Store,
    ) -> None:
        self.detector, self.dataset, self.suite, self.seed, self.store = detector, dataset, suite, seed, store
        self.other = None if other is None else Witness(other)
        self.device, self.bfloat16 = device_of(detector), is_bfloat16(suite.precision, device_of(detector))
        self.labels = np.array([sample.label for sample in dataset.samples], dtype=np.bool_)
        self.marked = any(sample.label and sample.has_mask for sample in dataset.samples)
        self.plans = suite.plans(detector, has_masks=self.marked, has_other=other is not None)
        self.runs = list(dict.fromkeys(run for plan in self.plans for run in plan.runs))
        self.cost = suite.draws * sum(run.cost for run in self.runs)
        self.chunks = [range(i, min(i + batch_size, len(dataset))) for i in range(0, len(dataset), batch_size)]
        self.kept: frozenset[int] = frozenset()
        self.goals: Floats | None = None
        self.rounding = 0.0

    def clean(self, chunk: range, shown: Progress) -> Arrays:
        """Scores and facts of clean images."""
        arrays = self.store.get("clean", chunk)
        if arrays is None:
            images, items = self._read(chunk)
            with torch.no_grad():
                scores = Witness(self.detector).scores(images)
            self._check(scores, chunk)
            arrays = {
                "scores": _numpy(scores),
                "brightness": _numpy(images.mean(dim=(1, 2, 3))),
                "has_mask": np.array([bool(item["has_mask"]) for item in items]),
            }
            self.store.put(arrays, "clean", chunk)
        shown.update(len(chunk), note="clean")
        return arrays

    def _check(self, scores: Tensor, chunk: range) -> None:
        """Refuse scores that nothing can be measured on."""
        for index, score in zip(chunk, scores.tolist(), strict=True):
            if not math.isfinite(score) or abs(score) > torch.finfo(torch.float32).max:
                name = self.dataset.samples[index].name
                raise ValueError(f"the detector scores {name} with {score}; correct it, then test again")

    def seconds(self) -> tuple[float, float]:
        """What a pass takes per image, and one with its gradient as attacks make it, measured on the first images."""
        images, items = self._read(self.chunks[0])
        scene = in_bfloat16(self._scene(items)) if self.bfloat16 else self._scene(items)
        steep = (run for run in self.runs if run.attack.uses_gradient)
        objective, taken = GOALS[next(steep, self.runs[0]).goal].build(scene), []
        index = torch.arange(len(images), device=self.device)
        for gradient in (False, any(run.attack.uses_gradient for run in self.runs)):
            began = time.monotonic()
            with torch.no_grad():
                values = value_and_grad(objective, images)[0] if gradient else objective(images, index)
            values.cpu()  # which waits for the device
            taken.append((time.monotonic() - began) / len(images))
        return taken[0], taken[1]

    def attack(self, chunk: range, epsilon: float, shown: Progress) -> Arrays:
        """Scores, maps and pictures of one chunk under every attack at one radius; radius 0 = clean."""
        kept = [index for index in chunk if index in self.kept]
        suite = [self.suite.targets, self.suite.stop_early, self.bfloat16]
        if self.suite.where != "everywhere" or self.suite.draws != 1:  # what was measured before there were these stays
            suite += [self.suite.where, self.suite.draws]
        key = ("attack", chunk, epsilon, self.plans, *suite, self.seed, kept)
        arrays = self.store.get(*key)
        if arrays is None:
            arrays = self._attack(chunk, epsilon)
            self.store.put(arrays, *key)
        shown.update(self.cost * len(chunk) if epsilon else 0, note=f"ε = {255 * epsilon:.3g}/255")
        return arrays

    def _attack(self, chunk: range, epsilon: float) -> Arrays:
        images, items = self._read(chunk)
        goals = None if self.goals is None else torch.from_numpy(self.goals[list(chunk)]).to(self.device)
        allowed = allowed_pixels(images, self.suite.where) if epsilon else None
        batch = Batch(
            self._scene(items),
            images,
            targets=self.suite.targets,
            seed=self.seed,
            goals=goals,
            bfloat16=self.bfloat16,
            rounding=self.rounding,
            draws=self.suite.draws,
            allowed=allowed,
        )
        if epsilon == 0:
            return self._arrays(chunk, "none", batch.clean)
        ball = Ball(images, epsilon, self.suite.norm, None if allowed is None else allowed[:, None])
        arrays = {"bounds": _numpy(torch.stack([ball.shifted(sign).mean(dim=(1, 2, 3)) for sign in (-1, 1)]))}
        for plan in self.plans:
            if plan.runs:
                arrays |= self._arrays(chunk, plan.name, batch.attacked(plan, epsilon))
                if plan.worst_of:
                    arrays |= {f"member/{r.label}": _numpy(batch.run(r, epsilon).scores) for r in plan.runs}
        return arrays

    def _arrays(self, chunk: range, name: str, attacked: Attacked) -> Arrays:
        places = [i for i, index in enumerate(chunk) if index in self.kept]
        arrays: Arrays = {f"{name}/scores": _numpy(attacked.scores)}
        pixels = attacked.images[places].mul(255).round().to(torch.uint8)
        arrays[f"{name}/views"] = pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()  # (n,3,S,S) -> (n,S,S,3)
        if attacked.maps is not None:
            if bool(attacked.maps.isnan().any()):
                raise ValueError("the detector gave NaN in an anomaly map; correct it, then test again")
            # Without ground truth only the pictures need maps.
            arrays[f"{name}/maps"] = _numpy(attacked.maps if self.marked else attacked.maps[places])
        return arrays

    def cell(self, plan: Plan, epsilon: float, parts: list[Arrays]) -> Cell:
        """Put the chunks of one attack together."""
        name = plan.name

        def join(key: str) -> Floats:
            return np.concatenate([part[key] for part in parts])

        maps = join(f"{name}/maps") if f"{name}/maps" in parts[0] else None
        pixel = self._pixel_metrics(maps) if maps is not None and self.marked else {}
        kept = sorted(self.kept)
        views = {}
        for number, (index, image) in enumerate(zip(kept, join(f"{name}/views"), strict=True)):
            views[index] = View(image, None if maps is None else maps[index if self.marked else number])
        return Cell(
            attack=name,
            epsilon=epsilon,
            scores=join(f"{name}/scores"),
            steps=plan.runs[0].steps if len(plan.runs) == 1 else None,
            members={run.label: join(f"member/{run.label}") for run in plan.runs} if plan.worst_of else {},
            pixel=pixel,
            views=views,
        )

    @cached_property
    def _truth(self) -> tuple[list[int], NDArray[np.bool_]]:
        """Images whose truth is known, and their masks."""
        items = ((index, self.dataset[index]) for index in range(len(self.dataset)))
        known, masks = zip(*((i, item["mask"].numpy()) for i, item in items if item["has_mask"]), strict=True)
        return list(known), np.stack(masks)

    def _pixel_metrics(self, maps: Floats) -> dict[str, tuple[float | None, str | None]]:
        found: dict[str, tuple[float | None, str | None]] = {}
        known, truth = self._truth
        values = maps if len(known) == len(maps) else maps[known]
        for name, metric in PIXEL_METRICS.items():
            try:
                found[name] = (metric(values, truth), None)
            except ValueError as error:
                found[name] = (None, str(error))
        return found

    def joined(self, clean: list[Arrays], bounds: dict[float, Floats], cells: list[Cell]) -> Evaluation:
        """All pieces together."""
        return Evaluation(
            labels=self.labels,
            groups=tuple(sample.group for sample in self.dataset.samples),
            brightness=np.concatenate([part["brightness"] for part in clean]),
            brightness_bounds=bounds,
            has_mask=np.concatenate([part["has_mask"] for part in clean]),
            masks={index: self.mask(index) for index in sorted(self.kept)},
            plans=self.plans,
            cells=tuple(cells),
            targets=self.suite.targets,
            where=self.suite.where,
            draws=self.suite.draws,
            norm=self.suite.norm,
            against=against_each(self.dataset.samples),
        )

    def mask(self, index: int) -> NDArray[np.bool_] | None:
        """Ground truth of one image, if it is known."""
        item = self.dataset[index]
        return item["mask"].numpy() if item["has_mask"] else None

    def _read(self, chunk: range) -> tuple[Tensor, list[Any]]:
        items = [self.dataset[index] for index in chunk]
        images = to_device(torch.stack([item["image"] for item in items]), self.device).float() / 255
        return images, items

    def _scene(self, items: list[Any]) -> Scene:
        labels = torch.tensor([bool(item["label"]) for item in items], device=self.device)
        masks = torch.stack([item["mask"] if item["has_mask"] else torch.ones_like(item["mask"]) for item in items])
        masks = masks.to(self.device)
        patches = None
        if hasattr(self.detector, "patch_logits"):
            patches = patch_labels(masks, self.detector.patch_size)
        return Scene(Witness(self.detector), labels, masks, patches, self.other)


def _numpy(values: Tensor) -> Floats:
    return np.asarray(values.detach().float().cpu().numpy(), dtype=np.float32)
