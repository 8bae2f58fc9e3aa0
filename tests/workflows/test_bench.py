"""What a test measures with: which images health checks look at, how many at once, what doubts change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from robustad.data import Sample
from robustad.evaluation import Verdict
from robustad.workflows import _bench
from robustad.workflows._health import _mixed
from robustad.workflows.test_config import TestConfig


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


def bench(**options) -> _bench.Bench:
    nobody: Any = type("Nobody", (), {"detector": None})()
    config = TestConfig(**options)
    return _bench.Bench(candidate=nobody, dataset=nobody, config=config, subject=nobody, store=nobody)


@pytest.mark.parametrize(("batch_size", "taken"), [(4, 4), (64, 32)])
def test_passes_are_no_larger_than_they_may_be(monkeypatch, batch_size, taken):
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(_bench, "examine", lambda *_, **options: asked.append(options) or [])
    assert bench(batch_size=batch_size).verdicts() == []
    assert [options["batch_size"] for options in asked] == [taken]


def test_a_gradient_that_is_not_there_is_not_climbed_by_stickers(monkeypatch):
    asked: list[Any] = []
    monkeypatch.setattr(_bench, "evaluate_threats", lambda _d, _i, config, **_o: asked.append(config) or [])
    monkeypatch.setattr(_bench, "threat_rows", lambda *_: [])
    monkeypatch.setattr(_bench.Bench, "labels", None)
    for figure in (None, 0.5):
        bench(stickers=(0.2,)).threats([Verdict("Gradient is there", False, "no gradient", figure)])
    assert [config.white_box for config in asked] == [False, True]
