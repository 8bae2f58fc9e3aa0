"""COBRA's score: deterministic, independent of the batch, differentiable; its memory lives in the checkpoint."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter

import pytest
import torch

from robustad.detectors import load_checkpoint, save_checkpoint
from robustad.detectors.cobra import Cobra, CobraConfig

SCARS = ({"scar": 1.0, "cutout": 1.0},)


def images(count, size=32):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(count))


@pytest.fixture(scope="module")
def detector():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Cobra(CobraConfig(width=4, views=3, blocks=SCARS)).remember([images(6), images(5)]).eval()


@pytest.mark.parametrize("views", [1, 3])
def test_scores_do_not_depend_on_place_or_batch_size(detector, views):
    detector = with_memory(detector, [images(6)], views=views).eval()
    image = images(1)[0]
    alone = detector(image[None]).scores[0]
    for size in (4, 9):
        for place in (0, 1, size - 2, size - 1):
            batch = images(size + 1)[:size].clone()
            batch[place] = image
            torch.testing.assert_close(detector(batch).scores[place], alone, rtol=0, atol=1e-6)
    assert detector(image[None]).anomaly_maps is None


def test_scores_are_repeatable_and_leave_the_random_state_alone(detector):
    before = torch.get_rng_state()
    assert torch.equal(detector(images(4)).scores, detector(images(4)).scores)
    assert torch.equal(torch.get_rng_state(), before)


def test_gradients_agree_with_finite_differences(detector):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Cobra(CobraConfig(width=2, views=2, blocks=SCARS)).double()
    network.remember([images(4).double()])
    x = images(2).double()
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(5)).double()
    direction /= direction.norm()  # short enough to stay on one side of every kink
    x.requires_grad_(True)
    (gradient,) = torch.autograd.grad(network(x).scores.sum(), x)
    step = 1e-6
    with torch.no_grad():
        rise = (network(x + step * direction).scores - network(x - step * direction).scores).sum() / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(rise.item(), rel=1e-4)


def with_memory(detector, batches, **options):
    """The same weights with other options and a memory of their own."""
    other = Cobra(dataclasses.replace(detector.config, num_axes=0, **options))
    weights = {k: v for k, v in detector.state_dict().items() if k.startswith(("backbone", "projection.", "class"))}
    other.load_state_dict({**other.state_dict(), **weights})
    return other.remember(batches)


def test_the_light_score_reads_one_block_and_one_view(detector, tmp_path):
    light = with_memory(detector, [images(6)], views=1, scored_blocks=1)
    assert light.mean_features(images(3)).projections.shape == (3, 1, 128)
    assert light.axes.shape == (1, 6, 128)
    again = load_checkpoint(save_checkpoint(tmp_path / "light", light)).detector
    assert torch.equal(again(images(3)).scores, light(images(3)).scores)


def test_one_view_is_the_image_as_it_is(detector):
    light = with_memory(detector, [images(6)], views=1, scored_blocks=1)
    torch.testing.assert_close(light.mean_features(images(3)).projections[:, 0], light.features(images(3)).projections)
    several = with_memory(detector, [images(6)], views=2, scored_blocks=1)
    assert not torch.equal(several.mean_features(images(3)).projections, light.mean_features(images(3)).projections), (
        "more are varied"
    )


@pytest.mark.parametrize("max_axes", [11, 12, 1000])
def test_a_memory_that_is_large_enough_changes_nothing(detector, max_axes):
    other = with_memory(detector, [images(6), images(5)], max_axes=max_axes)
    assert other.config.num_axes == 11 and torch.equal(other.axes, detector.axes)
    assert torch.equal(other(images(4)).scores, detector(images(4)).scores)


def test_a_small_memory_is_bounded_and_close_on_what_it_was_chosen_from(detector):
    train = images(24)
    whole, small = (with_memory(detector, [train], max_axes=count) for count in (0, 8))
    assert small.axes.shape == (2, 8, 128) and small.config.num_axes == 8
    assert torch.equal(small.projection_weights, whole.projection_weights), "weights are of all images"
    assert torch.equal(small.logit_weights, whole.logit_weights)
    again = with_memory(detector, [train], max_axes=8)
    assert torch.equal(small.axes, again.axes), "chosen without chance"
    # a unit vector at distance d from the nearest kept one loses d^2 / 2 of its likeness
    with torch.no_grad():
        lengths = whole.mean_features(train).projections.norm(dim=2).T  # (K, N)
        lost = torch.cdist(whole.axes, small.axes).amin(2).square() / 2 * lengths * whole.projection_weights[:, None]
        rise = small(train).scores - whole(train).scores
    torch.testing.assert_close(rise, lost.mean(0), rtol=1e-3, atol=1e-5)
    assert 0 < rise.max() < 0.5 * (whole(images(30)).scores.max() - whole(train).scores.min())
    assert sorted(Counter(tuple(row) for row in small.axes[0].tolist()).values()) == [1] * 8


def test_kept_axes_cover_the_others_as_greedy_selection_promises(detector):
    """Every image lies nearer to a kept one than the kept ones lie to each other."""
    whole, small = (with_memory(detector, [images(24)], max_axes=count) for count in (0, 8))
    for every, kept in zip(whole.axes, small.axes, strict=True):
        apart = torch.cdist(kept, kept) + 9 * torch.eye(8)
        assert torch.cdist(every, kept).amin(1).max() <= apart.min() + 1e-4


def test_without_a_memory_there_is_no_score():
    with pytest.raises(ValueError, match="no memory of normal images yet"):
        Cobra(CobraConfig(width=2))(images(1))
    with pytest.raises(ValueError, match="no normal image"):
        Cobra(CobraConfig(width=2)).remember([])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"image_size": 31}, "`image_size` must be at least 32"),
        ({"blocks": ()}, "at least one pseudo-anomalous block"),
        ({"blocks": ({"rotatoin": 1.0},)}, "did you mean 'rotation'"),
        ({"blocks": ({"rotation": 0.0},)}, "at least one positive weight"),
        ({"scored_blocks": 3}, r"must be in \[0, 2\], got 3"),
        ({"max_axes": -1}, "`max_axes` must be at least 0"),
        ({"views": 0}, "`views` must be at least 1"),
    ],
)
def test_options_are_checked(options, text):
    with pytest.raises(ValueError, match=text):
        CobraConfig(**options)


def test_an_unknown_backbone_is_named():
    with pytest.raises(ValueError, match="resnet18"):
        Cobra(CobraConfig(backbone="resnet19"))


def test_a_classifier_that_fails_on_normal_images_does_not_turn_the_score_around(detector):
    detector = copy.deepcopy(detector)
    with torch.no_grad():
        detector.classifier.bias.fill_(-1e3)
    detector.remember([images(4)])
    assert not detector.logit_weights.any() and detector.projection_weights.isfinite().all()
