"""Whether attacked figures can be believed: a detector whose gradient lies looks robust and is not.

Each check answers with a verdict; each is known to fail on a detector that was broken on purpose (see the tests).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from robustad._devices import device_of
from robustad._random import torch_generator
from robustad.attacks import PGD, Attack, ScoreObjective, Square, value_and_grad
from robustad.attacks.base import usable
from robustad.attacks.projections import per_image_norm
from robustad.evaluation.slopes import MAX_FD_ERROR, slope_errors
from robustad.evaluation.witness import Witness, away, frozen, gradient_lack
from robustad.metrics import auroc

EDITION = 3
"""Of the checks: verdicts of an earlier one are not comparable, and are made again."""
MAX_RISE = 0.01
"""Largest rise of an attacked AUROC where it should fall."""
MIN_CROSSED = 0.95
"""Least share of images that an unbounded attack must carry beyond all others."""
MAX_WRONG = 0.25
"""Largest share of the images of a class whose gradient may be far from the slope: some lie on a kink."""
ROUNDED = 5
"""How much farther a gradient may be from a slope that is known in float32 only."""
MIN_WAY = 0.2
"""Least way of an unbounded attack from a start to its goal, in standard deviations of the clean scores."""
MAX_BLACK_BOX_GAIN = 0.05
"""Largest lead of the black box over the white box, in standard deviations of the clean scores."""

_SIZES = (0.02, 0.005, 0.001, 0.0002)  # of the steps; some scores only yield to small ones, or to another start
_USUAL = 0.005  # what succeeds most often, from some starts only
_RUNS = [
    *((size, False) for size in _SIZES),
    *((size, True) for size in _SIZES),
    *((_USUAL, True), (_USUAL, False)) * 8,
]


class Verdict(NamedTuple):
    """Outcome of one check.

    Attributes:
        name: What was checked.
        passed: Outcome; None = it could not be run.
        why: What was measured, and against which limit.
        figure: The measured figure; None = none.
    """

    name: str
    passed: bool | None
    why: str
    figure: float | None = None


class Patient(NamedTuple):
    """What is examined.

    Attributes:
        witness: The detector.
        images: ``(N, 3, S, S)`` in [0, 1].
        labels: ``(N,)`` bool, True = anomalous.
        clean: Scores ``(N,)`` of the images.
        epsilon: Radius at which attacks are compared.
        seed: Seed of random directions and of the black box.
    """

    witness: Witness
    images: Tensor
    labels: Tensor
    clean: Tensor
    epsilon: float
    seed: int

    def attack(self, attack: Attack, epsilon: float, count: int | None = None) -> Tensor:
        """Scores ``(count,)`` of the first images under an attack on the reported score."""
        images, labels = self.images[:count], self.labels[:count]
        generator = torch_generator(self.seed, "health")
        objective = ScoreObjective(self.witness.scores, labels)
        return self.score(attack(objective, images, epsilon=epsilon, generator=generator))

    def score(self, images: Tensor) -> Tensor:
        """Scores without a gradient."""
        with torch.no_grad():
            return self.witness(images).scores.float()


def check_health(
    detector: Any,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float = 2 / 255,
    seed: int = 0,
    on_check: Callable[[str], None] | None = None,
) -> list[Verdict]:
    """Examine a detector.

    Args:
        detector: Images ``(N, 3, S, S)`` to a `Prediction`.
        images: A few dozen test images of both classes, in [0, 1], mixed: some checks take the first ones only.
        labels: ``(N,)`` bool, True = anomalous.
        epsilon: A radius at which the detector is neither unharmed nor beaten altogether.
        seed: Seed of random directions and of the black box.
        on_check: Called with the name of each check before it is run.

    Returns:
        One verdict per check, in the order of `CHECKS`.

    Raises:
        TypeError: If the detector does not answer with a `Prediction`.
        ValueError: If its answers have other shapes, or scores are no finite numbers.
    """
    device = device_of(detector)
    images, labels = images.to(device, torch.float32), labels.to(device)
    verdicts = []
    with frozen(detector):
        witness = Witness(detector)
        with torch.no_grad():
            clean = witness(images).scores.float()
        if not bool(clean.isfinite().all()):
            raise ValueError(f"the detector scores {int((~clean.isfinite()).sum())} images with NaN or infinity")
        patient = Patient(witness, images, labels, clean, epsilon, seed)
        for name, check in CHECKS.items():
            if on_check is not None:
                on_check(name)
            verdicts.append(_run(name, check, patient))
    return verdicts


def _run(name: str, check: Callable[[Patient], tuple[bool | None, str, float | None]], patient: Patient) -> Verdict:
    if name not in WITHOUT_GRADIENT and gradient_lack(patient.witness.detector):
        return _blind(name, patient)
    try:
        return Verdict(name, *check(patient))
    except RuntimeError as error:
        if any(words in str(error) for words in _NO_GRADIENT):
            return Verdict(name, False, "the score has no gradient with respect to the pixels")
        raise


def _blind(name: str, patient: Patient) -> Verdict:
    """The verdict on a detector that says that it has no gradient: no white-box figure is there to be believed."""
    why = f"no gradient: black box only ({gradient_lack(patient.witness.detector)})"
    return Verdict(name, False if name == "Gradient is there" else None, why)


def check_repeatable(patient: Patient) -> tuple[bool | None, str, float | None]:
    """The same image has the same score, whenever and in whatever company it is scored."""
    again = patient.score(patient.images)
    if not torch.equal(again, patient.clean):
        gap = float((again - patient.clean).abs().max())
        return False, f"{_DIFFER} {gap:.3g}", gap
    few = min(8, len(patient.images))
    alone = torch.cat([patient.score(patient.images[i : i + 1]) for i in range(few)])
    gap = float((alone - patient.clean[:few]).abs().max()) / _spread(patient)
    return gap < 1e-3, f"two calls equal; company changes a score by {gap:.1e} standard deviations (limit 1e-3)", gap


def check_gradient(patient: Patient) -> tuple[bool | None, str, float | None]:
    """No image has a zero gradient, or one that is no number."""
    count = len(patient.images)
    _, gradient = value_and_grad(ScoreObjective(patient.witness.scores, patient.labels), patient.images)
    norms = gradient.flatten(1).norm(dim=1)
    share = float(((norms > 0) & norms.isfinite()).float().mean())
    return (
        share == 1.0,
        f"{share:.0%} of {count} images have one (limit 100 %); median norm {norms.median():.3g}",
        share,
    )


def check_finite_differences(patient: Patient) -> tuple[bool | None, str, float | None]:
    """The gradient is the slope of the score, in float64 along random directions.

    It is asked at random places of the ball, where attacks climb: an image itself may lie on a kink that they leave
    with their first step, as grey images do wherever a detector reads hue and saturation. What cannot be computed in
    float64 is compared over longer ways in float32, with `ROUNDED` times the limit.
    """
    detector = patient.witness.detector
    try:
        if not isinstance(detector, nn.Module):
            raise TypeError("not a module")
        return _compare_slopes(patient, Witness(copy.deepcopy(detector).double()), torch.float64, step=1e-5)
    except (RuntimeError, TypeError) as error:
        if any(words in str(error) for words in _NO_GRADIENT):
            raise
    return _compare_slopes(patient, patient.witness, torch.float32, step=0.05, ease=ROUNDED)


def _compare_slopes(
    patient: Patient, exact: Witness, dtype: torch.dtype, *, step: float, ease: int = 1
) -> tuple[bool, str, float]:
    count = min(16, len(patient.images))
    generator = torch_generator(patient.seed, "directions")
    places = torch.rand(patient.images[:count].shape, generator=generator, dtype=torch.float64).to(
        patient.images.device
    )
    # Away from the borders, so that both neighbours are images.
    images = (patient.images[:count] + patient.epsilon * (2 * places - 1)).clamp(1e-4, 1 - 1e-4).to(dtype)
    objective = ScoreObjective(exact.scores, patient.labels[:count])
    _, gradient = value_and_grad(objective, images)
    index = torch.arange(count, device=images.device)
    error, limit = (
        slope_errors(lambda x: objective(x, index), images, gradient, generator, step=step),
        ease * MAX_FD_ERROR,
    )
    share = max(float(part.mean()) for part in _by_class(~(error < limit), patient))
    why = f"off by {limit:.0%} or more at {share:.0%} of the images of a class (limit {MAX_WRONG:.0%}); {count} images"
    if dtype != torch.float64:
        why += "; in float32, since float64 is not possible"
    return share <= MAX_WRONG, why, share


def _by_class(values: Tensor, patient: Patient) -> list[Tensor]:
    """Values ``(n,)`` of the first images, normal and anomalous ones apart: what is right of one may hide the other."""
    labels = patient.labels[: len(values)]
    return [values[labels == label].double() for label in (False, True) if bool((labels == label).any())]


def check_monotone_epsilon(patient: Patient) -> tuple[bool | None, str, float | None]:
    """A larger ball never helps the detector."""
    radii = [share * patient.epsilon for share in (0.5, 1, 2)]
    return _monotone(patient, "ε", [(f"{255 * e:g}/255", PGD(steps=5, keep="last"), e) for e in radii])


def check_monotone_steps(patient: Patient) -> tuple[bool | None, str, float | None]:
    """More steps never help the detector."""
    return _monotone(patient, "steps", [(str(n), PGD(steps=n, keep="last"), patient.epsilon) for n in (1, 3, 10)])


def _monotone(
    patient: Patient, what: str, stages: Sequence[tuple[str, PGD, float]]
) -> tuple[bool | None, str, float | None]:
    if bool(patient.labels.all()) or not bool(patient.labels.any()):
        return None, "needs normal and anomalous images", None
    figures = [auroc(patient.clean, patient.labels)]
    figures += [auroc(patient.attack(attack, epsilon), patient.labels) for _, attack, epsilon in stages]
    rise = max(after - before for before, after in pairwise(figures))
    course = ", ".join(f"{name}: {figure:.3f}" for (name, _, _), figure in zip(stages, figures[1:], strict=True))
    why = f"largest rise {max(0.0, rise):.3f} (limit {MAX_RISE}); clean {figures[0]:.3f}, at {what} {course}"
    return rise <= MAX_RISE, why, max(0.0, rise)


def check_unbounded(patient: Patient) -> tuple[bool | None, str, float | None]:
    """Allowed to change everything, the attack makes an image score beyond any other test image.

    With such a ball the whole cube of images is allowed, so that the restarts begin at other test images, and take
    smaller steps: at images of the other class if possible, out of the half of them that is nearer to the goal, but
    never nearer than `MIN_WAY`, since a start that scores beyond all others by itself would be no success. Half of the
    restarts follow a smooth stand-in for the score, if there is one: a score that is a maximum can be pulled down at
    one place at a time only.
    """
    count = min(16, len(patient.images))
    labels = patient.labels[:count]
    scores = patient.clean * away(labels).to(patient.clean)[:, None]  # (count, N): as each of the first ones sees all
    scores[torch.arange(count), torch.arange(count)] = -torch.inf
    goals, crossed = scores.amax(dim=1), torch.zeros_like(labels)
    for start, (length, smooth) in enumerate(_RUNS):
        (rest,) = (~crossed).nonzero(as_tuple=True)
        if len(rest):
            images = patient.images[rest] if start == 0 else _others(patient, rest, goals[rest], start)
            crossed[rest] = _climb(
                patient.witness,
                images,
                labels[rest],
                goals[rest],
                length=length,
                smooth=smooth,
            )
    share = float(crossed.float().mean())
    why = f"{share:.0%} of {count} images score beyond all others at ε = 1 (limit {MIN_CROSSED:.0%}), restarts included"
    return share >= MIN_CROSSED, why, share


def _others(patient: Patient, index: Tensor, goals: Tensor, start: int) -> Tensor:
    """A random test image to begin at, for each of the images ``index``; see `check_unbounded` for which."""
    generator = torch_generator(patient.seed, "unbounded", start)
    chosen = []
    for number, goal in zip(index.tolist(), goals.tolist(), strict=True):
        label = patient.labels[number]
        wrong = patient.clean * away(label).to(patient.clean)
        far = wrong <= goal - MIN_WAY * _spread(patient)
        (pool,) = (far & (patient.labels != label)).nonzero(as_tuple=True)
        pool = pool if len(pool) else far.nonzero(as_tuple=True)[0]
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


def check_black_box(patient: Patient) -> tuple[bool | None, str, float | None]:
    """An attack that uses no gradient does not beat one that does."""
    count = min(24, len(patient.images))
    sign = away(patient.labels[:count]).to(patient.clean)
    clean = patient.clean[:count] * sign
    white = patient.attack(PGD(steps=10), patient.epsilon, count) * sign - clean
    black = patient.attack(Square(queries=200, first_share=0.3), patient.epsilon, count) * sign - clean
    lead = max(float(part.mean()) for part in _by_class(black - white, patient)) / _spread(patient)
    why = (
        f"200 queries move the score by {float(black.mean()) / _spread(patient):.2f} standard deviations, the gradient "
        f"by {float(white.mean()) / _spread(patient):.2f}; lead of the queries {lead:.2f} in the worse class (limit "
        f"{MAX_BLACK_BOX_GAIN}); {count} images"
    )
    return lead <= MAX_BLACK_BOX_GAIN, why, lead


class Doubts(NamedTuple):
    """What speaks against figures of attacks that use gradients.

    Attributes:
        reasons: Failed checks: name and what was measured; empty = nothing.
        no_gradient: Whether there is no gradient at all.
        random: Whether two calls on the same images give different scores.
    """

    reasons: tuple[str, ...]
    no_gradient: bool
    random: bool = False

    @classmethod
    def of(cls, verdicts: Sequence[Verdict]) -> Doubts:
        """From the outcome of the checks."""
        failed = [v for v in verdicts if v.passed is False]
        cut = any(v.name == _GRADIENT and v.figure is None for v in failed)
        random = any(v.name == _REPEATABLE and v.why.startswith(_DIFFER) for v in failed)
        return cls(tuple(f"{v.name}: {v.why}" for v in failed), cut, random)


def _spread(patient: Patient) -> float:
    """Standard deviation of the clean scores, never zero."""
    return max(float(patient.clean.std(correction=0)), 1e-12)


_REPEATABLE, _GRADIENT, _DIFFER = "Repeatable score", "Gradient is there", "two calls differ by up to"
CHECKS: dict[str, Callable[[Patient], tuple[bool | None, str, float | None]]] = {
    _REPEATABLE: check_repeatable,
    _GRADIENT: check_gradient,
    "Gradient is right": check_finite_differences,
    "More ε, more harm": check_monotone_epsilon,
    "More steps, more harm": check_monotone_steps,
    "Unbounded attack wins": check_unbounded,
    "Black box not stronger": check_black_box,
}
"""The checks, by the name that the report shows."""
_NO_GRADIENT = ("does not require grad", "not have been used in the graph", "Can't call numpy() on Tensor")
"""What torch says of a score that does not depend differentiably on the pixels."""
WITHOUT_GRADIENT = (_REPEATABLE,)
"""Checks that need no gradient."""
