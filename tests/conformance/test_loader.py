"""Against the released PatchGuard code's data loading: which files it reads as what, and its preprocessing."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from robustad.data import ImageDataset, load_samples
from robustad.images import read_image, read_mask, resize_foreground, resize_image, resize_mask

SHARED = Path(os.environ.get("ROBUSTAD_SHARED", Path(__file__).parents[2].parent / "shared"))
VECTORS = SHARED / "vectors" / "patchguard"
pytestmark = pytest.mark.skipif(
    not (VECTORS / "loader.npz").is_file(), reason="no conformance vectors beside the checkout"
)

DATASETS = [
    "brats2021/",
    "btad/01",
    "btad/02",
    "btad/03",
    "dtd/Woven_001",
    "headct/",
    "mpdd/tubes",
    "mvtec/bottle",
    "mvtec/transistor",
    "visa/pcb1",
    "wfdd/grey_cloth",
]


@pytest.fixture(scope="module")
def vectors() -> dict[str, np.ndarray]:
    with np.load(VECTORS / "loader.npz", allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.fixture(scope="module")
def meta() -> dict[str, Any]:
    return json.loads((VECTORS / "loader_meta.json").read_text())


def build_tree(root: Path, listing: dict[str, Any], vectors: dict[str, np.ndarray], mask_value: int) -> None:
    for image, mask, foreground in listing["train"] + listing["test"]:
        for name, pixels in (
            (image, vectors["in_image"]),
            (mask, vectors["in_mask"] // 255 * mask_value),
            (foreground, vectors["in_foreground"]),
        ):
            if name is not None:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(root / name)


@pytest.mark.parametrize("dataset", DATASETS)
def test_files_and_masks_are_those_of_the_released_loader(dataset, tmp_path, vectors, meta):
    # the released code breaks on a root whose path contains "test" or "flair"; ours must not
    root = tmp_path / "my_test_flair_Images_ground_truth"
    listing = meta[dataset]
    build_tree(root, listing, vectors, mask_value=3 if dataset.startswith("visa") else 255)
    data, category = dataset.split("/")
    split = load_samples(data, root / data, category=category or None)

    def listed(samples):
        paths = [(s.path, s.mask_path, s.foreground_path) for s in samples]
        return sorted([path and path.relative_to(root).as_posix() for path in row] for row in paths)

    assert listed(split.train) == sorted(listing["train"])
    assert listed(split.test) == sorted(listing["test"])
    assert sorted(int(sample.label) for sample in split.test) == listing["test_labels_sorted"]
    assert not any(sample.label for sample in split.train)

    for item in ImageDataset(split.test, 56, published=True):
        assert int(item["mask"].sum()) == listing["test_mask_pixels_by_label"][str(int(item["label"]))]
    if not dataset.startswith("visa"):  # a JPEG foreground: its mean was taken of grey values, before the cut at 255
        for item in ImageDataset(split.train, 56, published=True):
            assert float(item["foreground"].float().mean()) == pytest.approx(listing["train_fg_mean"], abs=1e-6)


def test_published_preprocessing_is_bit_equal(vectors, tmp_path):
    for name in ("image", "mask", "foreground"):
        Image.fromarray(vectors[f"in_{name}"]).save(tmp_path / f"{name}.png")
    image = resize_image(read_image(tmp_path / "image.png"), 56).transpose(2, 0, 1)  # (S,S,3) -> (3,S,S)
    np.testing.assert_array_equal(image.astype(np.float32) / np.float32(255), vectors["out_image_f32"])
    mask = resize_mask(read_mask(tmp_path / "mask.png"), 56, published=True)
    np.testing.assert_array_equal(mask, vectors["out_mask_f32"] > 0)
    foreground = resize_foreground(read_mask(tmp_path / "foreground.png"), 56, published=True)
    np.testing.assert_array_equal(foreground, vectors["out_foreground_f32"][0] == 1)


def test_default_mask_does_not_inflate(vectors, meta):
    inflation = meta["mask_inflation"]
    small = resize_mask(vectors["in_mask"], inflation["size"])
    assert small.sum() == inflation["nearest_pixels"]
    assert resize_mask(vectors["in_mask"], 56, published=True).sum() == inflation["official_lanczos_nonzero_pixels"]


def test_published_foreground_of_a_jpeg_keeps_255_only(vectors, meta, tmp_path):
    Image.fromarray(vectors["in_foreground"]).save(tmp_path / "foreground.jpg")
    mask = read_mask(tmp_path / "foreground.jpg")
    strict = resize_foreground(mask, 56, published=True).mean()
    ours = resize_foreground(mask, 56).mean()
    jpeg = meta["pitfalls"]["jpeg_foreground"]
    assert strict == pytest.approx(jpeg["values_eq_255"], abs=0.02)  # encoders differ by versions
    assert ours == pytest.approx(jpeg["values_gt_127"], abs=0.005)
