"""Attacks many times as long as the default ones, on the detectors of the bench's own table: does it hold?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from evidence_robustness import DATA, FULL, detector_makers, images_of
from measuring import Measured, now, side_by_side, write_found

from robustad.evaluation import Subject, Suite, evaluate, evaluation_details, evaluation_rows

EPSILON = 2 / 255
EFFORTS = {
    "worst case, as in the tables": Suite(attacks=("ensemble",), stop_early=True),
    "1,000 steps on the score": Suite(attacks=("adaptive-pgd",), strong_steps=1000, restarts=1, stop_early=True),
    "worst case, 100 steps, 3 restarts, 2,000 queries": Suite(
        attacks=("ensemble", "square"), strong_steps=100, restarts=3, queries=2000, stop_early=True
    ),
}
"""From quick to thorough. Stopping early changes no AUROC: see `robustad.evaluation.Suite`."""
ATTACKED = (("elpv", "patchguard"), ("elpv", "cobra"))
"""What is broken already, or below mean brightness as everything on ``mtd`` is, needs no harder attack."""


def harder() -> None:
    """The detectors that withstand the default worst case, attacked longer at 2/255."""
    started, jobs = now(), dict[str, Callable[[], Measured]]()
    for data, title in ATTACKED:
        jobs[f"{data}, {title}"] = partial(_attacked, data, title)
    write_found("harder", side_by_side(jobs), started)


def _attacked(data: str, title: str) -> Measured:
    detector = detector_makers(data, FULL)[title]()
    dataset, store = images_of(detector, data, FULL)[1:]
    rows, details = [], {}
    for effort, suite in EFFORTS.items():
        evaluation = evaluate(detector, dataset, suite, epsilons=[EPSILON], seed=0, store=store)
        subject = Subject(detector=detector.name, recipe=effort, data=DATA[data].label, split="final", seed=0)
        found = evaluation_rows(evaluation, subject)
        rows += [row for row in found if row.metric == "image_AUROC" and row.detector == detector.name]
        details[effort] = evaluation_details(evaluation)
    return Measured(rows, details)


TASKS: dict[str, Callable[[], None]] = {"harder": harder}
