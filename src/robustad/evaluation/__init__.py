"""Honest robustness: attack suites, worst cases, and results in one long format."""

from robustad.evaluation.ensemble import Attacked, Batch, worst_case
from robustad.evaluation.protocol import DEFAULT_ATTACKS, GOALS, SUITE, Plan, Run, Scene, Suite
from robustad.evaluation.results import (
    BenchmarkRow,
    Results,
    Row,
    aggregate_seeds,
    current_commit,
    machine_description,
    select,
)
from robustad.evaluation.runner import Cell, Evaluation, View, evaluate
from robustad.evaluation.store import Store

__all__ = [
    "DEFAULT_ATTACKS",
    "GOALS",
    "SUITE",
    "Attacked",
    "Batch",
    "BenchmarkRow",
    "Cell",
    "Evaluation",
    "Plan",
    "Results",
    "Row",
    "Run",
    "Scene",
    "Store",
    "Suite",
    "View",
    "aggregate_seeds",
    "current_commit",
    "evaluate",
    "machine_description",
    "select",
    "worst_case",
]
