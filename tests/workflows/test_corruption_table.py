"""The report's table of corruptions: the most harmful first, with and without images of defects."""

from __future__ import annotations

import pytest

from robustad.evaluation import FALSE_ALARMS, Row
from robustad.workflows._report_corruptions import corruption_table


def row(attack, metric, value, severity):
    return Row(
        detector="mine", recipe="r", data="d", split="all", seed=0, attack=attack, norm="severity", epsilon=severity,
        targets="both", metric=metric, value=value, reason=None if value is not None else "no defects",
    )  # fmt: skip


@pytest.mark.parametrize(("left", "order"), [((0.9, 0.6), ["blur", "noise"]), ((None, None), ["noise", "blur"])])
def test_the_most_harmful_comes_first(left, order):
    rows = [row("none", "image_AUROC", None if left[0] is None else 0.95, 0.0), row("none", FALSE_ALARMS, 0.05, 0.0)]
    for name, auroc, alarms in zip(("noise", "blur"), left, (0.8, 0.2), strict=True):
        rows += [row(name, "image_AUROC", auroc, 3.0), row(name, FALSE_ALARMS, alarms, 3.0)]
    table = corruption_table(rows, "mine", calibrated=False)
    assert [line.name for line in table.rows if line.name in ("noise", "blur")] == order
