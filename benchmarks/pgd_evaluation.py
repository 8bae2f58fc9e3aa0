"""Claim "pgd evaluation": a long attack as released code makes it, against ours, on the same network.

The literal loop runs in float32, back-propagates into all weights and throws those gradients away, and takes the whole
batch to the last step. Ours takes pixel gradients only, keeps the best iterate, climbs in bfloat16 where the hardware
has it and ends in float32, and leaves images alone that rank behind all clean images of the other class. Before
anything is timed, both must attack equally well.

An untrained detector: what a pass takes does not depend on what its weights are. How many images finish does, so that
the claim says it: nearly all of a detector that is not robust, few of one that is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.pseudo_anomalies import photographs
from benchmarks.timing import alternate_all
from benchmarks.training_step import published_network
from robustad._precision import bfloat16_pays
from robustad.attacks import APGD, PGD, ScoreObjective
from robustad.detectors import PatchGuard, PatchGuardConfig
from robustad.evaluation import Batch, BenchmarkRow, Run, Scene
from robustad.evaluation.ensemble import ROUNDING, goals
from robustad.evaluation.witness import Witness, away, frozen
from robustad.synthesis import PseudoAnomalies
from robustad.training import recipe

NORMALS = 64
EPSILON = 2 / 255
_STRENGTH = 0.97  # share of the literal attack's gain that ours must have at least


class Subject(NamedTuple):
    """Whom a long attack is run on.

    Attributes:
        network: How rows call it.
        config: An untrained detector's.
        batch: Images.
        steps: Of the attack.
    """

    network: str
    config: PatchGuardConfig
    batch: int
    steps: int


def subjects(*, quick: bool) -> list[Subject]:
    """The default detector, whose products are small, and the published architecture; quick: smaller and shorter."""
    default = recipe("default").model
    assert isinstance(default, PatchGuardConfig)
    network, backbone, size = published_network(quick=quick)
    published = dataclasses.replace(PatchGuardConfig.published(image_size=size), backbone=backbone)
    return [
        Subject(f"{default.image_size} px", default, 32, 20 if quick else 100),
        Subject(network, published, 8 if quick else 4, 20 if quick else 100),
    ]


def measure(*, quick: bool) -> list[BenchmarkRow]:
    """PGD on the reported score."""
    return [row for subject in subjects(quick=quick) for row in _rows(subject)]


def _rows(subject: Subject) -> list[BenchmarkRow]:
    images, labels = made_images(subject.batch, subject.config.image_size)
    detector = _detector(subject.config)
    run, auto = (Run(goal="score", attack=kind(steps=subject.steps)) for kind in (PGD, APGD))
    masks = torch.ones(images.shape[0], *images.shape[2:], dtype=torch.bool)
    scene = Scene(Witness(detector), labels, masks)
    with torch.no_grad():
        scores = detector(images).scores
    beyond = goals(scores.numpy(), labels.numpy())
    assert beyond is not None
    limits, rounding = torch.from_numpy(beyond), ROUNDING * float(scores.abs().max())

    def ours(*, bfloat16: bool, drop: bool, attack: Run = run) -> Tensor:
        with frozen(detector):
            batch = Batch(scene, images, bfloat16=bfloat16, rounding=rounding, goals=limits if drop else None)
            return batch.run(attack, EPSILON).scores

    def literal() -> Tensor:
        return _literal(detector, images, labels, run.attack.passes - 1)

    finished = _check_equal(literal(), ours(bfloat16=bfloat16_pays(), drop=False), scores, labels, limits)
    title = f"pgd evaluation: {run.attack.effort} at {subject.network}, batch {subject.batch}, literal against"
    half, dropped = bfloat16_pays(), f"the {finished} of {subject.batch} images that are finished dropped"
    best = "bfloat16" if half else "float32"
    variants: dict[str, Callable[[], Tensor]] = {
        "ours in float32": lambda: ours(bfloat16=False, drop=False),
        f"ours in {best}": lambda: ours(bfloat16=half, drop=False),  # the same where that is float32
        f"ours in {best}, {dropped}": lambda: ours(bfloat16=half, drop=True),
        f"our Auto-PGD in {best}, of as many steps": lambda: ours(bfloat16=half, drop=False, attack=auto),
    }
    pairs = alternate_all(literal, list(variants.values()), rounds=3)
    work = subject.batch * run.attack.steps
    return [pair.row(f"{title} {name}", per=work, unit="steps/s") for pair, name in zip(pairs, variants, strict=True)]


def made_images(count: int, size: int) -> tuple[Tensor, Tensor]:
    """Crops of photographs, every second one with a pseudo-anomaly, and their labels."""
    images = torch.from_numpy(photographs(count, size)).permute(0, 3, 1, 2).float() / 255  # (N,H,W,3) -> (N,3,H,W)
    anomalous, _ = PseudoAnomalies()(images, torch.ones(count, size, size) > 0, seeds=range(count))
    labels = torch.arange(count) % 2 == 1
    return torch.where(labels[:, None, None, None], anomalous, images), labels


def _detector(config: PatchGuardConfig) -> PatchGuard:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        detector = PatchGuard(config).eval()
    pixels = torch.from_numpy(photographs(NORMALS, config.image_size)).permute(0, 3, 1, 2).float() / 255
    detector.prepare(pixels)
    return detector


def _literal(detector: PatchGuard, images: Tensor, labels: Tensor, steps: int) -> Tensor:
    """Scores after the attack."""

    def scores(x: Tensor) -> Tensor:
        # not `patch_logits`, which replaces operations that are slow on a CPU
        return detector.image_scores(detector.discriminator(detector.features(detector.normalise(x)).tokens))

    objective = ScoreObjective(scores, labels)
    index, x = torch.arange(len(images)), images
    for _ in range(steps):
        x = x.detach().requires_grad_(True)
        objective(x, index).sum().backward()  # into the weights, too: as released
        assert x.grad is not None
        moved = x.detach() + 2.5 * EPSILON / steps * x.grad.sign()
        x = (images + (moved - images).clamp(-EPSILON, EPSILON)).clamp(0, 1)
    detector.zero_grad()
    with torch.no_grad():
        return detector(x.detach()).scores


def _check_equal(literal: Tensor, ours: Tensor, clean: Tensor, labels: Tensor, limits: Tensor) -> int:
    """Ours moves scores as far as the literal loop; how many images it finishes."""
    gained, expected = ((scores - clean) * away(labels) for scores in (ours, literal))
    if bool((gained < 0).any()) or gained.sum() < _STRENGTH * expected.sum():
        shares = f"{float(gained.mean()):.4g} per score, the literal loop {float(expected.mean()):.4g}"
        raise RuntimeError(f"the attack of the fast way is weaker: it gains {shares}; nothing was timed")
    return int((ours * away(labels) >= limits).sum())
