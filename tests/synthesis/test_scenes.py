"""Procedural images: seeded, varied, alike within a process."""

from __future__ import annotations

import pytest
import torch

from robustad.synthesis import PATTERNS, scenes
from robustad.synthesis.scenes.canvas import Canvas


def test_the_seed_decides_and_the_global_state_is_left_alone():
    before = torch.random.get_rng_state()
    one, same, other = scenes(3, 4, 48), scenes(3, 4, 48), scenes(4, 4, 48)
    assert torch.equal(before, torch.random.get_rng_state())
    assert one.shape == (4, 3, 48, 48) and one.dtype == torch.float32
    assert torch.equal(one, same)
    assert (one != other).flatten(1).any(1).all()
    assert one.min() >= 0 and one.max() <= 1


def test_a_process_depends_on_nothing_but_its_place():
    whole = scenes(3, 6, 48, instances=3)
    assert torch.equal(scenes(3, 3, 48, instances=3), whole[:3])
    assert len(scenes(3, 7, 48, instances=3)) == 7, "the last process may have fewer"


@pytest.mark.parametrize("name", PATTERNS)
def test_each_pattern_has_contrast_and_keeps_its_range(name):
    for seed in range(12):
        brightness = PATTERNS[name](Canvas(seed, 3, 64))
        assert brightness.shape == (3, 64, 64)
        assert torch.isfinite(brightness).all()
        assert brightness.min() > -1.5 and brightness.max() < 3
        assert brightness.max() - brightness.min() > 0.02


def test_images_of_a_process_are_alike_but_not_the_same():
    processes = scenes(0, 120, 48, instances=4).unflatten(0, (30, 4))
    levels = processes.mean(dim=(2, 3, 4))
    within, between = levels.std(dim=1).mean(), levels.mean(dim=1).std()
    assert within < between / 4
    first, second = processes[:, 0], processes[:, 1]
    apart = (first - second).abs().mean(dim=(1, 2, 3))
    strange = (first - first.roll(1, 0)).abs().mean(dim=(1, 2, 3))
    assert (apart > 0).all()
    assert apart.median() < strange.median() / 3


def test_processes_reach_from_a_fixture_to_free_material():
    vary = torch.tensor([Canvas(seed, 1, 32).vary for seed in range(60)])
    assert (vary == 0).sum() > 12 and (vary == 1).sum() > 8
    assert ((vary > 0) & (vary < 1)).sum() > 3


@pytest.mark.parametrize(
    ("given", "name"), [((0, 0, 64), "number"), ((0, 1, 16), "size"), ((0, 1, 64, 0), "instances")]
)
def test_wrong_numbers_are_named(given, name):
    seed, number, size, *rest = given
    with pytest.raises(ValueError, match=f"`{name}`"):
        scenes(seed, number, size, instances=rest[0] if rest else 1)
