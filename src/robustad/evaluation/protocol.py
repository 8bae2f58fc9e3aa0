"""Attack suites as data: what each named attack maximises, how it searches, and what the worst case is taken over.

Steps and restarts come in two sizes: the quick attacks that published tables use (``steps``, one run, last iterate)
and the strong ones that the headline rests on (``strong_steps``, ``restarts``, best iterate).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from robustad._checks import check_at_least, check_choice
from robustad._precision import PRECISIONS
from robustad.attacks import (
    APGD,
    FGSM,
    NORMS,
    PGD,
    Attack,
    EstimatedPGD,
    MomentumPGD,
    Square,
)
from robustad.evaluation.goals import GOALS, lacks
from robustad.evaluation.rows import TARGETS
from robustad.evaluation.witness import gradient_lack

WHERE = ("everywhere", "background", "foreground")
"""Which pixels an attack may change."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One attack on one goal.

    Attributes:
        goal: Key of `GOALS`.
        attack: The attack and its numbers.
        judged: Whether the iterate that moved the *reported score* furthest is kept, whatever the goal's own value.
    """

    goal: str
    attack: Attack
    judged: bool = False

    @property
    def label(self) -> str:
        """Short description, e.g. ``lse: pgd, 20 steps x 2``; ``last``: whatever came last, not the best."""
        last = ", last" if self.attack.keep == "last" else ""
        return f"{self.goal}: {self.attack.name}, {self.attack.effort} x {self.attack.restarts}{last}"

    @property
    def steps(self) -> int:
        """Gradient steps of one run, or queries where no gradient is used."""
        return int(getattr(self.attack, "steps", 0) if self.attack.uses_gradient else self.attack.passes)

    @property
    def cost(self) -> int:
        """Passes through the network per image."""
        return self.attack.passes * self.attack.restarts


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a named attack comes down to for one detector.

    Attributes:
        name: Name of the attack.
        runs: Of several, the worst case per image counts, the clean image included.
        skipped: Runs that this detector does not allow: goal and reason.
    """

    name: str
    runs: tuple[Run, ...]
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def worst_of(self) -> bool:
        """Whether this is a worst case over several attacks and the clean image."""
        return self.name == "ensemble"


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Which attacks are run, on whom, and with how much effort.

    Attributes:
        attacks: Names out of `SUITE`; None = `DEFAULT_ATTACKS`.
        targets: Who is attacked: ``both``, ``anomalous`` (hide a defect) or ``normal`` (stop the line).
        steps: Steps of ``published-pgd`` and ``pgd``.
        strong_steps: Steps of all others, and of every member of ``ensemble``.
        restarts: Runs of the same; further ones start at random.
        queries: Queries of attacks that use no gradient.
        norm: Of the ball, for all attacks: ``linf`` or ``l2``.
        white_box: Whether attacks that need a gradient are run; not where there is none.
        stop_early: Leave an image alone once its attacked score lies beyond all clean scores of the other class. No
            AUROC changes by that, since all its pairs are lost already; its score itself would have moved further. Not
            with several ``draws``: the mean that attacks follow is not what is reported.
        precision: Of the passes of attacks that use gradients: ``float32``; ``bfloat16``, the last tenth of their steps
            in float32 (see `robustad.evaluation.ensemble.stages`); ``auto`` = bfloat16 where it is faster.
            Scores are reported in float32.
        where: Which pixels may change: out of `WHERE`, as `robustad.foreground` tells the object from the ground; where
            it finds no ground, all is foreground.
        draws: Calls of the detector whose mean every step follows: for detectors that draw at random (expectation over
            transformation). Reported scores are those of one call, as its users see them.
    """

    attacks: tuple[str, ...] | None = None
    targets: str = "both"
    steps: int = 10
    strong_steps: int = 20
    restarts: int = 2
    queries: int = 1000
    stop_early: bool = False
    norm: str = "linf"
    white_box: bool = True
    precision: str = "float32"
    where: str = "everywhere"
    draws: int = 1

    def __post_init__(self) -> None:
        for name in self.attacks or ():
            check_choice("attacks", name, SUITE)
        check_choice("targets", self.targets, TARGETS)
        check_choice("norm", self.norm, NORMS)
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("where", self.where, WHERE)
        for name in ("steps", "strong_steps", "restarts", "queries", "draws"):
            check_at_least(name, getattr(self, name), 1)

    def plans(self, detector: Any, *, has_masks: bool = True, has_other: bool = False) -> tuple[Plan, ...]:
        """What to run against ``detector``.

        Args:
            detector: The detector.
            has_masks: Whether there are masks of anomalous images; without, ``map-pgd`` is no default.
            has_other: Whether there is another detector for ``transfer``.

        Raises:
            ValueError: If ``transfer`` is asked for by name and there is no other detector.

        A detector that says that it gives no gradient gets ``square``, and the plans say what is skipped and why.
        """
        if self.white_box and gradient_lack(detector):
            blind = self.with_black_box(has_masks=has_masks, white_box=False)
            return blind.plans(detector, has_masks=has_masks, has_other=has_other)
        names = self.attacks
        if names is None:
            names = default_attacks(has_masks=has_masks)
        elif "transfer" in names and not has_other:
            raise ValueError("attack 'transfer' needs another detector: pass its checkpoint as `transfer`")
        plans = [self._plan(name, detector, has_other) for name in dict.fromkeys(names)]
        every = tuple(dict.fromkeys(run for plan in plans for run in plan.runs))
        # runs that are made anyway cost a worst case nothing, and it is never weaker than what stands beside it
        return tuple(replace(p, runs=tuple(dict.fromkeys(p.runs + every))) if p.worst_of else p for p in plans)

    def with_black_box(self, *, has_masks: bool, white_box: bool) -> Suite:
        """The same with ``square``: for detectors whose gradient cannot be believed, or is not there.

        Where others are run beside it, the worst of all counts; where none is asked for, none is run.
        """
        names = default_attacks(has_masks=has_masks) if self.attacks is None else self.attacks
        more = ("square", "ensemble") if white_box else ("square",)
        return replace(self, attacks=tuple(dict.fromkeys((*names, *more))) if names else (), white_box=white_box)

    def _plan(self, name: str, detector: Any, has_other: bool) -> Plan:
        runs, skipped = [], []
        for run in SUITE[name](self):
            lack = lacks(GOALS[run.goal].needs, detector, has_other)
            if run.attack.uses_gradient and run.goal != "transfer" and not self.white_box:
                lack = gradient_lack(detector) or "the score has no gradient"
            if lack is None:
                runs.append(run)
            else:
                skipped.append((run.goal, lack))
        return Plan(name=name, runs=tuple(runs), skipped=tuple(skipped))


_ESTIMATES = 10  # steps of attacks that estimate gradients
_MAPS = ("map", "hide", "invent")  # goals that are not about the score


def _quick(suite: Suite, goal: str) -> tuple[Run, ...]:
    return (Run(goal=goal, attack=PGD(steps=suite.steps, keep="last", norm=suite.norm)),)


def _strong(suite: Suite, *goals: str) -> tuple[Run, ...]:
    attack = PGD(steps=suite.strong_steps, restarts=suite.restarts, norm=suite.norm)
    return tuple(Run(goal=goal, attack=attack, judged=goal not in (*_MAPS, "transfer")) for goal in goals)


def _steepest(suite: Suite, attack: type[PGD | MomentumPGD | APGD]) -> tuple[Run, ...]:
    found = attack(steps=suite.strong_steps, restarts=suite.restarts, norm=suite.norm)
    return (Run(goal="score", attack=found),)


def _estimated(suite: Suite, directions: str) -> tuple[Run, ...]:
    steps = min(_ESTIMATES, max(1, suite.queries // 3))
    samples = max(1, (suite.queries // steps - 1) // 2)
    attack = EstimatedPGD(steps=steps, samples=samples, directions=directions, norm=suite.norm)
    return (Run(goal="score", attack=attack),)


def _ensemble(suite: Suite) -> tuple[Run, ...]:
    return _strong(suite, "published", "score", "lse", "top10", "transfer") + _steepest(suite, APGD)


SUITE: dict[str, Callable[[Suite], tuple[Run, ...]]] = {
    "published-pgd": lambda suite: _quick(suite, "published"),
    "fgsm": lambda suite: (Run(goal="score", attack=FGSM(norm=suite.norm)),),
    "pgd": lambda suite: _quick(suite, "score"),
    "adaptive-pgd": lambda suite: _strong(suite, "score"),
    "momentum-pgd": lambda suite: _steepest(suite, MomentumPGD),
    "apgd": lambda suite: _steepest(suite, APGD),
    "lse-pgd": lambda suite: _strong(suite, "lse"),
    "top10-pgd": lambda suite: _strong(suite, "top10"),
    "map-pgd": lambda suite: _strong(suite, "map"),
    "hide": lambda suite: _strong(suite, "hide"),
    "invent": lambda suite: _strong(suite, "invent"),
    "transfer": lambda suite: _strong(suite, "transfer"),
    "square": lambda suite: (Run(goal="score", attack=Square(queries=suite.queries, norm=suite.norm)),),
    "spsa": lambda suite: _estimated(suite, "signs"),
    "nes": lambda suite: _estimated(suite, "normal"),
    "ensemble": _ensemble,
}
"""Attacks by name; one row each.

``published-pgd`` and ``pgd`` start at the clean image and return the last iterate, as published tables do. ``ensemble``
is the worst case per image over its own runs, those of every other named attack, and the clean image: highest reported
score of a normal image, lowest of an anomalous one.
"""
DEFAULT_ATTACKS = ("published-pgd", "pgd", "adaptive-pgd", "ensemble", "map-pgd")


def default_attacks(*, has_masks: bool) -> tuple[str, ...]:
    """`DEFAULT_ATTACKS` as far as they make sense: maps are attacked where there is a truth to compare them with."""
    return tuple(name for name in DEFAULT_ATTACKS if name != "map-pgd" or has_masks)
