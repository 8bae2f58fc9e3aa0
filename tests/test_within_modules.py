"""What separates cells of one module, and what only tells modules apart."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from robustad.data.samples import Sample
from robustad.evaluation import Row, select

TOOLS = str(Path(__file__).parents[1] / "tools")
sys.path.insert(0, TOOLS)
WITHIN = importlib.import_module("within_modules")
sys.path.remove(TOOLS)


def cells(*numbers):
    return [Sample(Path(f"images/cell{n:04}.png"), False, None, None, str(n), str(n)) for n in numbers]


def found(scores, *, attacked=None):
    """Cells 1 to 6 of one module, three of them broken, and 361 to 366 of another, sound and known to the training."""
    labels = np.array([True, True, True, False, False, False] + [False] * 6)
    made = [SimpleNamespace(attack="none", epsilon=0.0, steps=None, scores=np.asarray(scores, np.float32))]
    common = {"detector": "made", "recipe": "r", "data": "elpv:mono", "targets": "both", "split": "dev", "seed": 0}
    rows = [Row(**common, metric="image_AUROC", attack="none", norm="none", epsilon=0.0, value=0.5)]
    if attacked is not None:
        made.append(SimpleNamespace(attack="pgd", epsilon=0.1, steps=3, scores=np.asarray(attacked, np.float32)))
        hit = {"attack": "pgd", "norm": "linf", "epsilon": 0.1, "steps": 3}
        rows.append(Row(**common, metric="image_AUROC", value=0.5, **hit))
    rows.append(
        Row(
            **common | {"detector": "brightness"},
            metric="image_AUROC",
            value=0.5,
            attack="none",
            norm="none",
            epsilon=0.0,
        )
    )
    rows.append(Row(**common, metric="image_AUPR", attack="none", norm="none", epsilon=0.0, value=0.5))
    evaluation = SimpleNamespace(labels=labels, brightness=np.zeros(12, np.float32), cells=made)
    tested = cells(*range(1, 7), *range(361, 367))
    return list(WITHIN.module_rows(rows, evaluation, tested, cells(*range(367, 421))))


def test_who_only_tells_modules_apart_knows_nothing_within_one():
    rows = found([1] * 6 + [0] * 6)
    (own,) = select(rows, detector="made")
    assert (own.metric, own.value) == (WITHIN.WITHIN_MODULE, 0.5)
    assert select(rows, detector="brightness")[0].value == 0.5


def test_who_sees_what_is_broken_knows_it_within_a_module_too():
    rows = found([3, 3, 3, 2, 2, 4] + [9] * 6, attacked=[0] * 3 + [1] * 9)
    assert [row.value for row in select(rows, detector="made", metric=WITHIN.WITHIN_MODULE)] == [
        pytest.approx(6 / 9),
        0.0,
    ]


def test_a_module_alone_tells_broken_from_sound_ones():
    blind = {row.metric: row.value for row in found([0] * 12) if row.detector == WITHIN.MODULE}
    assert blind["image_AUROC"] == pytest.approx((3 * 6 + 0.5 * 9) / 27) and blind[WITHIN.WITHIN_MODULE] == 0.5
