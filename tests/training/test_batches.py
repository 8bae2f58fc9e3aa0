"""Which images a step sees: permutations, resume, ranks, seeds, augmentation."""

from __future__ import annotations

import itertools

import pytest
import torch

from robustad.training import Batch, Batches, Schedule
from robustad.training.batches import augment


class Numbered(torch.utils.data.Dataset):
    """Image number i is of grey value i; the foreground is its first row."""

    def __init__(self, count=10):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        foreground = torch.zeros(4, 4, dtype=torch.bool)
        foreground[0] = True
        return {"image": torch.full((3, 4, 4), index, dtype=torch.uint8), "foreground": foreground}


def take(batches, step, count):
    return list(itertools.islice(batches.start_at(step), count))


def numbers(batch):
    return (batch.images[:, 0, 0, 0] * 255).round().int().tolist()


@pytest.mark.parametrize("replays", [1, 3])
def test_each_epoch_is_a_permutation(replays):
    schedule = Schedule(10, 3, seed=0, replays=replays, keep_partial=True)
    assert schedule.steps_per_epoch == 4 * replays
    orders = []
    for epoch in range(3):
        steps = range(epoch * 4 * replays, (epoch + 1) * 4 * replays)
        assert {schedule.epoch(step) for step in steps} == {epoch}
        drawn = [schedule.indices(step) for step in steps]
        assert all(drawn[i] == drawn[i - i % replays] for i in range(len(drawn))), "replays see the same samples"
        assert [len(indices) for indices in drawn[::replays]] == [3, 3, 3, 1]
        orders.append([index for indices in drawn[::replays] for index in indices])
        assert sorted(orders[-1]) == list(range(10))
    assert len({tuple(order) for order in orders}) == 3, "another order each epoch"


def test_a_small_set_is_gone_through_several_times_an_epoch_with_other_seeds():
    schedule = Schedule(4, 3, seed=0, epoch_images=10)
    assert schedule.steps_per_epoch == 3
    for epoch in range(2):
        steps = range(3 * epoch, 3 * epoch + 3)
        drawn = [index for step in steps for index in schedule.indices(step)]
        assert len(drawn) == 9 and sorted(drawn[:4]) == sorted(drawn[4:8]) == [0, 1, 2, 3]
        seeds = [seed for step in steps for seed in schedule.seeds(step)]
        assert len(set(seeds)) == 9, "the same image is not changed in the same way again"
    plain = Schedule(4, 3, seed=0)
    assert schedule.indices(0) == plain.indices(0) and schedule.seeds(0) == plain.seeds(0)
    assert Schedule(2, 8, seed=0, epoch_images=8).batch_size == 8, "a batch may hold an image twice"


def test_without_the_partial_batch_no_sample_comes_twice():
    schedule = Schedule(10, 3, seed=0)
    assert schedule.steps_per_epoch == 3
    drawn = [index for step in range(3) for index in schedule.indices(step)]
    assert len(drawn) == len(set(drawn)) == 9
    left_out = {
        min(set(range(10)) - {i for s in range(3 * e, 3 * e + 3) for i in schedule.indices(s)}) for e in range(30)
    }
    assert len(left_out) > 5, "it is not always the same sample that is left out"


def test_a_set_smaller_than_a_batch_is_one_batch():
    schedule = Schedule(5, 16, seed=0)
    assert schedule.steps_per_epoch == 1 and sorted(schedule.indices(7)) == list(range(5))
    with pytest.raises(ValueError, match="no normal image"):
        Schedule(0, 4, seed=0)


def test_the_seed_of_the_run_decides():
    same, again, other = (Schedule(50, 10, seed=s) for s in (0, 0, 1))
    assert same.indices(3) == again.indices(3) != other.indices(3)
    assert same.seeds(3) == again.seeds(3)
    assert not set(same.seeds(3)) & set(other.seeds(3))


def test_seeds_belong_to_sample_and_epoch():
    schedule = Schedule(10, 5, seed=0)
    first, second = ({}, {})
    for step, found in ((0, first), (1, first), (2, second), (3, second)):
        found.update(zip(schedule.indices(step), schedule.seeds(step), strict=True))
    assert len(set(first.values()) | set(second.values())) == 20
    wider = Schedule(10, 10, seed=0)
    assert dict(zip(wider.indices(0), wider.seeds(0), strict=True)) == first, "the batch size does not matter"


def test_batches_hold_what_the_schedule_says():
    schedule = Schedule(10, 4, seed=0, keep_partial=True)
    for step, batch in enumerate(take(Batches(Numbered(), schedule), 0, 7)):
        assert numbers(batch) == schedule.indices(step) and batch.seeds == schedule.seeds(step)
        assert batch.images.dtype == torch.float32 and batch.foreground.dtype == torch.bool
        assert batch.foreground[:, 0].all() and not batch.foreground[:, 1:].any()


def test_to_start_later_is_to_go_on():
    batches = Batches(Numbered(), Schedule(10, 3, seed=4, replays=2, keep_partial=True))
    whole = take(batches, 0, 12)
    for start in (1, 5, 9):
        for a, b in zip(take(batches, start, 12 - start), whole[start:], strict=True):
            assert numbers(a) == numbers(b) and a.seeds == b.seeds


@pytest.mark.parametrize("start", [0, 1])
def test_replayed_batches_are_read_and_varied_once(start):
    read = []

    class Counted(Numbered):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    schedule = Schedule(10, 3, seed=4, replays=3)
    batches = take(Batches(Counted(), schedule, augment=True), start, 6 - start)
    assert len(read) == 6 and len({id(batch) for batch in batches}) == 2
    for step, batch in enumerate(batches, start=start):
        assert batch.seeds == schedule.seeds(step) and list(batch.sources) == schedule.indices(step)
    plain = take(Batches(Numbered(), schedule), start, 1)[0]
    assert torch.equal(batches[0].images, augment(plain).images)
    assert not torch.equal(batches[0].images, plain.images)


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_each_batch_and_its_seeds(world_size):
    schedule = Schedule(10, 5, seed=0)
    alone = take(Batches(Numbered(), schedule), 1, 3)
    ranks = [take(Batches(Numbered(), schedule, rank=r, world_size=world_size), 1, 3) for r in range(world_size)]
    for step, batch in enumerate(alone):
        parts = [rank[step] for rank in ranks]
        shared = [pair for part in parts for pair in zip(numbers(part), part.seeds, strict=True)]
        assert sorted(shared) == sorted(zip(numbers(batch), batch.seeds, strict=True))


def test_workers_see_the_same_and_the_global_generator_is_left_alone():
    schedule = Schedule(10, 5, seed=0)
    before = torch.random.get_rng_state()
    here = take(Batches(Numbered(), schedule), 0, 3)
    assert torch.equal(before, torch.random.get_rng_state())
    there = take(Batches(Numbered(), schedule, num_workers=1), 0, 3)
    assert torch.equal(before, torch.random.get_rng_state())
    assert [numbers(b) for b in here] == [numbers(b) for b in there]


def example(count=40):
    generator = torch.Generator().manual_seed(0)
    images = 0.2 + 0.6 * torch.rand(count, 3, 6, 6, generator=generator)
    foreground = images[:, 0] > 0.5
    return Batch(images, foreground, [10**15 + i for i in range(count)])


def test_augmentation_depends_on_the_seed_alone():
    batch = example()
    kept = batch.images.clone()
    once, again = augment(batch), augment(batch)
    assert torch.equal(once.images, again.images) and torch.equal(batch.images, kept)
    part = Batch(batch.images[[5, 2]], batch.foreground[[5, 2]], [batch.seeds[5], batch.seeds[2]])
    assert torch.equal(augment(part).images, once.images[[5, 2]])
    assert once.seeds == batch.seeds


def test_augmentation_mirrors_image_and_foreground_alike():
    batch, made = example(), augment(example())
    kinds = set()
    for before, after, mask, mirrored in zip(batch.images, made.images, batch.foreground, made.foreground, strict=True):
        for axes in ((), (1,), (2,), (1, 2)):
            flipped = before.flip(axes)
            gain, offset = _fit(flipped, after)
            if (gain * flipped + offset - after).abs().max() < 1e-5:
                kinds.add(axes)
                assert 0.95 <= gain <= 1.05 and -0.0201 <= offset <= 0.0201
                assert torch.equal(mirrored, mask.flip([axis - 1 for axis in axes]))
                break
        else:
            pytest.fail("neither mirrored nor lit")
    assert len(kinds) == 4


def _fit(x, y):
    """Gain and offset of a straight line from x to y."""
    x, y = x.double().flatten(), y.double().flatten()
    gain = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    return gain.item(), (y.mean() - gain * x.mean()).item()


def test_augmented_images_stay_images():
    batch = Batch(torch.ones(20, 3, 4, 4), torch.ones(20, 4, 4, dtype=torch.bool), list(range(20)))
    assert augment(batch).images.max() <= 1
    black = Batch(torch.zeros(20, 3, 4, 4), batch.foreground, batch.seeds)
    assert augment(black).images.min() >= 0
