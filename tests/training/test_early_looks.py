"""Early looks of a training: when they are, what they may cost, and what a collapse does."""

from __future__ import annotations

from itertools import count

import pytest
import torch
from engine_doubles import config, make, weights

from robustad.training import Engine
from robustad.training.engine import LOOK_FIGURE
from robustad.training.runlog import read_log


def test_a_collapse_is_seen_and_the_best_look_kept(tmp_path):
    figures = iter([0.9, 0.95, 0.6, 0.5])
    seen = []

    def look(network):
        seen.append(torch.cat([p.flatten() for p in network.parameters()]).clone())
        return {LOOK_FIGURE: next(figures)}

    result = make(tmp_path, config(look_every=0.25), look=look).run()
    assert result.kept_step == 4
    assert torch.equal(weights(result), seen[1])
    looks = [row[LOOK_FIGURE] for row in read_log(tmp_path / "log.jsonl") if LOOK_FIGURE in row]
    assert looks == [0.9, 0.95, 0.6, 0.5]


@pytest.mark.parametrize("every", [0.05, 0.2, 0.3, 1.0])
@pytest.mark.parametrize("total", [1, 7, 20, 1499, 1501])
def test_there_are_as_many_looks_as_time_was_kept_for_and_one_at_the_end(tmp_path, every, total):
    engine = make(tmp_path, config(look_every=every), look=lambda _: {})
    engine.state.total, due = total, []
    for engine.state.step in range(1, total + 1):
        due += [engine.state.step] * engine._look_is_due()
    assert len(due) == min(total, round(1 / every)) and due[-1] == total


@pytest.mark.parametrize(("seconds", "looks"), [(1, 4), (3, 3), (4, 2), (5, 0)])
def test_there_are_as_many_looks_as_their_share_of_the_time_allows(tmp_path, monkeypatch, seconds, looks):
    ticks, seen = count(), []
    monkeypatch.setattr(Engine, "clock", staticmethod(lambda: float(next(ticks))))

    def look(_):
        seen.append([next(ticks) for _ in range(seconds - 1)])  # reading the clock takes one
        return {LOOK_FIGURE: 0.9}

    engine = make(tmp_path, config(look_every=0.25, max_steps=None, max_time=60.0), look=look)
    engine._step = lambda batch: {"loss": torch.zeros(())}
    engine.run()
    assert len(seen) - 1 == looks, "the first is a trial; one alone has none to compare with"
    assert 50 < next(ticks) <= 60


def test_few_images_explain_a_large_fall(tmp_path):
    class Look:
        tolerance = 0.4

        def __init__(self):
            self.figures = iter([0.9, 0.95, 0.6, 0.56])

        def __call__(self, _):
            return {LOOK_FIGURE: next(self.figures)}

    assert make(tmp_path, config(look_every=0.25), look=Look()).run().kept_step == 8


def test_a_collapse_is_known_without_the_log(tmp_path):
    figures = iter([0.9, 0.5])
    engine = make(tmp_path, config(look_every=0.5), look=lambda _: {LOOK_FIGURE: next(figures)})
    engine._save()
    save, engine._save = engine._save, lambda: (save(), (tmp_path / "log.jsonl").unlink())
    assert engine.run().kept_step == 4


def test_a_small_scatter_keeps_the_last_weights(tmp_path):
    figures = iter([0.9, 0.95, 0.93, 0.94])
    result = make(tmp_path, config(look_every=0.25), look=lambda _: {LOOK_FIGURE: next(figures)}).run()
    assert result.kept_step == 8
