"""Whether attacked figures can be believed: a detector whose gradient lies looks robust and is not.

Each check answers with a verdict; each is known to fail on a detector that was broken on purpose (see the tests).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from robustad._devices import device_of
from robustad._random import torch_generator
from robustad.attacks import PGD, Square, value_and_grad
from robustad.evaluation.patient import Patient
from robustad.evaluation.slopes import MAX_FD_ERROR, slopes
from robustad.evaluation.unbounded import check_unbounded
from robustad.evaluation.witness import Witness, away, frozen, gradient_lack
from robustad.metrics import auroc

EDITION = 10
"""Of the checks: verdicts of an earlier one are not comparable, and are made again."""
MAX_RISE = 0.01
"""Largest rise of an attacked AUROC where it should fall."""
MAX_WRONG, MAX_ALWAYS = 0.25, 0.125
"""Largest share of the places, and of the images at all of their places, where the gradient may be far from the slope.

Some places lie on a kink. Of each class by itself.
"""
ROUNDED = 5
"""How much farther a gradient may be from a slope that is known in float32 only."""
MAX_LEAD, MAX_AHEAD = 0.05, 0.25
"""Largest lead of the black box, as a share of what the stronger one of both does, and of the images where it leads so.

Of each class by itself: what the gradient does to some images does not make up for others where it is of no use.
"""

_STILL = 1e-3  # of the spread of clean scores: less than that is no movement, and nobody leads by it
_PLACES = 3  # around each image, where its gradient is compared with the slope


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


def check_health(
    detector: Any,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float = 2 / 255,
    seed: int = 0,
    batch_size: int = 32,
    on_check: Callable[[str], None] | None = None,
) -> list[Verdict]:
    """Examine a detector.

    Args:
        detector: Images ``(N, 3, S, S)`` to a `Prediction`.
        images: A few dozen test images of both classes, in [0, 1], mixed: some checks take the first ones only.
        labels: ``(N,)`` bool, True = anomalous.
        epsilon: A radius at which the detector is neither unharmed nor beaten altogether.
        seed: Seed of random directions and of the black box.
        batch_size: Images of a pass, which bounds the memory.
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
            clean = torch.cat([witness(part).scores.float() for part in torch.split(images, batch_size)])
        if not bool(clean.isfinite().all()):
            raise ValueError(f"the detector scores {int((~clean.isfinite()).sum())} images with NaN or infinity")
        patient = Patient(witness, images, labels, clean, epsilon, seed, batch_size)
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
    return Verdict(name, False if name == _GRADIENT else None, why)


def check_repeatable(patient: Patient) -> tuple[bool | None, str, float | None]:
    """The same images have the same scores whenever they are scored."""
    gap = float((patient.score(patient.images) - patient.clean).abs().max())
    return gap == 0, f"two calls differ by up to {gap:.3g} (limit 0)", gap


def check_company(patient: Patient) -> tuple[bool | None, str, float | None]:
    """An image has the same score in whatever company it is scored."""
    few = min(8, len(patient.images))
    alone = patient._replace(batch_size=1).score(patient.images[:few])
    beside = patient.clean if patient.batch_size > 1 else patient._replace(batch_size=few).score(patient.images[:few])
    gap = float((alone - beside[:few]).abs().max()) / patient.spread
    return gap < 1e-3, f"company changes a score by up to {gap:.1e} standard deviations (limit 1e-3)", gap


def check_gradient(patient: Patient) -> tuple[bool | None, str, float | None]:
    """No image has a zero gradient, or one that is no number."""
    count = len(patient.images)
    norms = patient.gradient(patient.witness, patient.images)[1].flatten(1).norm(dim=1)
    share = float(((norms > 0) & norms.isfinite()).float().mean())
    return (
        share == 1.0,
        f"{share:.0%} of {count} images have one (limit 100 %); median norm {norms.median():.3g}",
        share,
    )


def check_finite_differences(patient: Patient) -> tuple[bool | None, str, float | None]:
    """The gradient is the slope of the score, in float64 along random directions.

    It is asked at random places of the ball, where attacks climb: an image itself may lie on a kink that they leave
    with their first step, as grey images do wherever a detector reads hue and saturation. Honest gradients are off at a
    few places, and of no image at all of them. What does not compute in float64 is compared over longer ways in
    float32, with `ROUNDED` times the limit, and as far as rounding allows.
    """
    exact = _in_float64(patient)
    if exact is not None:
        return _compare_slopes(patient, exact, torch.float64, step=1e-5)
    return _compare_slopes(patient, patient.witness, torch.float32, step=0.05, ease=ROUNDED)


def _in_float64(patient: Patient) -> Witness | None:
    """A copy that computes in float64; None = it cannot, or rounds on the way."""
    detector, images = patient.witness.detector, patient.images[: min(16, len(patient.images))]
    try:
        exact = Witness(copy.deepcopy(detector).double())
        scores, _ = value_and_grad(lambda x, _: exact.scores(x), images[: patient.batch_size].double())
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, AttributeError) as error:
        if any(words in str(error) for words in _NO_GRADIENT):
            raise
        return None
    return None if scores.dtype != torch.float64 or torch.equal(scores, scores.float().double()) else exact


def _compare_slopes(
    patient: Patient, witness: Witness, dtype: torch.dtype, *, step: float, ease: int = 1
) -> tuple[bool | None, str, float | None]:
    count, limit = min(16, len(patient.images)), ease * MAX_FD_ERROR
    generator = torch_generator(patient.seed, "directions")
    sign, wrong, known = away(patient.labels[:count]), list[Tensor](), list[Tensor]()
    for _ in range(_PLACES):
        noise = torch.rand(patient.images[:count].shape, generator=generator, dtype=torch.float64)
        # to its type first: not every device has float64
        moved = patient.images[:count].to(dtype) + patient.epsilon * (2 * noise - 1).to(dtype).to(patient.images.device)
        images = moved.clamp(1e-4, 1 - 1e-4)  # away from the borders: both neighbours are images
        values, gradient = patient.gradient(witness, images)
        score: Callable[[Tensor], Tensor] = lambda x: sign * patient.batched(witness.scores, x)  # noqa: E731
        slope, claimed = slopes(score, images, gradient, generator, step=step)
        larger = torch.maximum(slope.abs(), claimed.abs())
        known.append(~(limit * larger <= torch.finfo(dtype).eps * values.abs() / step))
        wrong.append(known[-1] & ~((slope - claimed).abs() < limit * larger))
    asked, off = (torch.stack(found).cpu().double().sum(0) for found in (known, wrong))
    if min(float(part.mean()) for part in patient.by_class(asked)) < _PLACES / 2:
        return None, "rounding hides the slope: the scores are too large for their differences", None
    often = max(float(part.mean()) for part in patient.by_class(off / asked.clamp_min(1)))
    always = max(float(part.mean()) for part in patient.by_class((asked > 0) & (off == asked)))
    why = (
        f"off by {limit:.0%} or more at {often:.0%} of the places of a class (limit {MAX_WRONG:.0%}), at all places of "
        f"{always:.0%} of its images (limit {MAX_ALWAYS:.0%}); {count} images, {_PLACES} places each"
    )
    if dtype != torch.float64:
        why += "; in float32, since float64 is not possible"
    return often <= MAX_WRONG and always <= MAX_ALWAYS, why, often


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


def check_black_box(patient: Patient) -> tuple[bool | None, str, float | None]:
    """An attack that uses no gradient does not beat one that does."""
    count = min(24, len(patient.images))
    sign = away(patient.labels[:count]).to(patient.clean)
    clean = patient.clean[:count] * sign
    white = patient.attack(PGD(steps=10), patient.epsilon, count) * sign - clean
    black = patient.attack(Square(queries=200, first_share=0.3), patient.epsilon, count) * sign - clean
    stronger, least = torch.maximum(black, white), _STILL * patient.spread
    pairs = list(zip(patient.by_class(black - white), patient.by_class(stronger), strict=True))
    lead = max(float(gap.mean() / most.mean().clamp_min(least)) for gap, most in pairs)
    ahead = max(float((gap > MAX_LEAD * most.clamp_min(least)).double().mean()) for gap, most in pairs)
    why = (
        f"200 queries move the score by {float(black.mean()) / patient.spread:.2f} standard deviations, the gradient "
        f"by {float(white.mean()) / patient.spread:.2f}; in the worse class the queries lead by {lead:.0%} (limit "
        f"{MAX_LEAD:.0%}), and at {ahead:.0%} of the images by more than that (limit {MAX_AHEAD:.0%}); {count} images"
    )
    return lead <= MAX_LEAD and ahead <= MAX_AHEAD, why, lead


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
        """From the outcome of the checks; a gradient that nobody could compare with slopes is in doubt, too."""
        failed = [v for v in verdicts if v.passed is False]
        cut = any(v.name == _GRADIENT and v.figure is None for v in failed)
        if not any(v.name == _GRADIENT for v in failed):
            failed += [v for v in verdicts if v.name == _SLOPE and v.passed is None]
        return cls(tuple(f"{v.name}: {v.why}" for v in failed), cut, any(v.name == _REPEATABLE for v in failed))


_REPEATABLE, COMPANY = "Repeatable score", "Company changes nothing"
_GRADIENT, _SLOPE = "Gradient is there", "Gradient is right"
CHECKS: dict[str, Callable[[Patient], tuple[bool | None, str, float | None]]] = {
    _REPEATABLE: check_repeatable,
    COMPANY: check_company,
    _GRADIENT: check_gradient,
    _SLOPE: check_finite_differences,
    "More ε, more harm": check_monotone_epsilon,
    "More steps, more harm": check_monotone_steps,
    "Unbounded attack wins": check_unbounded,
    "Black box not stronger": check_black_box,
}
"""The checks, by the name that the report shows."""
_NO_GRADIENT = ("does not require grad", "not have been used in the graph", "Can't call numpy() on Tensor")
"""What torch says of a score that does not depend differentiably on the pixels."""
WITHOUT_GRADIENT = (_REPEATABLE, COMPANY)
"""Checks that need no gradient."""
