"""Every kind of picture becomes the right pixels; every bad file becomes one clear line."""

import io
import struct
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import partial
from math import floor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from robustad.errors import ImageError, LayoutError
from robustad.images import (
    binarise_mask,
    list_images,
    read_image,
    read_mask,
    read_square,
    resize_foreground,
    resize_image,
    resize_mask,
)

RED, GREEN, BLACK, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 0), (255, 255, 255)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares a size and carries almost no data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


def test_rgb_and_grey_are_exact(tmp_path):
    colours = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", Image.fromarray(colours))), colours)
    grey = read_image(save(tmp_path / "b.png", Image.fromarray(colours[..., 0])))
    np.testing.assert_array_equal(grey, np.repeat(colours[..., :1], 3, axis=2))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_greys_are_scaled_not_truncated(tmp_path, name):
    deep = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    image = read_image(save(tmp_path / name, Image.fromarray(deep)))
    np.testing.assert_array_equal(image[0, :, 0], [0, 1, 128, 255])
    assert (image == image[..., :1]).all()
    dark = np.array([[0, 257]], dtype=np.uint16)  # a dark picture is not stretched
    np.testing.assert_array_equal(read_image(save(tmp_path / name, Image.fromarray(dark)))[0, :, 0], [0, 1])


def test_32_bit_integers_count_as_16_bit_unless_they_exceed_it(tmp_path):
    deep = np.array([[0, 257, 65535]], dtype=np.int32)
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.tif", Image.fromarray(deep)))[0, :, 0], [0, 1, 255])
    wide = np.array([[-100, 0, 155]], dtype=np.int32)
    np.testing.assert_array_equal(read_image(save(tmp_path / "b.tif", Image.fromarray(wide)))[0, :, 0], [0, 100, 255])


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_float_greys_keep_their_scale(tmp_path, top):
    values = np.array([[0.0, 0.2 * top, 0.8 * top]], dtype=np.float32)
    image = read_image(save(tmp_path / "a.tif", Image.fromarray(values)))
    np.testing.assert_array_equal(image[0, :, 0], [0, 51, 204])


def test_float_beyond_every_scale_is_stretched_and_nan_refused(tmp_path):
    values = np.array([[-2.0, 0.0, 2.0]], dtype=np.float32)
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.tif", Image.fromarray(values)))[0, :, 0], [0, 128, 255])
    broken = np.array([[0.0, np.nan]], dtype=np.float32)
    with pytest.raises(ImageError, match="NaN"):
        read_image(save(tmp_path / "b.tif", Image.fromarray(broken)))


def test_transparency_is_laid_on_black(tmp_path):
    rgba = Image.new("RGBA", (3, 1))
    rgba.putdata([(200, 100, 50, 255), (200, 100, 50, 0), (200, 100, 50, 51)])
    expected = [[200, 100, 50], [0, 0, 0], [40, 20, 10]]
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", rgba))[0], expected)
    grey = Image.new("LA", (2, 1))
    grey.putdata([(200, 255), (200, 0)])
    np.testing.assert_array_equal(read_image(save(tmp_path / "b.png", grey))[0], [[200] * 3, [0] * 3])


def test_palette_one_bit_and_cmyk(tmp_path):
    palette = Image.new("P", (2, 1))
    palette.putpalette([*RED, *GREEN])
    palette.putdata([1, 0])
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", palette))[0], [GREEN, RED])
    np.testing.assert_array_equal(read_image(save(tmp_path / "t.png", palette, transparency=1))[0], [BLACK, RED])
    bits = Image.new("1", (2, 1))
    bits.putdata([1, 0])
    np.testing.assert_array_equal(read_image(save(tmp_path / "b.png", bits))[0], [WHITE, BLACK])
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert np.abs(read_image(save(tmp_path / "c.tif", cmyk)).astype(int) - RED).max() <= 2
    assert np.abs(read_image(save(tmp_path / "c.jpg", cmyk)).astype(int) - RED).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_to_images_and_masks(tmp_path, orientation):
    upright = np.zeros((2, 3), np.uint8)
    upright[0, 0] = 255  # top left as it should be seen
    # how a camera stores the upright picture for each orientation value
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: upright.T[::-1],
        7: upright.T[::-1, ::-1],
        8: upright.T[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    np.testing.assert_array_equal(read_image(path)[..., 0], upright)
    np.testing.assert_array_equal(read_mask(path), upright)
    deep = save(tmp_path / "deep.png", Image.fromarray(np.ascontiguousarray(stored).astype(np.uint16) * 257), exif=exif)
    np.testing.assert_array_equal(read_image(deep)[..., 0], upright)


def test_masks_keep_raw_values_and_lose_no_mark(tmp_path):
    raw = np.array([[0, 1, 3, 255]], np.uint8)
    np.testing.assert_array_equal(read_mask(save(tmp_path / "a.png", Image.fromarray(raw))), raw)
    deep = np.array([[0, 1, 65535]], np.uint16)
    assert read_mask(save(tmp_path / "b.png", Image.fromarray(deep))).tolist() == [[0, 1, 255]]
    assert read_mask(save(tmp_path / "c.tif", Image.fromarray(np.array([[0, 0.5, 1]], np.float32)))).tolist() == [
        [0, 128, 255]
    ]
    bits = Image.new("1", (2, 1))
    bits.putdata([0, 1])
    assert read_mask(save(tmp_path / "e.png", bits)).tolist() == [[0, 255]]


def test_masks_of_colours_mark_all_that_is_not_black(tmp_path):
    voc = Image.new("P", (3, 1))
    voc.putpalette([0, 0, 0, 128, 0, 0, 64, 0, 0])
    voc.putdata([0, 1, 2])
    assert read_mask(save(tmp_path / "a.png", voc)).tolist() == [[0, 255, 255]]
    colour = Image.new("RGB", (3, 1))
    colour.putdata([BLACK, (0, 7, 0), (255, 255, 255)])
    assert read_mask(save(tmp_path / "b.png", colour)).tolist() == [[0, 255, 255]]
    grey = Image.new("RGB", (3, 1))
    grey.putdata([BLACK, (90, 90, 90), (255, 255, 255)])
    assert read_mask(save(tmp_path / "c.png", grey)).tolist() == [[0, 90, 255]]
    blurred = Image.new("RGB", (16, 16), (60, 61, 62))
    assert read_mask(save(tmp_path / "d.jpg", blurred)).max() < 127, "noise of compression is no colour"


def test_binarise():
    assert binarise_mask(np.array([[0, 40, 127, 128, 255]], np.uint8)).tolist() == [[False, False, False, True, True]]
    assert binarise_mask(np.array([[0, 1, 2]], np.uint8)).tolist() == [[False, True, True]]
    assert not binarise_mask(np.zeros((2, 2), np.uint8)).any()


BAD = {
    "missing.png": (None, "does not exist"),
    "empty.png": (b"", "0 bytes"),
    "text.png": (b"this is not a picture", "not an image"),
    "program.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n{} loop\n", "not an image"),
    "bomb.png": (png_header(60_000, 60_000), "more than"),
    "big.png": (png_header(12_000, 12_000), "12000 x 12000 pixels"),
}


@pytest.mark.parametrize("reader", [read_image, partial(read_square, size=8), read_mask])
@pytest.mark.parametrize("name", BAD)
def test_bad_files_give_one_clear_line(tmp_path, name, reader):
    content, text = BAD[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=text) as caught:
        reader(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reader", [read_image, partial(read_square, size=8), read_mask])
@pytest.mark.parametrize("kind", ["png", "jpeg", "bmp", "tiff", "gif", "webp"])
def test_truncated_files_are_refused(tmp_path, kind, reader):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / f"cut.{kind}", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match="cut"):
        reader(path)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)


def test_pixel_limit_is_an_argument(tmp_path):
    path = save(tmp_path / "a.png", Image.new("RGB", (10, 11)))
    assert read_image(path, max_pixels=110).shape == (11, 10, 3)
    with pytest.raises(ImageError, match="10 x 11"):
        read_image(path, max_pixels=109)


def _encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["png", "jpeg", "bmp", "tiff", "gif", "webp"]),
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 10_000),
)
def test_any_damage_gives_pixels_or_an_image_error(tmp_path, kind, edits, cut):
    data = bytearray(_encoded(kind))
    for position, value in edits:
        data[position % len(data)] = value
    path = tmp_path / f"damaged.{kind}"
    path.write_bytes(bytes(data[: max(1, len(data) - cut % len(data))]))
    for reader, dimensions in ((read_image, 3), (read_mask, 2)):
        try:
            result = reader(path)
        except ImageError as error:
            assert "\n" not in str(error)
        else:
            assert result.dtype == np.uint8
            assert result.ndim == dimensions


def test_list_images_is_sorted_case_insensitive_and_skips_hidden_files(tmp_path):
    for name in ("b.PNG", "a.jpeg", "c.Tif", ".hidden.png", "notes.txt", "Z.bmp"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.png").touch()
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "e.png").touch()
    assert [path.name for path in list_images(tmp_path)] == ["Z.bmp", "a.jpeg", "b.PNG", "c.Tif"]
    assert [path.name for path in list_images(tmp_path, recursive=True)] == [
        "Z.bmp",
        "a.jpeg",
        "b.PNG",
        "c.Tif",
        "d.png",
    ]
    with pytest.raises(LayoutError, match="does not exist"):
        list_images(tmp_path / "none")
    with pytest.raises(LayoutError, match="not a folder"):
        list_images(tmp_path / "b.PNG")


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "LA", "RGBA", "CMYK", "I;16", "F"])
@pytest.mark.parametrize("size", [(40, 30), (16, 16), (5, 9)])
def test_a_square_is_the_resized_image_whatever_its_mode(tmp_path, mode, size):
    rng = np.random.default_rng(0)
    path = tmp_path / ("a.png" if mode not in ("CMYK", "F") else "a.tif")
    if mode in ("I;16", "F"):
        image = Image.fromarray(rng.integers(0, 65536, size[::-1]).astype(np.uint16 if mode == "I;16" else np.float32))
    else:
        image = Image.fromarray(rng.integers(0, 256, (*size[::-1], 3)).astype(np.uint8)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    square = read_square(path, 16)
    np.testing.assert_array_equal(square, resize_image(read_image(path), 16))
    assert square.shape == (16, 16, 3) and square.std() > 1 and square.flags.writeable


def test_resize_image_ignores_aspect_and_never_shares_memory():
    flat = np.full((5, 9, 3), 77, np.uint8)
    small = resize_image(flat, 4)
    assert small.shape == (4, 4, 3)
    assert (small == 77).all()
    square = np.zeros((4, 4, 3), np.uint8)
    resize_image(square, 4)[:] = 1
    assert not square.any()


MASKS = st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 0, 1, 127, 128, 255]))
)


@settings(deadline=None)
@given(mask=MASKS, size=st.integers(1, 30))
@example(mask=np.pad(np.array([[255]], np.uint8), ((0, 39), (39, 0))), size=3)
def test_resized_mask_is_empty_only_if_it_was(mask, size):
    small = resize_mask(mask, size)
    assert small.shape == (size, size)
    assert small.any() == binarise_mask(mask).any()


@settings(deadline=None)
@given(mask=MASKS, size=st.integers(1, 30))
def test_each_pixel_is_the_one_under_its_centre(mask, size):
    """An independent reference in exact fractions."""
    height, width = mask.shape
    marked = binarise_mask(mask)
    centre = [Fraction(2 * i + 1, 2 * size) for i in range(size)]
    expected = [[bool(marked[floor(y * height), floor(x * width)]) for x in centre] for y in centre]
    assert resize_foreground(mask, size).tolist() == expected
    if np.any(expected):
        assert resize_mask(mask, size).tolist() == expected


def test_published_foreground_is_exactly_255():
    grey = np.array([[254, 255]], np.uint8)
    assert resize_foreground(grey, 2, published=True)[0].tolist() == [False, True]
    assert resize_foreground(grey, 2)[0].tolist() == [True, True]


def test_images_need_no_torch():
    import subprocess

    code = "import sys, robustad.images; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("value", [-1.0, -9999.0, 1e6])
def test_one_value_everywhere_is_an_image_too(tmp_path, value):
    Image.fromarray(np.full((8, 8), value, np.float32)).save(tmp_path / "flat.tif")
    assert not read_image(tmp_path / "flat.tif").any()


def test_threads_leave_the_filters_of_warnings_as_they_were(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(40)]
    for path in paths:
        Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(path)
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read_image, paths * 5))
    assert warnings.filters == before


def test_a_picture_that_does_not_fit_into_memory_is_not_damaged(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "large.png")

    def full(*_):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "load", full)
    with pytest.raises(ImageError, match=r"large\.png does not fit into memory; crop or shrink it first"):
        read_image(tmp_path / "large.png")


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_float_greys_that_overshoot_keep_their_scale(tmp_path, top):
    values = np.array([[-0.003, 0.2, 0.5, 1.004]], np.float32) * top
    assert read_image(save(tmp_path / "a.tif", Image.fromarray(values)))[0, :, 0].tolist() == [0, 51, 128, 255]


def test_what_cannot_be_listed_is_an_error(tmp_path, monkeypatch):
    def walk(base, onerror):
        onerror(PermissionError(13, "Permission denied", str(tmp_path / "locked")))

    monkeypatch.setattr("robustad.images.os.walk", walk)
    with pytest.raises(LayoutError, match=r"locked cannot be read: Permission denied; change its permissions"):
        list_images(tmp_path, recursive=True)


def test_what_a_decoder_runs_into_is_one_clear_line(tmp_path, monkeypatch, write_image):
    def broken(_image):
        raise RuntimeError("Failed to decode\nframe")

    write_image(tmp_path / "a.png", 3, size=(8, 8))
    monkeypatch.setattr("robustad.images._rgb", broken)
    with pytest.raises(ImageError, match=r"a.png is damaged or cut off \(Failed to decode frame\)"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("top", [3, 257, 1000, 40000, 65533, 65535])
def test_the_brightest_class_of_a_deep_mask_stays_marked(tmp_path, top):
    values = np.array([[0, 1, top]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "mask.png")
    found = read_mask(tmp_path / "mask.png")
    assert found[0, 0] == 0 and found[0, 1] > 0 and found[0, 2] in (top, 255)
