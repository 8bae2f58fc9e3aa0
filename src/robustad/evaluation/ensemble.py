"""Perturbed images of one batch: each run once, and the worst case per image over several."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustad._random import torch_generator
from robustad.attacks import APGD, PGD, Attack
from robustad.evaluation.goals import GOALS, Scene
from robustad.evaluation.protocol import Plan, Run
from robustad.evaluation.witness import Judged, Witness, away

FINISH = 0.1
"""Share of the steps, three at least, that are computed in float32 where the others are not."""
ROUNDING = 2**-6
"""How wrong a score may be in bfloat16, as a share of the largest clean one: an image must not finish by rounding."""
SHORTEST = 20
"""Steps from which on passes are in bfloat16 at all: there is little to gain below."""


@dataclass(frozen=True)
class Attacked:
    """Images after an attack, and what the detector says of them in float32 and eval mode.

    Attributes:
        images: ``(N, 3, S, S)``.
        scores: ``(N,)``.
        maps: ``(N, S, S)``, or None.
    """

    images: Tensor
    scores: Tensor
    maps: Tensor | None


class Batch:
    """Images under attack; runs that several named attacks share are made once.

    Args:
        scene: What attacks may know.
        images: Clean images ``(N, 3, S, S)`` in [0, 1].
        targets: Who is attacked, see `Suite`; the others stay clean.
        seed: Seed of random starts; results depend on the image, not on its place in the batch.
        goals: Wrongness ``(N,)`` of the reported score from which on an image is left alone; None = never.
        bfloat16: Whether attacks climb in bfloat16 and only end in float32, see `stages`.
        rounding: How far beyond its goal an image has to be in bfloat16 to be left alone.
        draws: Calls of the detector whose mean attacks follow.
        allowed: Pixels that may change ``(N, S, S)``, bool; None = all.
    """

    def __init__(
        self,
        scene: Scene,
        images: Tensor,
        *,
        targets: str = "both",
        seed: int = 0,
        goals: Tensor | None = None,
        bfloat16: bool = False,
        rounding: float = 0.0,
        draws: int = 1,
        allowed: Tensor | None = None,
    ) -> None:
        self.scene, self.seed, self._draws = scene, seed, draws
        self.clean = self._seen(images)
        chosen = {"both": torch.ones_like(scene.labels), "anomalous": scene.labels, "normal": ~scene.labels}[targets]
        self._chosen = chosen.nonzero()[:, 0]
        self._allowed = None if allowed is None else allowed[self._chosen]
        self._part = averaged(_subset(scene, self._chosen), draws)
        self._fast = in_bfloat16(self._part) if bfloat16 else None
        self._goals = None if goals is None else goals[self._chosen]
        self._rounding = rounding
        self._done: dict[tuple[Run, float], Attacked] = {}

    def attacked(self, plan: Plan, epsilon: float) -> Attacked:
        """The images of a named attack."""
        results = [self.run(run, epsilon) for run in plan.runs]
        if not plan.worst_of and len(results) == 1:
            return results[0]
        if self._draws == 1:
            return worst_case([self.clean, *results], self.scene.labels)
        # of single calls the worst is worse than the next one: means choose, and what is chosen is seen once more
        mean = averaged(self.scene, self._draws).detector
        with torch.no_grad():
            judged = [replace(result, scores=in_range(mean.scores(result.images))) for result in (self.clean, *results)]
        return self._seen(worst_case(judged, self.scene.labels).images)

    def run(self, run: Run, epsilon: float) -> Attacked:
        """The images of one run."""
        key = (run, epsilon)
        if key not in self._done:
            images = self.clean.images.clone()
            images[self._chosen] = self._perturb(run, images[self._chosen], epsilon)
            self._done[key] = self._seen(images)
        return self._done[key]

    def _perturb(self, run: Run, images: Tensor, epsilon: float) -> Tensor:
        phases = stages(run.attack) if self._fast is not None else None
        if self._fast is None or phases is None:
            return self._climb(run, self._part, images, epsilon)
        climb, finish = phases
        reached = self._climb(replace(run, attack=climb), self._fast, images, epsilon, beyond=self._rounding)
        return self._climb(replace(run, attack=finish), self._part, images, epsilon, start=reached)

    def _climb(
        self,
        run: Run,
        scene: Scene,
        images: Tensor,
        epsilon: float,
        *,
        start: Tensor | None = None,
        beyond: float = 0.0,
    ) -> Tensor:
        limits = None if self._goals is None else self._goals + beyond
        objective = GOALS[run.goal].build(scene)
        common: dict[str, Any] = {
            "epsilon": epsilon,
            "generator": torch_generator(self.seed, "attack", run.goal),
            "mask": self._allowed,
            "start": start,
        }
        if not run.judged:
            goals = limits if run.goal == "score" else None  # other objectives have another scale
            return run.attack(objective, images, goals=goals, **common)
        judged = Judged(objective, scene.detector, scene.labels, images, limits)
        run.attack(judged, images, goals=judged.done, **common)
        return judged.images

    def _seen(self, images: Tensor) -> Attacked:
        with torch.no_grad():
            prediction = self.scene.detector(images)
        return Attacked(images, in_range(prediction.scores), prediction.anomaly_maps)


def in_range(scores: Tensor) -> Tensor:
    """A score that was driven out of its range is a score like others: the most wrong one, and not undefined."""
    largest = min(torch.finfo(torch.float32).max, torch.finfo(scores.dtype).max)
    return scores.clamp(-largest, largest)


def stages(attack: Attack) -> tuple[Attack, PGD] | None:
    """An attack in two parts of as many steps in all: most of it in bfloat16, and the rest in float32 from there.

    Rounded values cannot tell the best of many good iterates; the end in float32 can, and makes up for what rounded
    directions missed. None for attacks of fewer than `SHORTEST` steps, and for those that use values only, which
    rounding would mislead.
    """
    if not isinstance(attack, PGD | APGD) or attack.steps < SHORTEST:
        return None
    last, share = max(3, round(FINISH * attack.steps)), 2.5 / attack.steps
    climb = replace(attack, steps=attack.steps - last)
    if isinstance(climb, PGD):
        share = share if climb.rel_stepsize is None else climb.rel_stepsize
        climb = replace(climb, rel_stepsize=share)
    return climb, PGD(steps=last, rel_stepsize=share, norm=attack.norm, keep=attack.keep)


def worst_case(results: Iterable[Attacked], labels: Tensor) -> Attacked:
    """Image by image the result with the highest score where it is normal, the lowest where it is anomalous.

    Args:
        results: At least one; among equal ones the first counts.
        labels: ``(N,)`` bool, True = anomalous.

    Raises:
        ValueError: If a score is NaN: nothing can be said about such a detector.
    """
    candidates = list(results)
    scores = torch.stack([candidate.scores for candidate in candidates])  # (K, N)
    if bool(scores.isnan().any()):
        raise ValueError("the detector gave NaN for an attacked image; correct it, then test again")
    wrong = scores * away(labels).to(scores)
    worst = wrong.amax(dim=0)
    # the first of those that differ by rounding only: which pictures and maps are kept must not depend on it
    winner = (wrong >= worst - 1e-6 * worst.abs()).int().argmax(dim=0)
    index = torch.arange(len(labels), device=winner.device)
    maps = [candidate.maps for candidate in candidates if candidate.maps is not None]
    return Attacked(
        images=torch.stack([candidate.images for candidate in candidates])[winner, index],
        scores=worst * away(labels).to(worst),
        maps=torch.stack(maps)[winner, index] if len(maps) == len(candidates) else None,
    )


def in_bfloat16(scene: Scene) -> Scene:
    """The same images, and detectors that compute in bfloat16."""
    return _seen_through(scene, bfloat16=True)


def averaged(scene: Scene, draws: int) -> Scene:
    """The same images, and detectors that give the mean of several calls."""
    return scene if draws == 1 else _seen_through(scene, draws=draws)


def _seen_through(scene: Scene, **options: Any) -> Scene:
    def again(witness: Witness) -> Witness:
        return Witness(witness.detector, **{"bfloat16": witness.bfloat16, "draws": witness.draws, **options})

    return scene._replace(detector=again(scene.detector), other=None if scene.other is None else again(scene.other))


def _subset(scene: Scene, index: Tensor) -> Scene:
    return scene._replace(
        labels=scene.labels[index],
        masks=scene.masks[index],
        patch_masks=None if scene.patch_masks is None else scene.patch_masks[index],
    )


def goals(scores: NDArray[np.float32], labels: NDArray[np.bool_]) -> NDArray[np.float32] | None:
    """For each image how wrong its score has to be to lose against every clean image of the other class.

    Args:
        scores: Clean scores ``(N,)``.
        labels: ``(N,)`` bool, True = anomalous.

    Returns:
        ``(N,)``: scores of normal images, and scores of anomalous ones times -1; None where a class is missing.
    """
    if labels.all() or not labels.any():
        return None
    beyond = np.where(labels, -scores[~labels].min(), scores[labels].max()).astype(np.float32)
    above: NDArray[np.float32] = np.nextafter(beyond, np.float32(np.inf))
    return above
