"""Attack suites as data: what each named attack maximises, how it searches, and what the worst case is taken over.

Steps and restarts come in two sizes: the quick attacks that published tables use (``steps``, one run, last iterate)
and the strong ones that the headline rests on (``strong_steps``, ``restarts``, best iterate).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

from robustad._checks import check_at_least, check_choice
from robustad._precision import PRECISIONS
from robustad.attacks import (
    APGD,
    FGSM,
    NORMS,
    PGD,
    Attack,
    MapObjective,
    MomentumPGD,
    Objective,
    PublishedObjective,
    ScoreObjective,
    Square,
)
from robustad.evaluation.rows import TARGETS
from robustad.evaluation.witness import Witness, gradient_lack

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
    "transfer": Goal(_transfer, "another detector", "the score of another detector"),
}


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
        return int(getattr(self.attack, "steps", self.attack.passes))

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
        queries: Queries of ``square``.
        norm: Of the ball, for all attacks: ``linf`` or ``l2``.
        white_box: Whether attacks that need a gradient are run; not where there is none.
        stop_early: Leave an image alone once its attacked score lies beyond all clean scores of the other class. No
            AUROC changes by that, since all its pairs are lost already; its score itself would have moved further.
        precision: Of the passes of attacks that use gradients: ``float32``; ``bfloat16``, the last tenth of their steps
            in float32 (see `robustad.evaluation.ensemble.stages`); ``auto`` = bfloat16 where the hardware has it.
            Scores are reported in float32.
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

    def __post_init__(self) -> None:
        for name in self.attacks or ():
            check_choice("attacks", name, SUITE)
        check_choice("targets", self.targets, TARGETS)
        check_choice("norm", self.norm, NORMS)
        check_choice("precision", self.precision, PRECISIONS)
        for name in ("steps", "strong_steps", "restarts", "queries"):
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
        """The same with ``square``: for detectors whose gradient cannot be believed, or is not there."""
        names = self.attacks or default_attacks(has_masks=has_masks)
        return replace(self, attacks=tuple(dict.fromkeys((*names, "square"))), white_box=white_box)

    def _plan(self, name: str, detector: Any, has_other: bool) -> Plan:
        runs, skipped = [], []
        for run in SUITE[name](self):
            lack = _lacks(GOALS[run.goal].needs, detector, has_other)
            if run.attack.uses_gradient and run.goal != "transfer" and not self.white_box:
                lack = gradient_lack(detector) or "the score has no gradient"
            if lack is None:
                runs.append(run)
            else:
                skipped.append((run.goal, lack))
        return Plan(name=name, runs=tuple(runs), skipped=tuple(skipped))


def _lacks(need: str, detector: Any, has_other: bool) -> str | None:
    if need == "patch logits" and not hasattr(detector, "patch_logits"):
        return "the detector has no patch logits"
    if need == LOCAL and not Witness(detector).has_local_scores:
        return "the detector has neither patch logits nor anomaly maps"
    if need == "anomaly maps" and not getattr(detector, "has_maps", True):
        return "the detector has no anomaly maps"
    if need == "another detector" and not has_other:
        return "no other detector was given"
    return None


def _quick(suite: Suite, goal: str) -> tuple[Run, ...]:
    return (Run(goal=goal, attack=PGD(steps=suite.steps, keep="last", norm=suite.norm)),)


def _strong(suite: Suite, *goals: str) -> tuple[Run, ...]:
    attack = PGD(steps=suite.strong_steps, restarts=suite.restarts, norm=suite.norm)
    return tuple(Run(goal=goal, attack=attack, judged=goal not in ("map", "transfer")) for goal in goals)


def _steepest(suite: Suite, attack: type[PGD | MomentumPGD | APGD]) -> tuple[Run, ...]:
    found = attack(steps=suite.strong_steps, restarts=suite.restarts, norm=suite.norm)
    return (Run(goal="score", attack=found),)


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
    "transfer": lambda suite: _strong(suite, "transfer"),
    "square": lambda suite: (Run(goal="score", attack=Square(queries=suite.queries, norm=suite.norm)),),
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
