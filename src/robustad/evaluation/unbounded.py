"""An attack that may change everything: where even that finds no way, its gradient shows none."""

from __future__ import annotations

import torch
from torch import Tensor

from robustad._random import torch_generator
from robustad.attacks import ScoreObjective, value_and_grad
from robustad.attacks.base import usable
from robustad.attacks.projections import per_image_norm
from robustad.evaluation.patient import Patient
from robustad.evaluation.witness import Witness, away

MIN_CROSSED = 0.95
"""Least share of images that an unbounded attack must carry to its goal."""
MIN_WAY = 0.2
"""Least way of an unbounded attack from a start to its goal, in standard deviations of the clean scores."""
NEAR = 0.15
"""How near its goal an attack must come, likewise: the last bit of the way to a floor of the scores says nothing.

Normal images lie up to 0.13 below what any attack on a good detector reached.
"""

_SIZES = (0.02, 0.005, 0.001, 0.0002)  # of the steps; some scores only yield to small ones, or to another start
_USUAL = 0.005  # what succeeds most often, from some starts only
_RUNS = [
    *((size, False) for size in _SIZES),
    *((size, True) for size in _SIZES),
    *((_USUAL, True), (_USUAL, False)) * 8,
]


def check_unbounded(patient: Patient) -> tuple[bool | None, str, float | None]:
    """Allowed to change everything, the attack makes an image score as wrong as any other test image, or nearly.

    With such a ball the whole cube of images is allowed, so that the restarts begin at other test images, and take
    smaller steps: at images of either class, out of the half of them that is nearer to the goal, but never nearer than
    `MIN_WAY`, since a start that is there by itself would be no success. Half of the
    restarts follow a smooth stand-in for the score, if there is one: a score that is a maximum can be pulled down at
    one place at a time only.
    """
    count = min(16, len(patient.images))
    if len(patient.images) < 2:
        return None, "needs two images", None
    labels = patient.labels[:count]
    scores = patient.clean * away(labels).to(patient.clean)[:, None]  # (count, N): as each of the first ones sees all
    scores[torch.arange(count), torch.arange(count)] = -torch.inf
    goals, crossed = scores.amax(dim=1) - NEAR * patient.spread, torch.zeros_like(labels)
    for start, (length, smooth) in enumerate(_RUNS):
        (rest,) = (~crossed).nonzero(as_tuple=True)
        if len(rest):
            images = patient.images[rest] if start == 0 else _others(patient, rest, goals[rest], start)
            parts = zip(
                *(torch.split(whole, patient.batch_size) for whole in (images, labels[rest], goals[rest])), strict=True
            )
            crossed[rest] = torch.cat([_climb(patient.witness, *part, length=length, smooth=smooth) for part in parts])
    share = float(crossed.float().mean())
    why = (
        f"{share:.0%} of {count} images come within {NEAR:g} standard deviations of the most wrong score of any other "
        f"at ε = 1 (limit {MIN_CROSSED:.0%}), restarts included"
    )
    return share >= MIN_CROSSED, why, share


def _others(patient: Patient, index: Tensor, goals: Tensor, start: int) -> Tensor:
    """A random test image to begin at, for each of the images ``index``; see `check_unbounded` for which."""
    generator = torch_generator(patient.seed, "unbounded", start)
    chosen = []
    for number, goal in zip(index.tolist(), goals.tolist(), strict=True):
        label = patient.labels[number]
        wrong = patient.clean * away(label).to(patient.clean)
        far = wrong <= goal - MIN_WAY * patient.spread
        (pool,) = far.nonzero(as_tuple=True)  # of both classes: of one there may be a single odd image
        pool = pool if len(pool) else index.new_tensor([number])
        pool = pool[wrong[pool].argsort(descending=True)][: (len(pool) + 1) // 2]
        chosen.append(int(pool[int(torch.randint(len(pool), (1,), generator=generator))]))
    return patient.images[chosen]


def _climb(
    witness: Witness,
    images: Tensor,
    labels: Tensor,
    goals: Tensor,
    *,
    length: float,
    smooth: bool = False,
    steps: int = 40,
) -> Tensor:
    """Which images reach their goal on the way up, anywhere in [0, 1].

    Ascent along the normalised gradient with momentum: over long ways signs fill the picture with noise, which by
    itself looks anomalous. ``length`` is the first step as a share of the cube's diagonal; steps shrink to zero.
    ``smooth``: the log-sum-exp of what the score is made of is climbed instead of the score, where it is known.
    """
    reached, sign = torch.zeros_like(labels), away(labels)
    smoothed = smooth and witness.has_local_scores
    seen = (lambda x: witness.local_scores(x).logsumexp(dim=1)) if smoothed else witness.scores
    x, momentum = images.clone(), torch.zeros_like(images)
    stride = length * images[0].numel() ** 0.5
    for step in range(steps):
        _, gradient = value_and_grad(ScoreObjective(seen, labels), x)
        assert witness.seen is not None
        reached |= witness.seen * sign >= goals
        if bool(reached.all()):
            break
        gradient = usable(gradient)
        momentum = 0.8 * momentum + gradient / per_image_norm(gradient)
        x = (x + stride * (1 - step / steps) * momentum / per_image_norm(momentum)).clamp(0, 1)
    return reached
