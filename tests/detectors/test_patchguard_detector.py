"""PatchGuard as a detector: scores, maps, normalisation, kinds of ViT, determinism, errors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from timm.models.vision_transformer import VisionTransformer

from robustad.detectors import PatchGuard, PatchGuardConfig
from robustad.detectors.discriminator import AttentionDiscriminator
from robustad.types import Detector

VITS = {
    "no CLS": {"class_token": False, "global_pool": ""},
    "CLS": {},
    "CLS and registers": {"reg_tokens": 4},
    "positions of patches only": {"reg_tokens": 4, "no_embed_class": True},
}


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def detector(kind="CLS", *, dtype=torch.float32, **options):
    vit = VisionTransformer(img_size=32, patch_size=8, embed_dim=16, depth=3, num_heads=2, num_classes=0, **VITS[kind])
    config = PatchGuardConfig(**{"image_size": 32, "discriminator_hidden": 24, "dropout": 0.3, **options})
    return PatchGuard(config, vit=vit).to(dtype).eval()


def images(count=4, dtype=torch.float32, size=32):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("kind", VITS)
def test_any_plain_vit(kind):
    model = detector(kind, feature_layers=(1, 3), attention_layers=(2,))
    prediction = model(images())
    assert isinstance(model, Detector)
    assert prediction.scores.shape == (4,) and prediction.anomaly_maps.shape == (4, 32, 32)
    assert (model.num_patches, model.patch_size, model.features.embed_dim) == (16, 8, 32)
    assert model.num_prefix_tokens == {"no CLS": 0, "CLS": 1}.get(kind, 5)
    output = model.patch_output(images(), with_attention=True)
    assert [q.shape for q, _ in output.projections] == [(4, 2, 16 + model.num_prefix_tokens, 8)]


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (3, 3), (16, 16), (0.25, 4), (0.5, 8), (0.001, 1), (1.0, 1)])
def test_image_score_is_the_mean_of_the_highest_logits(top_k, count):
    model = detector(top_k=top_k)
    logits = model.patch_logits(images()).detach()
    wanted = np.sort(logits.numpy(), axis=1)[:, -count:].mean(axis=1)
    np.testing.assert_allclose(model(images()).scores.detach(), wanted, rtol=1e-5)


@pytest.mark.parametrize("top_k", [0, -1, 17, 2.5])
def test_wrong_top_k_is_refused(top_k):
    with pytest.raises(ValueError, match="`top_k` must"):
        detector(top_k=top_k)


def test_maps_are_smoothed_upsampled_logits_in_their_place():
    model = detector(sigma=2.0, radius=4)
    logits = torch.zeros(1, 16)
    logits[0, 7] = 1.0  # second row, last column
    maps = model.anomaly_maps(logits)[0].numpy()
    assert np.unravel_index(maps.argmax(), maps.shape)[0] in range(8, 16)
    assert np.unravel_index(maps.argmax(), maps.shape)[1] in range(24, 32)
    upsampled = torch.nn.functional.interpolate(logits.view(1, 1, 4, 4), size=32, mode="bilinear")[0, 0].numpy()
    np.testing.assert_allclose(maps, gaussian_filter(upsampled, 2.0, mode="reflect", radius=4), atol=1e-6)


def test_normalisation_is_inside():
    """Another mean and spread in the config equal another normalisation of the pixels outside."""
    mean, std = (0.2, 0.4, 0.6), (0.5, 0.25, 2.0)
    plain = detector(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), dtype=torch.float64)
    inside = PatchGuard(dataclasses.replace(plain.config, mean=mean, std=std), vit=plain.features.vit).double().eval()
    inside.discriminator = plain.discriminator
    x = images(dtype=torch.float64)
    outside = (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(inside(x).scores, plain(outside).scores, rtol=0, atol=1e-6)
    assert not torch.allclose(inside(x).scores, plain(x).scores, atol=1e-3)


def test_images_do_not_see_their_batch():
    model = detector(dtype=torch.float64)
    x = images(dtype=torch.float64)
    together, part = model(x), model(x[[2, 0]])
    torch.testing.assert_close(part.scores, together.scores[[2, 0]], rtol=0, atol=1e-12)
    torch.testing.assert_close(part.anomaly_maps, together.anomaly_maps[[2, 0]], rtol=0, atol=1e-12)


def test_deterministic_in_eval_mode_and_dropout_in_train_mode():
    model = detector()
    state = torch.random.get_rng_state()
    assert torch.equal(model(images()).scores, model(images()).scores)
    assert torch.equal(torch.random.get_rng_state(), state)
    model.train()
    assert not torch.equal(model(images()).scores, model(images()).scores)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kind_of_number_is_kept_and_gradients_reach_the_pixels(dtype):
    model = detector(dtype=dtype)
    x = images(dtype=dtype).requires_grad_(True)
    prediction = model(x)
    assert prediction.scores.dtype == prediction.anomaly_maps.dtype == dtype
    for value in (prediction.scores.sum(), prediction.anomaly_maps.sum()):
        (gradient,) = torch.autograd.grad(value, x, retain_graph=True)
        assert (gradient.flatten(1).norm(dim=1) > 0).all()


def test_scores_are_float32_under_autocast():
    model = detector()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        prediction = model(images())
    assert prediction.scores.dtype == prediction.anomaly_maps.dtype == torch.float32


def test_wrong_images_are_refused():
    model = detector()
    with pytest.raises(ValueError, match=r"must be 32x32 pixels for this detector, got \(40, 40\)"):
        model(images(size=40))
    with pytest.raises(ValueError, match="`images` must be a float tensor"):
        model(images()[:, :1])
    with pytest.raises(ValueError, match=r"torch\.uint8"):
        model((images() * 255).to(torch.uint8))


def test_an_attention_layer_above_the_last_feature_layer_is_refused():
    with pytest.raises(ValueError, match="`attention_layers` must name blocks from 1 to 2"):
        detector(feature_layers=(2,), attention_layers=(3,))


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="`discriminator_heads` must divide the feature width 16, got 3"):
        detector(discriminator_heads=3)


def test_discriminator_equals_its_equations():
    """One post-norm attention layer by hand: attention, ONE normalisation, MLP residual, linear."""
    model = AttentionDiscriminator(8, 5, num_heads=2, hidden_dim=6, position_std=1.0).double().eval()
    features = torch.randn(3, 5, 8, dtype=torch.float64)
    layer = model.layers[0]
    tokens = features + model.positions
    qkv = tokens @ layer.attn.in_proj_weight.T + layer.attn.in_proj_bias
    q, k, v = (part.view(3, 5, 2, 4).transpose(1, 2) for part in qkv.chunk(3, dim=-1))
    attended = ((q @ k.transpose(-2, -1) / 4**0.5).softmax(-1) @ v).transpose(1, 2).reshape(3, 5, 8)
    hidden = layer.norm(tokens + layer.attn.out_proj(attended))
    hidden = hidden + layer.mlp(hidden)
    torch.testing.assert_close(model(features), (hidden @ model.head.weight.T + model.head.bias)[..., 0])


def test_the_discriminator_attends_as_the_module_that_holds_its_weights():
    """Dropout on attention included: equal seeds, equal numbers."""
    layer = AttentionDiscriminator(8, 5, num_heads=2, hidden_dim=6, dropout=0.4).double().train().layers[0]
    tokens = torch.randn(3, 5, 8, dtype=torch.float64)
    found = []
    for attended in (layer._attended, lambda x: layer.attn(x, x, x, need_weights=False)[0]):
        torch.manual_seed(7)
        found.append(attended(tokens))
    torch.testing.assert_close(*found)
    assert not torch.equal(found[0], layer.eval()._attended(tokens))


def test_config_from_plain_values():
    config = PatchGuardConfig(feature_layers=(1, 2), top_k=3)
    assert PatchGuardConfig.from_dict(config.to_dict()) == config
    assert PatchGuardConfig.from_dict({"feature_layers": [1, 2], "top_k": 3}) == config
    with pytest.raises(ValueError, match=r"unknown option 'topk', 'zzz'; known: .*top_k"):
        PatchGuardConfig.from_dict({"zzz": 1, "topk": 3})
    with pytest.raises(ValueError, match="`mean` and `std` need one number per channel"):
        PatchGuardConfig(mean=(0.5, 0.5))
    with pytest.raises(ValueError, match="`std` above 0"):
        PatchGuardConfig(std=(1.0, 0.0, 1.0))
    with pytest.raises(ValueError, match="`image_size` must be at least 1"):
        PatchGuardConfig(image_size=0)
