"""Honest robustness: attack suites, worst cases, and results in one long format."""

from robustad.evaluation.certified import (
    ABSTENTIONS,
    CERTIFIED,
    SMOOTHED,
    Certified,
    CertifyConfig,
    certified_rows,
    evaluate_certified,
)
from robustad.evaluation.corrupted import (
    ALL,
    FALSE_ALARMS,
    MISSES,
    SEVERITY,
    check_corruptions,
    corruption_rows,
    evaluate_corruptions,
)
from robustad.evaluation.ensemble import Attacked, Batch, worst_case
from robustad.evaluation.figures import (
    BASELINE,
    EXACT,
    MATCHED,
    Subject,
    baseline_scores,
    evaluation_details,
    evaluation_rows,
    kind_rows,
    lead_interval,
)
from robustad.evaluation.goals import GOALS, Scene
from robustad.evaluation.health import Doubts, Verdict, check_health
from robustad.evaluation.protocol import DEFAULT_ATTACKS, SUITE, Plan, Run, Suite
from robustad.evaluation.results import (
    BenchmarkRow,
    Results,
    Row,
    aggregate_seeds,
    current_commit,
    machine_description,
    select,
)
from robustad.evaluation.rows import middle_radius
from robustad.evaluation.runner import Cell, Evaluation, View, evaluate
from robustad.evaluation.store import Store
from robustad.evaluation.threats import STICKER, UNIVERSAL, ThreatConfig, evaluate_threats, threat_rows

__all__ = [
    "ABSTENTIONS",
    "ALL",
    "BASELINE",
    "CERTIFIED",
    "DEFAULT_ATTACKS",
    "EXACT",
    "FALSE_ALARMS",
    "GOALS",
    "MATCHED",
    "MISSES",
    "SEVERITY",
    "SMOOTHED",
    "STICKER",
    "SUITE",
    "UNIVERSAL",
    "Attacked",
    "Batch",
    "BenchmarkRow",
    "Cell",
    "Certified",
    "CertifyConfig",
    "Doubts",
    "Evaluation",
    "Plan",
    "Results",
    "Row",
    "Run",
    "Scene",
    "Store",
    "Subject",
    "Suite",
    "ThreatConfig",
    "Verdict",
    "View",
    "aggregate_seeds",
    "baseline_scores",
    "certified_rows",
    "check_corruptions",
    "check_health",
    "corruption_rows",
    "current_commit",
    "evaluate",
    "evaluate_certified",
    "evaluate_corruptions",
    "evaluate_threats",
    "evaluation_details",
    "evaluation_rows",
    "kind_rows",
    "lead_interval",
    "machine_description",
    "middle_radius",
    "select",
    "threat_rows",
    "worst_case",
]
