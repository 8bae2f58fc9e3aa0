"""Features and attention of any plain ViT: with and without CLS, with registers, from any layers."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

from robustad.backbones import ViTFeatureExtractor

KINDS = {
    "no CLS": {"class_token": False, "global_pool": ""},
    "CLS": {},
    "CLS and registers": {"reg_tokens": 4},
    "positions of patches only": {"reg_tokens": 4, "no_embed_class": True},
    "q/k norm": {"qk_norm": True},
    "pre-norm": {"pre_norm": True, "init_values": 1e-5},
}
PREFIX = {"no CLS": 0, "CLS": 1, "CLS and registers": 5, "positions of patches only": 5, "q/k norm": 1, "pre-norm": 1}
kinds = pytest.mark.parametrize("kind", KINDS)


def build(kind, *, depth=3, dtype=torch.float64) -> VisionTransformer:
    torch.manual_seed(0)
    options = {"img_size": 32, "patch_size": 8, "embed_dim": 12, "depth": depth, "num_heads": 3, "num_classes": 0}
    vit = VisionTransformer(**options, **KINDS[kind])
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return vit.to(dtype).eval()


def images(count=2):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        yield


@kinds
def test_prefix_tokens_are_read_from_the_model(kind):
    extractor = ViTFeatureExtractor(build(kind), feature_layers=[3])
    assert extractor.num_prefix_tokens == PREFIX[kind]
    assert extractor.grid_size == (4, 4)
    assert extractor(images()).tokens.shape == (2, 16, 12)


@kinds
def test_last_layer_equals_timm(kind):
    vit = build(kind)
    with torch.no_grad():
        tokens = ViTFeatureExtractor(vit, feature_layers=[3])(images()).tokens
        torch.testing.assert_close(tokens, vit.forward_features(images())[:, PREFIX[kind] :], rtol=0, atol=1e-12)


@kinds
def test_inner_layers_equal_timms_own_intermediates(kind):
    vit = build(kind)
    extractor = ViTFeatureExtractor(vit, feature_layers=[3, 1])
    assert extractor.embed_dim == 24
    with torch.no_grad():
        tokens = extractor(images()).tokens
        wanted = vit.forward_intermediates(
            images(), indices=[0, 2], norm=True, output_fmt="NLC", intermediates_only=True
        )
    torch.testing.assert_close(tokens, torch.cat(wanted, dim=-1), rtol=0, atol=1e-12)


def test_patches_are_row_major():
    """With attention and MLP silenced, a patch's token sees its own pixels only."""
    vit = build("CLS")
    for block in vit.blocks:
        for part in (block.attn.proj, block.mlp.fc2):
            torch.nn.init.zeros_(part.weight)
            torch.nn.init.zeros_(part.bias)
    extractor = ViTFeatureExtractor(vit, feature_layers=[3])
    changed = images(1)
    changed[:, :, 8:16, 24:32] += 1  # second row, last column
    with torch.no_grad():
        moved = (extractor(changed).tokens - extractor(images(1)).tokens).abs().amax(dim=(0, 2))
    assert moved.nonzero().flatten().tolist() == [7]


@kinds
def test_queries_and_keys_give_the_models_attention(kind):
    """Through the values: softmax(q.k) applied to the block's own values is what its projection receives."""
    vit = build(kind)
    extractor = ViTFeatureExtractor(vit, feature_layers=[3], attention_layers=[3, 1])
    received, computed = {}, {}
    for number in (1, 3):
        attention = vit.blocks[number - 1].attn
        attention.proj.register_forward_pre_hook(lambda _m, inputs, n=number: received.update({n: inputs[0]}))
        attention.qkv.register_forward_hook(lambda _m, _i, qkv, n=number: computed.update({n: qkv}))
    with torch.no_grad():
        projections = extractor(images(), with_attention=True).projections
    assert len(projections) == 2
    for number, (queries, keys) in zip((1, 3), projections, strict=True):
        tokens = PREFIX[kind] + 16
        assert queries.shape == keys.shape == (2, 3, tokens, 4)
        values = computed[number].reshape(2, tokens, 3, 3, 4)[:, :, 2].transpose(1, 2)
        attended = (queries @ keys.transpose(-2, -1) / 2).softmax(-1) @ values
        wanted = attended.transpose(1, 2).reshape(2, tokens, 12)
        torch.testing.assert_close(wanted, received[number], rtol=0, atol=1e-10)


def test_attention_comes_on_request_only_and_leaves_no_hook():
    vit = build("CLS")
    extractor = ViTFeatureExtractor(vit, feature_layers=[2], attention_layers=[1])
    plain, asked = extractor(images()), extractor(images(), with_attention=True)
    assert plain.projections == [] and len(asked.projections) == 1
    assert torch.equal(plain.tokens, asked.tokens)
    vit.blocks[1].attn.proj.register_forward_pre_hook(_fail)
    with pytest.raises(RuntimeError, match="stop"):
        extractor(images(), with_attention=True)
    assert all(not block.attn.qkv._forward_hooks for block in vit.blocks), "also after an error"


def _fail(*_args):
    raise RuntimeError("stop")


def test_blocks_above_the_last_feature_layer_never_run():
    vit = build("CLS")
    vit.blocks[2].register_forward_pre_hook(_fail)
    ViTFeatureExtractor(vit, feature_layers=[2])(images())


def test_gradients_reach_pixels_through_tokens_queries_and_keys():
    extractor = ViTFeatureExtractor(build("CLS"), feature_layers=[2], attention_layers=[2])
    for part in range(3):
        x = images().requires_grad_(True)
        result = extractor(x, with_attention=True)
        value = (result.tokens, *result.projections[0])[part]
        (gradient,) = torch.autograd.grad(value.square().sum(), x)
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"feature_layers": [0]}, "`feature_layers` must name blocks from 1 to 3"),
        ({"feature_layers": [4]}, r"got \[4\]"),
        ({"feature_layers": []}, "`feature_layers` must name blocks"),
        (
            {"feature_layers": [2], "attention_layers": [3]},
            "`attention_layers` must name blocks from 1 to 2 .*never run",
        ),
        ({"feature_layers": [2, 2]}, "`feature_layers` must name each block once"),
        ({"feature_layers": [3], "attention_layers": [1, 1]}, "`attention_layers` must name each block once"),
    ],
)
def test_wrong_layers_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        ViTFeatureExtractor(build("CLS"), **options)


def test_other_networks_are_refused():
    with pytest.raises(TypeError, match="must be a PlainViT or a timm VisionTransformer, got ByobNet"):
        ViTFeatureExtractor(timm.create_model("test_byobnet"), feature_layers=[1])
