from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustad.detectors import Brightness, BrightnessConfig, Checkpoint
from robustad.inference import MapScale, checked_scale, draw_overlay, map_scale, output_path, write_png
from robustad.types import Calibration

MAPS = [np.linspace(0, 1, 1024, dtype=np.float32).reshape(32, 32), np.zeros((32, 32), np.float32)]


def checkpoint(threshold=None, **info):
    calibration = None
    if threshold is not None:
        calibration = Calibration(threshold=threshold, max_false_alarm_rate=0.01, num_images=9, method="quantile")
    return Checkpoint(detector=Brightness(BrightnessConfig()), calibration=calibration, info=info)


def test_the_checkpoints_own_scale_wins():
    assert map_scale(checkpoint(2.0, map_range=[-1, 3]), MAPS) == (-1.0, 3.0)


def test_without_threshold_the_first_batch_decides():
    low, high = map_scale(checkpoint(), MAPS)
    values = np.concatenate([values.ravel() for values in MAPS])
    assert (low, high) == pytest.approx((np.median(values), np.quantile(values, 0.999)))


def test_a_threshold_lies_at_sixty_percent():
    low, high = map_scale(checkpoint(3.0), MAPS)
    assert (3.0 - low) / (high - low) == pytest.approx(0.6)


def test_a_threshold_below_the_normal_level_and_constant_maps_still_give_a_scale():
    for maps in (MAPS, MAPS[1:]):
        low, high = map_scale(checkpoint(-5.0), maps)
        assert low < high


@pytest.mark.parametrize("pair", [(1, 1), (2, 1), (float("nan"), 1), (0, float("inf"))])
def test_scales_that_are_none(pair):
    with pytest.raises(ValueError, match="lower one first"):
        checked_scale(*pair)


def test_the_map_is_stretched_to_the_picture():
    hot = np.zeros((8, 8), np.float32)
    hot[:, 6:] = 1
    shown = np.full((40, 120, 3), 128, np.uint8)
    drawn = draw_overlay(shown, hot, MapScale(0, 1))
    assert drawn.shape == shown.shape
    np.testing.assert_array_equal(drawn[:, :60], shown[:, :60])
    assert (drawn[:, 110:] != 128).any(axis=2).all()


def test_names_mirror_folders_and_differ_where_the_files_do(tmp_path):
    names = ["a.png", "a.jpg", "sub/a.png"]
    paths = [output_path(tmp_path, name, ".overlay.png") for name in names]
    assert len(set(paths)) == 3
    assert paths[2] == tmp_path / "sub" / "a.png.overlay.png"
    write_png(paths[2], np.zeros((2, 2, 3), np.uint8))
    with Image.open(paths[2]) as image:
        assert image.size == (2, 2)
    assert [path.name for path in Path(paths[2]).parent.iterdir()] == ["a.png.overlay.png"]
