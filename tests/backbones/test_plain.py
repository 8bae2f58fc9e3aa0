"""Our plain ViT is timm's: the same tensors, starting values, outputs and gradients."""

from __future__ import annotations

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from robustad.backbones import PlainViT, ViTFeatureExtractor
from robustad.backbones.embed import GridEmbed
from robustad.backbones.plain import Attention

SHAPE = {"embed_dim": 12, "depth": 3, "num_heads": 3}


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        yield


def ours():
    torch.manual_seed(0)
    embed = GridEmbed(nn.Identity(), img_size=32, patch_size=8, in_channels=3, embed_dim=12, kernel_size=8)
    return PlainViT(embed, **SHAPE)


def timms():
    torch.manual_seed(0)
    return VisionTransformer(img_size=32, patch_size=8, num_classes=0, class_token=False, global_pool="", **SHAPE)


def test_tensors_have_the_same_names_and_starting_values():
    one, two = ours().state_dict(), timms().state_dict()
    assert list(one) != [] and set(one) == set(two)
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outputs_and_gradients_are_the_same(dtype):
    one, two = (
        ViTFeatureExtractor(vit.to(dtype), feature_layers=[1, 3], attention_layers=[2]) for vit in (ours(), timms())
    )
    for parameter in one.parameters():
        nn.init.normal_(parameter, std=0.3)
    two.load_state_dict(one.state_dict())
    images = torch.randn(2, 3, 32, 32, dtype=dtype)
    found = []
    for extractor in (one, two):
        x = images.clone().requires_grad_(True)
        features = extractor(x, with_attention=True)
        (gradient,) = torch.autograd.grad(features.tokens.square().sum(), x)
        found.append((features.tokens, *features.projections[0], gradient))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert torch.equal(ours().eval()(images.float()), timms().eval().forward_features(images.float()))


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="`num_heads` must divide the width 12, got 5"):
        Attention(12, 5)
