"""What is seen of a detector while it is attacked: its reported scores, whatever the attack itself maximises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from robustad._precision import autocast_bfloat16
from robustad.attacks import Objective
from robustad.attacks.base import Best
from robustad.types import Prediction

_SHARPNESS = 4.0
"""How far a log-sum-exp over the pixels of a map looks below the highest of them: a fourth of their spread."""


class Witness:
    """A detector that remembers the reported scores of its last call.

    Args:
        detector: Images ``(N, 3, S, S)`` to a `Prediction`. Where it has ``patch_logits`` and ``image_scores``, its
            maps are not computed for an attack that does not look at them.
        bfloat16: Whether it computes in bfloat16; what it gives is float32 all the same.
        draws: Calls whose mean is given, for detectors that draw at random.
    """

    def __init__(self, detector: Any, *, bfloat16: bool = False, draws: int = 1) -> None:
        self.detector, self.bfloat16, self.draws = detector, bfloat16, draws
        self.seen: Tensor | None = None
        self._short = hasattr(detector, "patch_logits") and hasattr(detector, "image_scores") and draws == 1

    def __call__(self, images: Tensor, /) -> Prediction:
        """The full prediction."""
        with self._passes(images):
            scores, maps = checked(self.detector(images), images) if self.draws == 1 else self._mean(images)
        prediction = Prediction(self._given(scores, images), None if maps is None else self._given(maps, images))
        self.seen = prediction.scores.detach()
        return prediction

    def scores(self, images: Tensor) -> Tensor:
        """Reported scores ``(N,)``."""
        if not self._short:
            return self(images).scores
        return one_each(self.detector.image_scores(self.patch_logits(images)), images)

    def patch_logits(self, images: Tensor) -> Tensor:
        """Patch logits ``(N, P)``."""
        with self._passes(images):
            several = [self.detector.patch_logits(images) for _ in range(self.draws)]
            logits = self._given(several[0] if self.draws == 1 else torch.stack(several).mean(0), images)
        with torch.no_grad():
            self.seen = self.detector.image_scores(logits) if self._short else self(images).scores
        return logits

    def local_scores(self, images: Tensor) -> Tensor:
        """What an image score is made of, place by place ``(N, P)``: patch logits, or else the pixels of the map.

        Pixels are in units of a fraction of their spread within the image, since maps have any scale.
        """
        if hasattr(self.detector, "patch_logits"):
            return self.patch_logits(images)
        maps = self(images).anomaly_maps
        assert maps is not None
        pixels = maps.flatten(1)
        spread = pixels.detach().std(dim=1, keepdim=True).clamp_min(torch.finfo(pixels.dtype).tiny ** 0.5)
        return pixels * (_SHARPNESS / spread)

    @property
    def has_local_scores(self) -> bool:
        """Whether there are any."""
        return hasattr(self.detector, "patch_logits") or gives_maps(self.detector)

    def _mean(self, images: Tensor) -> Prediction:
        several = [checked(self.detector(images), images) for _ in range(self.draws)]
        maps = [prediction.anomaly_maps for prediction in several if prediction.anomaly_maps is not None]
        return Prediction(
            torch.stack([prediction.scores for prediction in several]).mean(0),
            torch.stack(maps).mean(0) if len(maps) == len(several) else None,
        )

    def _passes(self, images: Tensor) -> AbstractContextManager[None]:
        return autocast_bfloat16(images.device) if self.bfloat16 else nullcontext()

    def _given(self, values: Tensor, images: Tensor) -> Tensor:
        return values.to(images.dtype) if self.bfloat16 else values


def one_each(scores: Tensor, images: Tensor) -> Tensor:
    """Scores ``(N,)``, or a ValueError."""
    if scores.shape != (len(images),):
        raise ValueError(f"a detector must give one score per image, got {tuple(scores.shape)} for {len(images)}")
    return scores


def gives_maps(detector: Any) -> bool:
    """Whether a detector gives anomaly maps: what its ``has_maps`` says, see `learn_maps`; yes if it says nothing."""
    return bool(getattr(detector, "has_maps", True))


def learn_maps(detector: Any, images: Tensor) -> None:
    """Look at one answer of a detector that does not say whether it gives anomaly maps; from then on it says so."""
    if not hasattr(detector, "has_maps"):
        with frozen(detector), torch.no_grad():
            detector.has_maps = checked(detector(images), images).anomaly_maps is not None


def checked(answer: Any, images: Tensor) -> Prediction:
    """What a detector answered, if it is a `Prediction` that fits its images.

    Raises:
        TypeError: If it is something else.
        ValueError: If it has other shapes.
    """
    if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[0], Tensor):
        raise TypeError(
            f"a detector must answer with `Prediction(scores, anomaly_maps)`, got {type(answer).__name__}; a function "
            "that gives scores becomes a detector by `robustad.adapters.from_callable`"
        )
    scores, maps = one_each(answer[0], images), answer[1]
    if maps is not None and (not isinstance(maps, Tensor) or maps.shape != (len(images), *images.shape[-2:])):
        found = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise ValueError(f"anomaly maps must be {(len(images), *images.shape[-2:])} or None, got {found}")
    return Prediction(scores, maps)


class Judged:
    """An objective that keeps, image by image, the input whose reported score was the worst of all that it was given.

    An attack on a stand-in for the score (a smoother or wider one) may pass through better images than the one that
    maximises the stand-in.

    Args:
        objective: What the attack maximises.
        witness: The detector that the objective calls.
        labels: ``(N,)`` bool, True = anomalous.
        images: Clean images ``(N, 3, S, S)``, kept as long as nothing is worse.
        goals: How wrong a reported score ``(N,)`` has to be for its image to be done with: its value is infinite from
            then on, whatever the objective says, and ``goals`` of the attack are to be `done`. None = never.
    """

    def __init__(
        self, objective: Objective, witness: Witness, labels: Tensor, images: Tensor, goals: Tensor | None = None
    ) -> None:
        self.objective, self.witness, self._goals = objective, witness, goals
        self._away = away(labels)
        self._kept = Best(images.detach().clone(), torch.full((len(images),), -torch.inf, device=images.device))

    @property
    def done(self) -> Tensor | None:
        """Values ``(N,)`` that say that an image is done with; None = none ever is."""
        return None if self._goals is None else torch.full_like(self._goals, torch.inf)

    @property
    def images(self) -> Tensor:
        """What was kept ``(N, 3, S, S)``; an error if a reported score was NaN."""
        self._kept.check()
        return self._kept.images

    def __call__(self, images: Tensor, index: Tensor) -> Tensor:
        """The objective's own values ``(n,)``."""
        values = self.objective(images, index)
        assert self.witness.seen is not None
        wrong = self.witness.seen.to(self._kept.values) * self._away[index]
        self._kept.update(images.detach(), wrong, index)
        if self._goals is None:
            return values
        return values.masked_fill(self._kept.values[index] >= self._goals[index], torch.inf)


def away(labels: Tensor) -> Tensor:
    """+1 where an attack wants the score to rise (normal images), -1 where it wants it to fall."""
    return torch.where(labels, -1.0, 1.0)


@contextmanager
def frozen(*modules: Any) -> Iterator[None]:
    """Detectors in eval mode with frozen parameters; afterwards as they were."""
    found = [module for module in modules if isinstance(module, nn.Module)]
    modes = [(part, part.training) for module in found for part in module.modules()]
    wanted = [(parameter, parameter.requires_grad) for module in found for parameter in module.parameters()]
    try:
        for module in found:
            module.eval().requires_grad_(False)
        yield
    finally:
        for part, mode in modes:
            part.training = mode
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)


def gradient_lack(detector: Any) -> str:
    """Why only attacks that use no gradient apply to a detector; empty = its gradients are to be used.

    Detectors without gradients say so: ``differentiable`` is False, and ``no_gradient`` may hold the reason.
    """
    if getattr(detector, "differentiable", True):
        return ""
    return getattr(detector, "no_gradient", "") or "the detector gives no gradient"
