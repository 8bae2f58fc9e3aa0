"""What attacks drive the wrong way, as data: goals by name, and what an attack may know of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from robustad.attacks import MapObjective, Objective, PublishedObjective, RegionObjective, ScoreObjective
from robustad.evaluation.witness import Witness, gives_maps

PLACE = 0.25
"""Side of the square in the middle of an image where ``invent`` wants a defect, as a share of the image's side."""
TOP_SHARE = 0.1
"""Share of the patches, or of the map's pixels, whose mean ``top10-pgd`` moves."""


class Scene(NamedTuple):
    """What an attack may know of the images of a batch.

    Attributes:
        detector: The detector under attack.
        labels: ``(N,)`` bool, True = anomalous.
        masks: ``(N, S, S)`` bool; an anomalous image whose mask is not known counts as anomalous everywhere.
        patch_masks: The same for patches ``(N, P)``; None for detectors without patch logits.
        other: The detector that ``transfer`` attacks instead.
    """

    detector: Witness
    labels: Tensor
    masks: Tensor
    patch_masks: Tensor | None = None
    other: Witness | None = None


def _score(scene: Scene) -> Objective:
    return ScoreObjective(scene.detector.scores, scene.labels)


def _published(scene: Scene) -> Objective:
    assert scene.patch_masks is not None
    return PublishedObjective(scene.detector.patch_logits, scene.patch_masks)


def _log_sum_exp(scene: Scene) -> Objective:
    return ScoreObjective(lambda images: scene.detector.local_scores(images).logsumexp(dim=1), scene.labels)


def _top_share(scene: Scene) -> Objective:
    def top(images: Tensor) -> Tensor:
        local = scene.detector.local_scores(images)
        return local.topk(max(1, round(TOP_SHARE * local.shape[1])), dim=1).values.mean(dim=1)

    return ScoreObjective(top, scene.labels)


def _map(scene: Scene) -> Objective:
    return MapObjective(scene.detector, scene.masks)


def _hide(scene: Scene) -> Objective:
    return RegionObjective(scene.detector, scene.masks & scene.labels[:, None, None], "hide")


def _invent(scene: Scene) -> Objective:
    size = scene.masks.shape[-1]
    first, side = round(size * (1 - PLACE) / 2), max(1, round(size * PLACE))
    middle = torch.zeros_like(scene.masks)
    middle[:, first : first + side, first : first + side] = True
    known = scene.labels & ~scene.masks.flatten(1).all(dim=1)  # of an image without a mask nothing is
    return RegionObjective(scene.detector, middle & ~(scene.masks & known[:, None, None]), "invent")


def _transfer(scene: Scene) -> Objective:
    assert scene.other is not None
    return ScoreObjective(scene.other.scores, scene.labels)


LOCAL = "patch logits or anomaly maps"
"""What a detector must have for attacks on all places of an image at once."""


class Goal(NamedTuple):
    """One way to mislead a detector.

    Attributes:
        build: Makes the objective for a batch.
        needs: What the detector must have: ``scores``, ``patch logits``, ``anomaly maps``, one of these two, or
            ``another detector``.
        text: What is maximised, for readers.
    """

    build: Callable[[Scene], Objective]
    needs: str
    text: str


GOALS: dict[str, Goal] = {
    "score": Goal(_score, "scores", "the reported score"),
    "published": Goal(_published, "patch logits", "mean logit of normal minus mean logit of anomalous patches"),
    "lse": Goal(_log_sum_exp, LOCAL, "log-sum-exp of the patch logits, or of the map's pixels"),
    "top10": Goal(_top_share, LOCAL, "mean of the highest 10 % of the patch logits, or of the map's pixels"),
    "map": Goal(_map, "anomaly maps", "mean of the map over normal minus mean over anomalous pixels"),
    "hide": Goal(_hide, "anomaly maps", "the map over anomalous pixels, down; images without any stay as they are"),
    "invent": Goal(_invent, "anomaly maps", "the map over a square in the middle, up, of all images"),
    "transfer": Goal(_transfer, "another detector", "the score of another detector"),
}


def lacks(need: str, detector: Any, has_other: bool) -> str | None:
    """Why a detector does not allow a goal that has such a ``need``; None = it does."""
    if need == "patch logits" and not hasattr(detector, "patch_logits"):
        return "the detector has no patch logits"
    if need == LOCAL and not Witness(detector).has_local_scores:
        return "the detector has neither patch logits nor anomaly maps"
    if need == "anomaly maps" and not gives_maps(detector):
        return "the detector has no anomaly maps"
    if need == "another detector" and not has_other:
        return "no other detector was given"
    return None
