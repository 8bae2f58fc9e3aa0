"""COBRA's score: deterministic, independent of the batch, differentiable; its memory lives in the checkpoint."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from robustad.detectors.cobra import Cobra, CobraConfig

SCARS = ({"scar": 1.0, "cutout": 1.0},)


def images(count, size=32):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(count))


@pytest.fixture(scope="module")
def detector():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Cobra(CobraConfig(width=4, views=3, blocks=SCARS)).remember([images(6), images(5)]).eval()


def test_scores_do_not_depend_on_place_or_batch_size(detector):
    image = images(1)[0]
    alone = detector(image[None]).scores[0]
    for size in (3, 8):
        for place in (0, size - 1):
            batch = images(size + 1)[:size].clone()
            batch[place] = image
            torch.testing.assert_close(detector(batch).scores[place], alone, rtol=0, atol=1e-6)
    assert detector(image[None]).anomaly_maps is None


def test_scores_are_repeatable_and_leave_the_random_state_alone(detector):
    before = torch.get_rng_state()
    assert torch.equal(detector(images(4)).scores, detector(images(4)).scores)
    assert torch.equal(torch.get_rng_state(), before)


def test_gradients_agree_with_finite_differences(detector):
    network = Cobra(CobraConfig(width=2, views=2, blocks=SCARS)).double()
    network.remember([images(4).double()])
    x = images(2).double()
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(5)).double()
    x.requires_grad_(True)
    (gradient,) = torch.autograd.grad(network(x).scores.sum(), x)
    step = 1e-6
    with torch.no_grad():
        rise = (network(x + step * direction).scores - network(x - step * direction).scores).sum() / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(rise.item(), rel=1e-4)


def test_the_light_score_reads_one_block_and_one_view(detector):
    config = dataclasses.replace(detector.config, views=1, scored_blocks=1, num_axes=0)
    light = Cobra(config)
    light.load_state_dict(
        {k: v for k, v in detector.state_dict().items() if k.startswith(("back", "proj", "class"))}, strict=False
    )
    features = light.eval().mean_features(images(3))
    assert features.projections.shape == (3, 1, 128)
    light.remember([images(6)])
    assert light.axes.shape == (1, 6, 128) and light(images(3)).scores.shape == (3,)


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
        ({"views": 0}, "`views` must be at least 1"),
    ],
)
def test_options_are_checked(options, text):
    with pytest.raises(ValueError, match=text):
        CobraConfig(**options)


def test_an_unknown_backbone_is_named():
    with pytest.raises(ValueError, match="resnet18"):
        Cobra(CobraConfig(backbone="resnet19"))
