"""The reference stem compares an image with the normal images that resemble it most."""

import pickle
from contextlib import nullcontext

import pytest
import torch

from robustad.backbones import reference
from robustad.backbones.reference import ReferenceStem

STD = torch.tensor([0.5, 0.25, 0.2])


def normal_images(count=6, side=16):
    """Random blocks, far from each other, in [0, 1]."""
    blocks = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return blocks.repeat_interleave(side // 4, 2).repeat_interleave(side // 4, 3)


def fitted(images, *, pool=2, count=6, detail=False, sources=None):
    stem = ReferenceStem(images.shape[-1], pool=pool, num_references=count, detail=detail)
    sources = torch.arange(len(images)) if sources is None else sources
    stem.fit(images / STD[:, None, None], STD, sources, seed=0)
    return stem


def differences(stem, images):
    return stem.differences(torch.nn.functional.avg_pool2d(images / STD[:, None, None], stem.pool))


def test_a_known_image_differs_from_nothing():
    images = normal_images()
    raw, centred = differences(fitted(images), images)
    assert raw.abs().max() < 1e-3 and centred.abs().max() < 1e-3


def test_a_defect_is_the_difference_in_pixel_units_and_a_drift_of_light_only_in_the_raw_one():
    images = normal_images()
    stem = fitted(images)
    defect = images.clone()
    defect[:, :, 4:8, 8:12] -= 0.2
    raw, centred = differences(stem, defect)
    assert raw[:, :, 2:4, 4:6].mean().item() == pytest.approx(-0.2, abs=0.01)
    assert raw[:, :, 5:].abs().max() < 0.01
    assert (centred[:, :, 2:4, 4:6].mean() - centred[:, :, 5:].mean()).item() == pytest.approx(-0.2, abs=0.01)
    raw, centred = differences(stem, images + 0.03)
    assert raw.mean().item() == pytest.approx(0.03, abs=0.003)
    assert centred.abs().max() < 1e-3


def test_leaving_out_finds_no_image_in_itself_also_in_multiples_of_a_batch():
    images = normal_images()
    stem = fitted(images)
    with stem.leaving_out(torch.arange(6)):
        alone = differences(stem, images)[0]
        twice = differences(stem, torch.cat([images, images]))[0]
    others = torch.stack([fitted(torch.cat([images[:i], images[i + 1 :]]), count=5).references for i in range(6)])
    nearest = [
        others[i][(others[i] - pooled).square().flatten(1).mean(1).argmin()] for i, pooled in enumerate(pools(images))
    ]
    assert torch.allclose(alone, pools(images) - torch.stack(nearest), atol=2e-3)
    assert torch.equal(twice, torch.cat([alone, alone]))
    assert differences(stem, images)[0].abs().max() < 1e-3, "outside the block nothing is left out"


def pools(images):
    return torch.nn.functional.avg_pool2d(images, 2)


def between(count=5):
    """Images between several references, which all count."""
    images = normal_images()
    shares = torch.rand(count, 6, generator=torch.Generator().manual_seed(2)).softmax(dim=1)
    mixed = (shares @ (0.5 + 0.02 * (images - 0.5)).flatten(1)).view(count, *images.shape[1:])
    return mixed + 0.1 * torch.rand(count, 1, 1, 1, generator=torch.Generator().manual_seed(3))


def literal(stem, images):
    """Mixtures as they are defined, reference by reference and one after the other."""
    found = []
    for centre in (False, True):
        x, references = pools(images), stem.references
        if centre:
            x, references = (y - y.mean(dim=(2, 3), keepdim=True) for y in (x, references))
        distances = (x[:, None] - references[None]).square().flatten(2).mean(2)
        weights = (-distances / (2 / 255) ** 2).softmax(dim=1)
        assert weights.max() < 0.99, "several count"
        found.append(x - torch.einsum("nr,rchw->nchw", weights, references))
    return found


def test_one_product_for_both_mixtures_is_what_each_would_be_alone():
    stem = fitted(0.5 + 0.02 * (normal_images() - 0.5))
    for found, wanted in zip(differences(stem, between()), literal(stem, between()), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_in_bfloat16_a_difference_is_known_to_a_quarter_of_a_grey_level_and_so_is_its_slope():
    """Rows of bright images would be rounded by half a level, and would say that their difference is as much."""
    images = 0.75 + 0.2 * (normal_images() - 0.5)
    stem, results, slopes = fitted(images), [], []
    defect = images.clone()
    defect[:, :, 4:8, 8:12] -= 0.1
    for enabled in (False, True):
        x = defect.clone().requires_grad_(True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            results.append(torch.cat(differences(stem, x)))
        (slope,) = torch.autograd.grad((results[-1] ** 2).sum(), x)
        slopes.append(slope.flatten())
    assert results[1].dtype == torch.float32 and not torch.equal(*results)
    assert (results[1] - results[0]).abs().max() < 0.25 / 255
    assert torch.nn.functional.cosine_similarity(*slopes, dim=0) > 0.999


def test_a_lone_image_is_compared_with_itself_rather_than_with_nothing():
    stem = fitted(normal_images(1), count=4)
    with stem.leaving_out(torch.tensor([0])):
        assert torch.isfinite(differences(stem, normal_images(1))[0]).all()


def test_among_more_images_than_are_kept_references_stand_for_all_groups_and_keep_their_numbers():
    groups = normal_images(4).repeat_interleave(10, 0)
    noise = torch.randn(groups.shape, generator=torch.Generator().manual_seed(1))
    images = (groups + 0.005 * noise).clamp(0, 1)
    stem = fitted(images, count=4, sources=torch.arange(100, 140))
    assert sorted((stem.sources // 10).tolist()) == [10, 11, 12, 13]
    for number, kept in zip(stem.sources.tolist(), stem.references, strict=True):
        assert torch.allclose(kept, pools(images)[number - 100], atol=1e-6)


def test_differences_enter_the_network_with_the_spread_of_normal_images_as_their_unit():
    images = normal_images(12, side=64)
    stem = fitted(images, count=12, detail=True)
    with stem.leaving_out(torch.arange(12)):
        channels = stem(images / STD[:, None, None])
    assert channels.shape == (12, stem.out_channels, 32, 32) and stem.out_channels == 15
    for part in (channels[:, 3:6], channels[:, 6:9], channels[:, 9:]):
        assert part.square().mean().sqrt().item() == pytest.approx(1, rel=1e-4)


def test_detail_shows_a_spot_on_a_brushed_ground_and_not_the_ground():
    columns = torch.rand(1, 3, 1, 32, generator=torch.Generator().manual_seed(2))
    brushed = columns.expand(1, 3, 32, 32).clone()
    spot = brushed.clone()
    spot[:, :, 10:12, 20:22] -= 0.3
    stem = fitted(brushed, pool=1, count=0, detail=True)
    along, across = stem.line_differences(spot / STD[:, None, None])
    assert along[:, :, 10:12, 20:22].mean().item() == pytest.approx(-0.3 * 15 / 17, abs=1e-3)
    along[:, :, :, 20:22] = 0
    assert along.abs().max() < 1e-5, "columns without a spot are flat"
    assert across.abs().max() > 0.1, "rows see the brushing"


def test_gradients_reach_the_image_through_the_choice_of_references():
    images = normal_images().double()
    stem = fitted(images.float()).double()
    between = (0.52 * images[:1] + 0.48 * images[1:2]) / STD[:, None, None]
    assert torch.autograd.gradcheck(
        lambda x: stem.differences(x), (torch.nn.functional.avg_pool2d(between, 2).requires_grad_(True),)
    )


def test_bfloat16_autocast_keeps_grey_levels():
    images = normal_images()
    stem = fitted(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        shifted = differences(stem, images + 1 / 255)[0]
    assert shifted.mean().item() * 255 == pytest.approx(1, abs=0.1)


def test_what_is_derived_from_the_references_follows_them():
    first, second = normal_images(), normal_images().flip(0).roll(2, 2)
    stem = fitted(first)
    differences(stem, first)  # derived now
    stem.load_state_dict(fitted(second).state_dict())
    assert differences(stem, second)[0].abs().max() < 1e-3
    stem.fit(first / STD[:, None, None], STD, torch.arange(6), seed=0)
    assert differences(stem, first)[0].abs().max() < 1e-3
    assert differences(stem.double(), first.double())[0].dtype == torch.float64


@pytest.mark.parametrize("left_out", [False, True])
@pytest.mark.parametrize("spread", [1.0, 0.02])
def test_repeated_references_are_compared_with_once_and_count_as_often_as_they_are_kept(left_out, spread):
    """Also where they are so alike that each counts for something: 16 of 6 are three of four and two of two."""
    normals = 0.4 + spread * (normal_images(6) - 0.4)
    images = (normals + 0.02 * spread * torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(3))).clamp(
        0, 1
    )
    stem, every = fitted(normals, count=16), fitted(normals, count=16)
    with stem.leaving_out(torch.arange(6)) if left_out else nullcontext():
        found = differences(stem, images)
    assert len(stem._bank(torch.float32).rows) == 6
    every._distinct = 16
    every._banks.clear()
    with every.leaving_out(torch.arange(6)) if left_out else nullcontext():
        wanted = differences(every, images)
    assert len(every._bank(torch.float32).rows) == 16
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-6)


def test_how_many_references_differ_is_known_after_loading():
    stem, other = fitted(normal_images(6), count=16), ReferenceStem(16, pool=2, num_references=16)
    other.load_state_dict(stem.state_dict())
    assert other._distinct == stem._distinct == 6
    several = fitted(normal_images(6), count=6, sources=torch.tensor([0, 0, 1, 1, 2, 2]))  # two pictures of each source
    other = ReferenceStem(16, pool=2, num_references=6)
    other.load_state_dict(several.state_dict())
    assert other._distinct == 6
    assert torch.equal(differences(other, normal_images(6))[0], differences(several, normal_images(6))[0])


@pytest.mark.parametrize("side", [8, 32, 33, 48, 64, 100])
def test_the_grid_that_images_are_matched_on_is_that_of_adaptive_pooling(side):
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = torch.nn.functional.adaptive_avg_pool2d(images, min(32, side)).flatten(1)
    torch.testing.assert_close(reference._coarse(images), wanted)


def test_it_can_be_pickled():
    stem = fitted(normal_images(6))
    again = pickle.loads(pickle.dumps(stem))  # noqa: S301 - our own
    for one, other in zip(differences(stem, normal_images(6)), differences(again, normal_images(6)), strict=True):
        assert torch.equal(one, other)
