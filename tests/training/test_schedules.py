"""Learning rates and radii as functions of the step."""

from __future__ import annotations

import itertools
import math

import pytest

from robustad.training import StepContext, recipe
from robustad.training.engine import learning_rate
from robustad.training.schedules import cosine_with_warmup, epsilon_at, published_cosine


def test_cosine_rises_falls_and_stays_at_its_floor():
    rates = [cosine_with_warmup(step, 100, warmup=10) for step in range(140)]
    assert rates[0] == pytest.approx(0.1)
    assert all(a < b for a, b in itertools.pairwise(rates[:10]))
    assert max(rates) == pytest.approx(rates[9], abs=0.03)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert rates[50] == pytest.approx(0.5)
    assert set(rates[100:]) == {0.02}
    assert cosine_with_warmup(0, 100, warmup=0) == 1.0
    assert 0 < cosine_with_warmup(0, 0, warmup=0) <= 1


def test_published_is_torchs_own_annealing():
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=8e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=1e-5)
    for epoch in range(20):
        assert 8e-4 * published_cosine(epoch, 20) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        scheduler.step()


def test_epsilon_grows_from_a_tenth():
    radii = [epsilon_at(step, 100, epsilon=0.04, warmup=0.5) for step in range(100)]
    assert radii[0] == pytest.approx(0.004)
    assert radii[25] == pytest.approx(0.04 * 0.55)
    assert all(a < b for a, b in itertools.pairwise(radii[:50]))
    assert radii[50:] == [0.04] * 50
    assert [epsilon_at(step, 100, epsilon=0.04, warmup=0.0) for step in (0, 99)] == [0.04, 0.04]
    assert [epsilon_at(step, 3, epsilon=0.0, warmup=0.5) for step in range(3)] == [0, 0, 0]
    assert math.isclose(epsilon_at(1, 1, epsilon=0.04, warmup=1.0), 0.04)


def test_the_published_rate_does_not_fall_before_anybody_knows_how_long_the_run_is():
    config = recipe("published").training
    rates = [learning_rate(config, StepContext(step, None, step // 3, None), 3) for step in range(30)]
    assert set(rates) == {config.learning_rate}
