"""Solar cells come from modules: how much of an AUROC is knowing which module a cell was cut from.

Most defects of `elpv` lie in few modules, whose sound cells are rare. What separates cells of one module cannot be the
module.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from robustad.data.modules import module_of
from robustad.data.samples import Sample
from robustad.evaluation import BASELINE, Evaluation, Row, baseline_scores
from robustad.metrics import auroc, matched_auroc

WITHIN_MODULE = "module_AUROC"
"""AUROC over pairs of an anomalous and a normal cell of one module."""
MODULE = "module"
"""A detector that sees no image: the more normal cells of its module are known to the training, the more normal."""


def module_rows(
    rows: Iterable[Row], evaluation: Evaluation, samples: Sequence[Sample], train: Sequence[Sample]
) -> Iterator[Row]:
    """`WITHIN_MODULE` for each image AUROC of the rows, and what `MODULE` reaches.

    Args:
        rows: Of the evaluation.
        evaluation: Scores.
        samples: What was tested, in the order of the scores.
        train: Normal images of the training.
    """
    names = [module_of(sample) for sample in samples]
    where = np.unique(names, return_inverse=True)[1].astype(np.float64)
    known = Counter(module_of(sample) for sample in train)
    blind = -np.array([known[name] for name in names], dtype=np.float64)
    found = {(cell.attack, cell.epsilon, cell.steps): cell.scores for cell in evaluation.cells}
    whole = [row for row in rows if row.metric == "image_AUROC" and row.against is None]
    for row in whole:
        own = row.detector != BASELINE
        scores = found[row.attack, row.epsilon, row.steps] if own else baseline_scores(evaluation, row.epsilon)
        value = matched_auroc(scores, evaluation.labels, where, 0).value
        yield replace(row, metric=WITHIN_MODULE, value=value, interval=None)
    clean = next(row for row in whole if row.detector == BASELINE and row.epsilon == 0)
    for metric, value in (
        ("image_AUROC", auroc(blind, evaluation.labels)),
        (WITHIN_MODULE, matched_auroc(blind, evaluation.labels, where, 0).value),
    ):
        yield replace(clean, detector=MODULE, metric=metric, value=value, interval=None)
