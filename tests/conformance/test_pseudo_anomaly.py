"""The published generator against arrays made by running the released code (no code or picture of it is in here)."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import chisquare, ks_2samp

pytest.importorskip("cv2")
pytest.importorskip("noise")

from robustad.synthesis.published import BOUNDS, PublishedConfig, PublishedGenerator, PublishedRandom, sample_randoms
from robustad.synthesis.published import transforms as T
from robustad.synthesis.published.appearance import LEVELS, draw_lines, draw_rectangles
from robustad.synthesis.published.generator import rotate
from robustad.synthesis.published.geometry import allowed_area, place

SHARED = Path(os.environ.get("ROBUSTAD_SHARED", Path(__file__).parents[2].parent / "shared"))
VECTORS = SHARED / "vectors" / "patchguard"
TILES = SHARED / "data" / "magnetic_tile" / "MT_Free" / "Imgs"
pytestmark = pytest.mark.skipif(not VECTORS.is_dir(), reason=f"no conformance vectors in {VECTORS}")
PATCHES = ("a40x56", "b33x21")
# Pillow, OpenCV and libjpeg round differently from version to version
LEVELS_OF_GREY = 2
# Of about 60 comparisons none should reach this by chance
SMALLEST_P = 1e-4


@pytest.fixture(scope="module")
def vectors() -> dict[str, np.ndarray]:
    with np.load(VECTORS / "pseudo_anomaly.npz", allow_pickle=False) as stored:
        return dict(stored)


def assert_close(made: np.ndarray, expected: np.ndarray) -> None:
    assert made.dtype == np.uint8
    np.testing.assert_allclose(made.astype(int), expected.astype(int), rtol=0, atol=LEVELS_OF_GREY)


def test_bounds_are_the_published_table() -> None:
    stored = json.loads((VECTORS / "pseudo_anomaly_meta.json").read_text())["bounds"]
    assert {d: {c: list(b) for c, b in table.items()} for d, table in BOUNDS.items()} == stored


@pytest.mark.parametrize("name", PATCHES)
def test_transforms_with_pinned_parameters(vectors: dict[str, np.ndarray], name: str) -> None:
    patch = vectors[f"tf_in_{name}"]
    for alpha in (10, 40, 100):
        expected = vectors[f"tf_elastic_seed0_alpha{alpha}_{name}"]
        assert_close(T.elastic(patch, alpha, np.random.RandomState(0)), expected)
    for strength in (0.5, 1.5, 2.0):
        assert_close(T.swirl(patch, strength), vectors[f"tf_swirl_{strength}_{name}"])
    for radius in (0.2, 1.0, 3.0):
        assert_close(T.blur(patch, radius), vectors[f"tf_blur_{radius}_{name}"])
    for quality in (1, 20, 50):
        assert_close(T.jpeg(patch, quality), vectors[f"tf_jpeg_{quality}_{name}"])


@pytest.mark.parametrize("name", PATCHES)
def test_transforms_with_seeded_draws(vectors: dict[str, np.ndarray], name: str) -> None:
    patch = vectors[f"tf_in_{name}"]
    for scale in (5.0, 20.0):
        for threshold in (128, 200):
            red, green, blue = np.random.RandomState(5).randint(0, 255, size=3).tolist()
            made = T.perlin(patch, threshold, (red, green, blue), scale=scale)
            assert_close(made, vectors[f"tf_perlin_scale{scale}_thr{threshold}_npseed5_{name}"])
    # the vectors were made with the count pinned to 12 lines, and to 4 rectangles of 15 % each
    drawn = draw_lines(patch.shape[:2], PublishedRandom.from_seed(7), count=(12, 12))
    assert_close(T.lines(patch, drawn), vectors[f"tf_lines_seed7_{name}"])
    boxes = draw_rectangles(patch.shape[:2], PublishedRandom.from_seed(6), area=(0.15, 0.15), count=(4, 4))
    assert_close(T.erase(patch, boxes), vectors[f"tf_erase_seed6_{name}"])


@pytest.mark.parametrize("name", PATCHES)
@pytest.mark.parametrize("angle", [-90.0, -37.0, 0.0, 20.0, 90.0])
def test_rotation(vectors: dict[str, np.ndarray], name: str, angle: float) -> None:
    colours, opacity = rotate(vectors[f"tf_in_{name}"], angle)
    assert_close(colours, vectors[f"tf_rotate_{angle}_{name}"])
    assert_close(opacity, vectors[f"tf_rotate_{angle}_alpha_{name}"])
    np.testing.assert_array_equal(opacity > 0, vectors[f"tf_rotate_{angle}_mask_{name}"] > 0)


@pytest.mark.parametrize("name", ["ellipse", "thinbar"])
def test_dilated_foreground(vectors: dict[str, np.ndarray], name: str) -> None:
    area = allowed_area(vectors[f"fg_{name}"].astype(np.float32), PublishedConfig())
    np.testing.assert_array_equal(area, vectors[f"tf_dilate_{name}"] > 0)


def test_whole_generations_in_the_published_call_order(vectors: dict[str, np.ndarray]) -> None:
    generator = PublishedGenerator(PublishedConfig(lower=BOUNDS["btad"]["01"][0]))
    foreground = vectors["e2e_fg"].astype(np.float32)
    images, masks = generator(vectors["e2e_images_u8"], foreground, PublishedRandom.from_seed(123))
    pixels = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()  # (N,3,H,W) -> (N,H,W,3)
    assert_close(pixels, vectors["e2e_out_u8"])
    np.testing.assert_array_equal(masks.numpy(), vectors["e2e_mask_u8"] > 0)


GEOMETRY = [(14, "full"), (6, "full"), (14, "ellipse"), (9, "ellipse"), (6, "thinbar"), (14, "thinbar")]


@pytest.mark.parametrize(("lower", "name"), GEOMETRY)
def test_distribution_of_places(vectors: dict[str, np.ndarray], lower: int, name: str) -> None:
    config = PublishedConfig(lower=lower)
    area = allowed_area(vectors[f"fg_{name}"].astype(np.float32), config)
    rng = random.Random(lower)
    count = 150 if (lower, name) == (14, "thinbar") else 600
    made = np.array([place(area, rng, config) for _ in range(count)])
    for column, quantity in enumerate(("x1", "y1", "x2", "y2", "width", "height", "attempts")):
        p = ks_2samp(made[:, column], vectors[f"geometry_lower{lower}_{name}"][:, column]).pvalue
        assert p > SMALLEST_P, f"{quantity} of {name} at {lower} px differs, p = {p:.1g}"


def _inputs() -> np.ndarray:
    if TILES.is_dir():
        paths = sorted(TILES.glob("*.jpg"))
        chosen = paths[:: max(1, len(paths) // 20)][:20]
        return np.stack([np.asarray(Image.open(p).convert("RGB").resize((224, 224))) for p in chosen])
    rng = np.random.default_rng(0)
    ramp = np.linspace(60, 180, 224)[:, None] + rng.normal(0, 15, (20, 224, 224))
    return np.repeat(ramp.clip(0, 255).astype(np.uint8)[..., None], 3, axis=3)


def test_distribution_of_whole_draws(vectors: dict[str, np.ndarray]) -> None:
    inputs, foreground = _inputs(), np.ones((224, 224), dtype=bool)
    generator = PublishedGenerator(PublishedConfig(lower=14, upper=86))
    streams = sample_randoms(0, 0, range(200))
    draws = [generator.generate(inputs[i % 20], foreground, stream) for i, stream in enumerate(streams)]
    made = {
        "patch_w": [d.placement.width for d in draws],
        "patch_h": [d.placement.height for d in draws],
        "mask_area_fraction": [d.mask.mean() for d in draws],
        "mask_fill_of_patch": [d.mask.sum() / (d.placement.width * d.placement.height) for d in draws],
        "bbox_w": [np.ptp(np.flatnonzero(d.mask.any(0))) + 1 for d in draws],
        "bbox_h": [np.ptp(np.flatnonzero(d.mask.any(1))) + 1 for d in draws],
    }
    if TILES.is_dir():  # how much changes depends on the pictures
        made["mean_abs_change_in_mask"] = [d.change for d in draws]
    for quantity, values in made.items():
        p = ks_2samp(values, vectors[f"draws200_{quantity}"]).pvalue
        assert p > SMALLEST_P, f"{quantity} differs, p = {p:.1g}"
    for levels in ([d.level for d in draws], vectors["draws200_level"].astype(int)):
        counts = np.bincount(levels, minlength=3)
        assert chisquare(counts, [200 * level.probability for level in LEVELS]).pvalue > SMALLEST_P
