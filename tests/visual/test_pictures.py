"""Overlays, outlines and strips, checked pixel by pixel."""

import io

import numpy as np
import pytest
from PIL import Image

from robustad.visual import outline, overlay, png_bytes, strip

GREY = np.full((32, 48, 3), 120, dtype=np.uint8)


def ramp():
    return np.tile(np.linspace(0, 1, 48), (32, 1))


def opened(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    assert image.format == "PNG"
    return image


def test_overlay_is_transparent_where_normal_and_hot_where_not():
    result = overlay(GREY, ramp(), vmin=0.5, vmax=0.9)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result[:, :23], GREY[:, :23])
    change = np.abs(result.astype(int) - 120).sum(axis=2)[0]
    assert change[-1] > 150
    assert (change[40:] > 100).all()
    np.testing.assert_array_equal(result[:, -4:], np.broadcast_to(result[:1, -1:], (32, 4, 3)))  # clipped at vmax


def test_overlay_gets_brighter_with_the_score():
    luminance = overlay(np.zeros_like(GREY), ramp(), vmin=0, vmax=1, alpha=1.0).astype(float) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance[0]) >= -0.5).all()


def test_overlay_alpha_zero_and_input_untouched():
    image = GREY.copy()
    np.testing.assert_array_equal(overlay(image, ramp(), vmin=0, vmax=1, alpha=0), GREY)
    overlay(image, ramp(), vmin=0, vmax=1)
    outline(image, ramp() > 0.5)
    np.testing.assert_array_equal(image, GREY)


def test_outline_surrounds_the_region_and_leaves_it_visible():
    mask = np.zeros((32, 48), dtype=bool)
    mask[10:20, 10:20] = True
    result = outline(GREY, mask, colour="#ff0000", width=2)
    drawn = (result == [255, 0, 0]).all(axis=2)
    expected = np.zeros_like(mask)
    expected[8:22, 8:22] = True
    np.testing.assert_array_equal(drawn, expected & ~mask)
    np.testing.assert_array_equal(result[~drawn], GREY[~drawn])


def test_outline_of_a_region_at_the_edge_and_of_nothing():
    everything = outline(GREY, np.ones((32, 48), dtype=bool), colour="#ff0000", width=1)
    drawn = (everything == [255, 0, 0]).all(axis=2)
    assert drawn[0].all()
    assert drawn[:, -1].all()
    assert not drawn[1:-1, 1:-1].any()
    np.testing.assert_array_equal(outline(GREY, np.zeros((32, 48), dtype=bool)), GREY)


@pytest.mark.parametrize(
    ("given", "panels"),
    [
        ({}, 1),
        ({"mask": ramp() > 0.8}, 2),
        ({"mask": ramp() > 0.8, "anomaly_map": ramp()}, 3),
        ({"attacked_image": GREY}, 2),
        ({"mask": ramp() > 0.8, "anomaly_map": ramp(), "attacked_image": GREY, "attacked_map": ramp()}, 5),
        ({"anomaly_map": np.zeros((32, 48))}, 2),  # a constant map
    ],
)
def test_strip_has_one_panel_for_each_thing_given(given, panels):
    image = opened(strip(GREY, panel_size=64, **given))
    width = 96  # 48 x 32 scaled to 64 high
    assert image.size == (panels * width + (panels - 1) * 6, 64 + 18)
    assert image.mode == "RGBA"
    assert image.getpixel((2, 2)) == (120, 120, 120, 255)
    if panels > 1:
        assert image.getpixel((width + 2, 5))[3] == 0


def test_strip_writes_captions_and_shortens_long_ones():
    plain = strip(GREY, captions={"image": ""})
    assert strip(GREY) != plain
    assert opened(strip(GREY, captions={"image": "a long caption " * 20})).size == opened(plain).size


def test_strip_compares_both_maps_on_one_scale():
    low = opened(strip(GREY, anomaly_map=0.1 * ramp(), attacked_map=ramp(), panel_size=32))
    assert low.getpixel((48 + 6 + 47, 16))[:3] == pytest.approx((120, 120, 120), abs=14)  # a tenth of the range
    assert low.getpixel((2 * 54 + 47, 16))[0] > 180


def test_png_bytes_is_lossless():
    image = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(opened(png_bytes(image))), image)


def test_errors():
    with pytest.raises(ValueError, match=r"`anomaly_map` must have the image's size \(32, 48\), got \(8, 8\)"):
        overlay(GREY, np.zeros((8, 8)), vmin=0, vmax=1)
    with pytest.raises(ValueError, match="`vmax` must be above `vmin`"):
        overlay(GREY, ramp(), vmin=1, vmax=1)
    with pytest.raises(ValueError, match="`vmax` must be above `vmin`"):
        overlay(GREY, ramp(), vmin=0, vmax=float("nan"))
    with pytest.raises(ValueError, match="`anomaly_map` must be finite"):
        overlay(GREY, ramp() * np.nan, vmin=0, vmax=1)
    with pytest.raises(ValueError, match="`image` must be uint8"):
        overlay(GREY / 255, ramp(), vmin=0, vmax=1)
    with pytest.raises(ValueError, match="`alpha` must be in"):
        overlay(GREY, ramp(), vmin=0, vmax=1, alpha=2)
    with pytest.raises(ValueError, match="`mask` must have the image's size"):
        outline(GREY, np.zeros((8, 8), dtype=bool))
    with pytest.raises(ValueError, match="`width` must be at least 1"):
        outline(GREY, ramp() > 1, width=0)
    with pytest.raises(ValueError, match="`panel_size` must be at least 16"):
        strip(GREY, panel_size=4)
