"""Which images health checks look at."""

from __future__ import annotations

from pathlib import Path

from robustad.data import Sample
from robustad.workflows._health import _mixed


def labels(normal, anomalous):
    """Labels of the chosen images, in their order."""
    samples = [Sample(Path(f"{n}.png"), n >= normal, None, None, str(n), f"{n}.png") for n in range(normal + anomalous)]
    return [samples[index].label for index in _mixed(samples)]


def test_few_defects_do_not_keep_normal_images_out():
    chosen = labels(200, 3)
    assert chosen[:6] == [False, True] * 3 and chosen[6:] == [False] * 13
    assert labels(4, 100)[:8] == [False, True] * 4 and len(labels(4, 100)) == 20


def test_both_classes_take_turns_and_one_alone_is_enough():
    assert labels(50, 50) == [False, True] * 16
    assert labels(40, 0) == [False] * 32
