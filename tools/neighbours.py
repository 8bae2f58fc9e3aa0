"""Solar cells come from modules: how much of an AUROC is knowing which module a cell was cut from.

The files of `elpv` are numbered module by module, and most defects lie in few of them. What separates cells with
numbers close to each other cannot be the module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from robustad.data.samples import Sample
from robustad.evaluation import BASELINE, Evaluation, Row, baseline_scores
from robustad.metrics import auroc, matched_auroc

NEIGHBOURS = "neighbours_AUROC"
"""AUROC over pairs of an anomalous and a normal cell whose numbers differ by no more than `WITHIN`."""
FILE_NUMBER = "file number"
"""A detector that sees no image: the more normal cells of the training bear numbers near, the more normal."""
WITHIN = 30  # half of a module of 60 cells


def numbers(samples: Iterable[Sample]) -> NDArray[np.float64]:
    """The number in the name of each file."""
    return np.array([int(re.findall(r"\d+", sample.path.stem)[-1]) for sample in samples], dtype=np.float64)


def neighbour_rows(
    rows: Iterable[Row], evaluation: Evaluation, samples: Sequence[Sample], train: Sequence[Sample]
) -> Iterator[Row]:
    """`NEIGHBOURS` for each image AUROC of the rows, and what `FILE_NUMBER` reaches.

    Args:
        rows: Of the evaluation.
        evaluation: Scores.
        samples: What was tested, in the order of the scores.
        train: Normal images of the training.
    """
    where, known = numbers(samples), np.sort(numbers(train))
    found = {(cell.attack, cell.epsilon, cell.steps): cell.scores for cell in evaluation.cells}
    count = np.searchsorted(known, where + WITHIN, "right") - np.searchsorted(known, where - WITHIN, "left")
    blind = -count.astype(np.float64)
    whole = [row for row in rows if row.metric == "image_AUROC" and row.against is None]
    for row in whole:
        own = row.detector != BASELINE
        scores = found[row.attack, row.epsilon, row.steps] if own else baseline_scores(evaluation, row.epsilon)
        value = matched_auroc(scores, evaluation.labels, where, WITHIN).value
        yield replace(row, metric=NEIGHBOURS, value=value, interval=None)
    clean = next(row for row in whole if row.detector == BASELINE and row.epsilon == 0)
    for metric, value in (
        ("image_AUROC", auroc(blind, evaluation.labels)),
        (NEIGHBOURS, matched_auroc(blind, evaluation.labels, where, WITHIN).value),
    ):
        yield replace(clean, detector=FILE_NUMBER, metric=metric, value=value, interval=None)
