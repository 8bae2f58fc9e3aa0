"""Metrics and patches against what the published PatchGuard code computed on the same inputs."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from robustad.metrics import auroc, pixel_auroc
from robustad.ops.patches import patch_labels, patchify

SHARED = Path(os.environ.get("ROBUSTAD_SHARED", Path(__file__).parents[2].parent / "shared"))
VECTORS = SHARED / "vectors" / "patchguard" / "metrics.npz"
pytestmark = pytest.mark.skipif(not VECTORS.is_file(), reason="the published test vectors are not on this machine")


@pytest.fixture(scope="module")
def vectors():
    with np.load(VECTORS) as data:
        return dict(data)


def published_maps(patch_scores, size):
    """Patch scores to smoothed pixel maps, with scipy's Gaussian: independent of the detectors' own code.

    The border is scipy's "reflect" (edge pixel repeated), not PyTorch's: at 224 pixels the outermost row differs.
    """
    side = int(patch_scores.shape[1] ** 0.5)
    grid = torch.from_numpy(patch_scores).unflatten(1, (side, side))  # (N,h*w) -> (N,h,w)
    maps = torch.nn.functional.interpolate(grid[:, None], (size, size), mode="bilinear", align_corners=False)[:, 0]
    return np.stack([gaussian_filter(one, sigma=6, radius=7, mode="reflect") for one in maps.numpy()])


@pytest.mark.parametrize("group", ["auc_small", "auc_wide"])
def test_published_image_and_pixel_auroc(vectors, group):
    patch_scores, labels, masks = (vectors[f"{group}_{name}"] for name in ("scores", "labels", "masks"))
    image_scores = np.sort(patch_scores, axis=1)[:, -3:].mean(axis=1)
    np.testing.assert_allclose(image_scores, vectors[f"{group}_image_scores_f64"], rtol=1e-12)
    image_scores = vectors[f"{group}_image_scores_f64"]  # the ties are in these, bit for bit
    assert auroc(image_scores, labels) == pytest.approx(float(vectors[f"{group}_image_auroc_f64"]), abs=1e-12)
    maps = published_maps(patch_scores, masks.shape[1])
    stored = vectors[f"{group}_localization_f32"]
    np.testing.assert_allclose(maps[: len(stored)], stored, atol=5e-6)
    expected = float(vectors[f"{group}_pixel_auroc_f64"])
    assert pixel_auroc(maps, masks > 0) == pytest.approx(expected, abs=1e-10)


def test_published_pixel_auroc_on_the_published_maps(vectors):
    for precision in ("f32", "f64"):
        value = pixel_auroc(vectors[f"auc_small_localization_{precision}"], vectors["auc_small_masks"] > 0)
        assert value == pytest.approx(float(vectors[f"auc_small_pixel_auroc_{precision}"]), abs=1e-12)


@pytest.mark.parametrize(("group", "patch_size"), [("a96_p16", 16), ("b84_p14", 14), ("c60x50_p14_trailing", 14)])
def test_published_patch_labels(vectors, group, patch_size):
    masks = torch.from_numpy(vectors[f"patch_{group}_masks"])
    patches = patchify(masks[:, None], patch_size)
    assert list(patches.shape) == vectors[f"patch_{group}_patches_shape"].tolist()
    np.testing.assert_array_equal(patches.sum(dim=(2, 3, 4)).numpy(), vectors[f"patch_{group}_patch_sums"])
    np.testing.assert_array_equal(patch_labels(masks, patch_size).numpy(), vectors[f"patch_{group}_labels"])


def test_published_patch_layout_and_tiny_values(vectors):
    patches = patchify(torch.from_numpy(vectors["patch_rgb_in"]), 14)
    np.testing.assert_array_equal(patches.numpy(), vectors["patch_rgb_out"])
    labels = patch_labels(torch.from_numpy(vectors["patch_tiny_in"]), 14)
    np.testing.assert_array_equal(labels.numpy(), vectors["patch_tiny_labels"])
