"""PGD and what builds on it against second implementations, and its own options."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attack_doubles import Toy, images

from robustad.attacks import APGD, PGD, ImageObjective, MomentumPGD

LABELS = torch.tensor([False, True, False, True, True])


def plain_pgd(detector, clean, labels, epsilon, step, steps, norm, decay):
    """One image at a time, backward() into a leaf, NumPy projections."""
    results = []
    for image, label in zip(clean, labels, strict=True):
        x, g = image.numpy().copy(), 0
        for _ in range(steps):
            leaf = torch.tensor(x[None], requires_grad=True)
            (detector(leaf).scores * (-1 if label else 1)).backward()
            g = decay * g + leaf.grad[0].numpy() / np.abs(leaf.grad[0].numpy()).mean()
            delta = x + step * (np.sign(g) if norm == "linf" else g / np.sqrt((g**2).sum())) - image.numpy()
            size = np.sqrt((delta**2).sum())
            delta = np.clip(delta, -epsilon, epsilon) if norm == "linf" else delta * min(1, epsilon / size)
            x = np.clip(image.numpy() + delta, 0, 1)
        results.append(torch.from_numpy(x))
    return torch.stack(results)


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 8 / 255), ("l2", 0.7)])
@pytest.mark.parametrize(("share", "steps"), [(None, 7), (0.3, 4)])
@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_equals_a_second_implementation(norm, epsilon, share, steps, decay):
    clean = images(dtype=torch.float64)
    detector = Toy(dtype=torch.float64)
    options = {"norm": norm, "steps": steps, "rel_stepsize": share, "keep": "last"}
    step = epsilon * (2.5 / steps if share is None else share)
    wanted = plain_pgd(detector, clean, LABELS, epsilon, step, steps, norm, decay)
    for attack in (MomentumPGD(decay=decay, **options), *([] if decay else [PGD(**options)])):
        attacked = attack(ImageObjective(detector, LABELS), clean, epsilon=epsilon)
        torch.testing.assert_close(attacked, wanted, rtol=0, atol=1e-12)


def test_steps_of_apgd_are_three_parts_ascent_and_one_part_momentum():
    """Around a peak close by, in radii: 0.75 x (-2) + 0.25 x 1 from 1 on, then 0.75 x 1.25 + 0.25 x (-1.25)."""
    seen = []

    def target(x, _index):
        seen.append(float(x.detach().mean() - 0.5) / 0.1)
        return -(x - 0.51).abs().flatten(1).sum(1)

    APGD(steps=14)(target, torch.full((1, 3, 4, 4), 0.5, dtype=torch.float64), epsilon=0.1)
    assert seen[:4] == pytest.approx([0, 1, -0.25, 0.375])


def test_best_is_the_best_of_all_iterates():
    """Steps that overshoot: the best iterate is one in the middle, and it is found."""
    seen: list[torch.Tensor] = []
    target = ImageObjective(Toy(dtype=torch.float64), LABELS)

    def watched(x, index):
        values = target(x, index)
        seen.append(values.detach())
        return values

    clean = images(dtype=torch.float64)
    options = {"steps": 6, "rel_stepsize": 2.0}
    attacked = PGD(**options)(watched, clean, epsilon=0.3)
    best = target(attacked, torch.arange(5)).detach()
    torch.testing.assert_close(best, torch.stack(seen).amax(0), rtol=0, atol=1e-12)
    last = target(PGD(keep="last", **options)(target, clean, epsilon=0.3), torch.arange(5))
    assert (best > last + 1e-6).any(), "otherwise the last iterate would do"


def test_the_published_attack_starts_at_the_clean_image_and_keeps_the_last():
    attack = PGD.published(steps=4)
    assert (attack.keep, attack.random_start, attack.restarts, attack.norm) == ("last", False, 1, "linf")
    starts = []

    def watched(x, index):
        starts.append(x.detach().clone())
        return x.flatten(1).sum(1)

    clean = images()
    attacked = attack(watched, clean, epsilon=0.1)
    assert torch.equal(starts[0], clean)
    torch.testing.assert_close(attacked, (clean + 0.1).clamp(0, 1))


def test_a_random_start_is_random_from_the_first_run():
    starts = []

    def watched(x, index):
        if x.requires_grad:
            starts.append(x.detach().clone())
        return x.flatten(1).sum(1)

    clean = images()
    PGD(steps=1, restarts=2)(watched, clean, epsilon=0.1)
    assert torch.equal(starts[0], clean) and not torch.equal(starts[1], clean)
    starts.clear()
    PGD(steps=1, restarts=2, random_start=True)(watched, clean, epsilon=0.1)
    assert not torch.equal(starts[0], clean) and not torch.equal(starts[1], starts[0])
    offsets = (starts[0] - clean)[(clean > 0.1) & (clean < 0.9)] / 0.1
    assert offsets.min() < -0.9 and offsets.max() > 0.9 and abs(offsets.mean()) < 0.1


@pytest.mark.parametrize("options", [{"steps": 0}, {"rel_stepsize": 0.0}, {"rel_stepsize": -1.0}])
def test_options_are_checked(options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` must be"):
        PGD(**options)


@pytest.mark.parametrize(("attack", "passes"), [(PGD(steps=4), 5), (PGD(steps=4, random_start=True), 6)])
def test_a_run_that_begins_at_the_images_looks_at_them_once(attack, passes):
    calls = []

    def objective(x, _index):
        calls.append(x.detach().clone())
        return x.flatten(1).sum(1)

    images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    attack(objective, images, epsilon=0.1, generator=torch.Generator().manual_seed(1))
    assert len(calls) == passes and torch.equal(calls[0], images)
    calls.clear()
    attack(objective, images, epsilon=0.1, start=images + 0.05, generator=torch.Generator().manual_seed(1))
    assert len(calls) == passes + 1, "what it begins at, and the clean images, which it must not fall behind"


def test_what_is_begun_at_counts_even_where_the_clean_image_is_done_with():
    """As after a climb in bfloat16, whose goal lies a little further."""

    def objective(x, _index):
        return x.flatten(1).mean(1)

    images = torch.full((2, 3, 4, 4), 0.5)
    goals = torch.tensor([0.4, 2.0])
    found = PGD(steps=1)(objective, images, epsilon=0.1, start=images + 0.05, goals=goals)
    assert found[0].mean() == pytest.approx(0.55) and found[1].mean() == pytest.approx(0.6)
