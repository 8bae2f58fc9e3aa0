"""All that a test measures, each measurement in its own method, over one detector and one set of images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustad._checks import check_radii
from robustad.data import ImageDataset
from robustad.evaluation import (
    Doubts,
    Evaluation,
    Row,
    Store,
    Subject,
    Verdict,
    certified_rows,
    corruption_rows,
    evaluate,
    evaluate_certified,
    evaluate_corruptions,
    evaluate_threats,
    middle_radius,
    threat_rows,
)
from robustad.evaluation.health import COMPANY
from robustad.reporting import pick_examples
from robustad.workflows._candidate import Candidate
from robustad.workflows._health import NUM_IMAGES, examine
from robustad.workflows.test_config import RADII, TestConfig

DRAWS = 8
"""Calls that attacks average over where the same image has another score each time."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What every measurement needs.

    Attributes:
        candidate: The detector.
        dataset: Test images.
        config: What is asked for.
        subject: What rows say of the detector.
        store: Finished pieces.
    """

    candidate: Candidate
    dataset: ImageDataset
    config: TestConfig
    subject: Subject
    store: Store

    @property
    def labels(self) -> NDArray[np.bool_]:
        """``(N,)``, True = anomalous."""
        return np.array([sample.label for sample in self.dataset.samples], dtype=np.bool_)

    def verdicts(self) -> list[Verdict]:
        """Outcome of the health checks; none if they are switched off."""
        if not self.config.health:
            return []
        radii = check_radii(self.config.radii if self.config.norm == "linf" else RADII["linf"]) or (2 / 255,)
        middle = middle_radius(radii)
        common = self._common | {"batch_size": min(NUM_IMAGES, self.config.batch_size)}
        return examine(self.candidate.detector, self.dataset, epsilon=middle, **common)

    def evaluation(self, verdicts: list[Verdict], other: Candidate | None) -> Evaluation:
        """Scores clean and under attack; where the gradient is in doubt, a black box has the last word.

        Args:
            verdicts: Outcome of the health checks.
            other: Another detector, for ``transfer``.
        """
        suite, doubts = self.config.suite, Doubts.of(verdicts)
        if doubts.reasons:
            marked = any(sample.label and sample.has_mask for sample in self.dataset.samples)
            suite = suite.with_black_box(has_masks=marked, white_box=not doubts.no_gradient)
        suite = replace(suite, draws=self._draws(doubts))
        return evaluate(
            self.candidate.detector,
            self.dataset,
            suite,
            epsilons=self.config.radii,
            other=None if other is None else other.detector,
            keep=_keep,
            **self._common,
        )

    def corrupted(self) -> list[Row]:
        """Figures on corrupted images, if they are asked for."""
        names, calibration = self.config.corruption_names, self.candidate.calibration
        if not names:
            return []
        measured = evaluate_corruptions(
            self.candidate.detector, self.dataset, names, severities=self.config.severities, **self._common
        )
        threshold = None if calibration is None else calibration.threshold
        return corruption_rows(measured, self.labels, self.subject, threshold=threshold)

    def certified(self, verdicts: list[Verdict]) -> list[Row]:
        """What is certain, if asked for; unless company is known to change no score, copies are scored alone."""
        if self.config.certificate is None:
            return []
        options = self._common
        if not any(verdict.name == COMPANY and verdict.passed for verdict in verdicts):
            options |= {"batch_size": 1}  # copies that know of each other are no independent samples
        found = evaluate_certified(self.candidate.detector, self.dataset, self.config.certificate, **options)
        return certified_rows(found, self.subject)

    def threats(self, verdicts: list[Verdict]) -> list[Row]:
        """Figures under stickers and universal perturbations, if they are asked for; see `evaluation` for doubts."""
        if not self.config.stickers and not self.config.universal:
            return []
        doubts = Doubts.of(verdicts)
        config = replace(
            self.config.threats,
            draws=self._draws(doubts),
            white_box=not doubts.no_gradient,
            without_gradient=bool(doubts.reasons),
        )
        found = evaluate_threats(self.candidate.detector, self.dataset, config, **self._common)
        return threat_rows(found, self.labels, self.subject)

    def _draws(self, doubts: Doubts) -> int:
        """Calls that attacks average over: what is asked for, or else what a random score needs."""
        return self.config.draws or (DRAWS if doubts.random else 1)

    @property
    def _common(self) -> dict[str, Any]:
        return {"batch_size": self.config.batch_size, "seed": self.config.seed, "store": self.store}


def _keep(scores: Any, labels: Any) -> Iterable[int]:
    """The images that the report shows."""
    return (index for group in pick_examples(scores, labels, per_group=2).values() for index in group)
