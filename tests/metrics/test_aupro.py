"""AUPRO against a brute force over every threshold, with regions found by an own flood fill."""

import time
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from robustad.metrics import aupro, pixel_aupr, pixel_auroc


def flood_regions(mask):
    """8-connected regions as lists of pixels, without scipy."""
    todo = {tuple(pixel) for pixel in np.argwhere(mask)}
    while todo:
        region, front = [], [todo.pop()]
        while front:
            row, column = front.pop()
            region.append((row, column))
            for near in [(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]:
                if near in todo:
                    todo.remove(near)
                    front.append(near)
        yield region


def brute_force(maps, masks, max_fpr):
    regions = [[maps[n][pixel] for pixel in region] for n, mask in enumerate(masks) for region in flood_regions(mask)]
    normal = maps[~masks]
    points = [(0.0, 0.0)]
    for threshold in sorted(set(maps.ravel()), reverse=True):
        overlap = sum(sum(v >= threshold for v in region) / len(region) for region in regions) / len(regions)
        points.append((float((normal >= threshold).mean()), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x1 > x0 and x0 < max_fpr:
            stop = min(x1, max_fpr)
            y_stop = y0 + (y1 - y0) * (stop - x0) / (x1 - x0)
            area += (stop - x0) * (y0 + y_stop) / 2
    return area / max_fpr


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    levels=st.sampled_from([2, 5, 1000]),
    share=st.sampled_from([0.02, 0.2, 0.6]),
    max_fpr=st.sampled_from([0.01, 0.05, 0.3, 0.5, 1.0]),
)
def test_equal_to_brute_force(seed, levels, share, max_fpr):
    generator = np.random.default_rng(seed)
    masks = generator.random((3, 8, 9)) < share
    masks[0], masks[1, 0, 0] = False, True
    maps = np.round((generator.random(masks.shape) + 0.4 * masks) * levels) / levels
    assert aupro(maps, masks, max_fpr) == pytest.approx(brute_force(maps, masks, max_fpr), abs=1e-9)


def test_small_regions_count_as_much_as_large_ones():
    masks = np.zeros((1, 20, 20), dtype=bool)
    masks[0, :10, :10] = True
    masks[0, 15, 15] = True
    maps = np.zeros(masks.shape)
    maps[0, :10, :10] = 1  # only the large region is found; the other one sits in one tie with all normal pixels
    # From (0, 1/2) a straight line to (1, 1); up to 0.3 its mean is 1/2 + 0.15/2.
    assert aupro(maps, masks) == pytest.approx(0.575)


def test_touching_corners_are_one_region():
    masks = np.zeros((1, 4, 4), dtype=bool)
    masks[0, 0, 0] = masks[0, 1, 1] = masks[0, 3, 3] = True  # two regions, one of two pixels
    maps = np.full(masks.shape, 0.5)
    maps[0, 0, 0], maps[0, 1, 1], maps[0, 3, 3] = 1, 0, 0
    # Overlap 1/4 at no false alarm; all normal pixels in one tie, so the curve is flat at 1/4 up to FPR 1.
    assert aupro(maps, masks) == pytest.approx(0.25)


def test_bounds_and_tensor_input():
    masks = torch.zeros(2, 16, 16, dtype=torch.bool)
    masks[0, 4:8, 4:8] = True
    assert aupro(masks.float(), masks) == pytest.approx(1.0)
    assert aupro(-masks.float(), masks) == 0.0
    assert aupro(torch.zeros(2, 16, 16), masks) == pytest.approx(0.15)  # constant map = chance


@pytest.mark.parametrize("max_fpr", [0.0, -0.1, 1.1, float("nan")])
def test_limit_is_checked(max_fpr):
    with pytest.raises(ValueError, match=r"`max_fpr` must be in \(0, 1\]"):
        aupro(np.zeros((1, 2, 2)), np.eye(2, dtype=bool)[None], max_fpr)


def test_ten_million_pixels_take_seconds():
    generator = np.random.default_rng(0)
    maps = generator.random((200, 224, 224), dtype=np.float32)
    masks = np.zeros(maps.shape, dtype=bool)
    masks[:100, 40:80, 40:80] = True
    started = time.process_time()
    value = aupro(maps, masks)
    assert time.process_time() - started < 10
    assert value == pytest.approx(0.15, abs=0.002)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("outlier", [0.0, 1e7, 1e30])
def test_scores_crowd_together(dtype, outlier):
    """One pixel far away from all others: they share a few bins of the grid, or one, and are searched for there."""
    generator = np.random.default_rng(1)
    masks = generator.random((4, 20, 20)) < 0.3
    maps = generator.integers(0, 300, masks.shape).astype(dtype) / 300
    maps[masks] += dtype(0.1)
    masks[0, 0, :2] = True
    maps[0, 0, :2] = outlier, -outlier
    assert pixel_auroc(maps, masks) == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-12)
    assert pixel_aupr(maps, masks) == pytest.approx(average_precision_score(masks.ravel(), maps.ravel()), abs=1e-9)
    assert aupro(maps, masks) == pytest.approx(brute_force(maps, masks, 0.3), abs=1e-9)


def test_pieces_and_memory_mapped_files_change_nothing(monkeypatch, tmp_path):
    generator = np.random.default_rng(3)
    maps = np.round(generator.random((6, 11, 13)) * 40).astype(np.float32)
    masks = generator.random(maps.shape) < 0.2
    whole = [metric(maps, masks) for metric in (pixel_auroc, pixel_aupr, aupro)]
    for name, array in (("maps", maps), ("masks", masks)):
        np.save(tmp_path / f"{name}.npy", array)
    mapped = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("maps", "masks")]
    monkeypatch.setattr("robustad.metrics._streams.CHUNK", 50)
    assert [metric(*mapped) for metric in (pixel_auroc, pixel_aupr, aupro)] == whole
