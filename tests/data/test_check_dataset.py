"""`check_dataset` names every bad file, once, and nothing else."""

import numpy as np
import pytest

from robustad.data import Sample, Split, check_dataset, check_split, load_folder
from robustad.data.partition import committed
from robustad.errors import LayoutError


@pytest.fixture
def root(tmp_path, picture):
    for name in ("train/good/0", "train/good/1", "test/good/0", "test/crack/0", "test/crack/1"):
        picture(tmp_path / f"screw/{name}.png")
    for name in ("ground_truth/crack/0_mask", "ground_truth/crack/1_mask", "train/foreground_mask/0"):
        picture(tmp_path / f"screw/{name}.png", 255)
    return tmp_path


def texts(root, **options):
    return {p.path.relative_to(root).as_posix(): p.text for p in check_dataset("mvtec", root, **options)}


def test_a_good_dataset_has_no_problems(root):
    assert check_dataset("mvtec", root) == []
    assert check_dataset("mvtec", root, category="screw") == []


def test_every_fault_is_listed(root, picture):
    base = root / "screw"
    (base / "train/good/1.png").write_bytes((base / "train/good/1.png").read_bytes()[:60])
    (base / "train/good/2.png").write_bytes(b"")
    (base / "train/good/3.png").write_text("hello")
    picture(base / "train/foreground_mask/0.png", 255, size=(3, 3))
    picture(base / "train/foreground_mask/9.png", 255)
    (base / "test/good/1.png").write_bytes((base / "train/good/0.png").read_bytes())
    picture(base / "ground_truth/crack/0_mask.png", 0)
    picture(base / "ground_truth/crack/1_mask.png", 255, size=(5, 4))
    picture(base / "ground_truth/crack/7_mask.png", 255)
    picture(base / "ground_truth/dent/0_mask.png", 255)
    picture(base / "test/crack/2.png")
    picture(base / "test/crack/3.png", 9)  # a defect may be black
    picture(base / "ground_truth/crack/3_mask.png", 255)
    picture(base / "train/good/4.png", np.full((8, 8), 4095, np.uint16))
    picture(base / "train/good/5.png", 17)
    found = texts(root)
    expected = {
        "screw/train/good/1.png": "cut off",
        "screw/train/good/2.png": "0 bytes",
        "screw/train/good/3.png": "not an image",
        "screw/train/good/4.png": "nearly black, its brightest value is 16 of 255",
        "screw/train/foreground_mask/0.png": "3 x 3 pixels but",
        "screw/train/foreground_mask/9.png": "belongs to no image",
        "screw/test/good/1.png": "same picture as training image",
        "screw/ground_truth/crack/0_mask.png": "marks no pixel",
        "screw/ground_truth/crack/1_mask.png": "5 x 4 pixels but",
        "screw/ground_truth/crack/7_mask.png": "belongs to no image",
        "screw/ground_truth/dent/0_mask.png": "belongs to no image",
        "screw/test/crack/2.png": "has no mask, while others have one",
    }
    assert set(found) == set(expected)
    for name, text in expected.items():
        assert text in found[name]
        assert "\n" not in found[name]


def test_without_any_mask_none_is_missed(root):
    for path in (root / "screw/ground_truth/crack").iterdir():
        path.unlink()
    assert check_dataset("mvtec", root) == []


def test_a_broken_layout_is_a_problem_and_files_are_still_read(root):
    (root / "screw/train/good/0.png").write_bytes(b"")
    for path in (root / "screw/test/crack").iterdir():
        path.unlink()
    found = check_dataset("mvtec", root)
    assert ["no anomalous images" in p.text for p in found] == [True, False]
    assert "0 bytes" in found[1].text


def test_missing_folder_and_names(tmp_path):
    (problem,) = check_dataset("mvtec", tmp_path / "none")
    assert "does not exist" in problem.text
    with pytest.raises(ValueError, match="`data` must be one of"):
        check_dataset("mvtek", tmp_path)


def test_all_categories_are_checked(root, picture):
    picture(root / "nut/train/good/0.png")
    assert check_dataset("mvtec", root, category="screw") == []
    (root / "screw/test/good/0.png").write_bytes(b"")
    assert [p.path.name for p in check_dataset("mvtec", root)] == ["nut", "0.png"]


def test_plain_folder(tmp_path, picture):
    for index in range(4):
        picture(tmp_path / f"normal/{index}.png")
    picture(tmp_path / "anomalous/0.png")
    assert check_dataset("folder", tmp_path) == []
    (tmp_path / "normal/2.png").write_bytes(b"")
    assert [p.path.name for p in check_dataset("folder", tmp_path)] == ["2.png"]
    assert [p.path.name for p in check_split(load_folder(tmp_path / "normal"))] == ["2.png"]


def test_masks_beside_images(tmp_path, picture):
    picture(tmp_path / "MT_Free/Imgs/exp1_num_461.jpg")
    picture(tmp_path / "MT_Free/Imgs/exp1_num_461.png", 0)  # the dataset has empty masks for free tiles
    ranges, parts = committed("mtd")["ranges"], committed("mtd")["groups"]
    free = next(ranges[g][0] for g in parts if parts[g] == "train")
    number = next(ranges[g][0] for g in parts if parts[g] == "dev")
    picture(tmp_path / f"MT_Free/Imgs/exp1_num_{free}.jpg", 30)
    picture(tmp_path / f"MT_Crack/Imgs/exp1_num_{number}.jpg")
    picture(tmp_path / f"MT_Crack/Imgs/exp1_num_{number}.png", 255)
    picture(tmp_path / "MT_Crack/Imgs/exp1_num_5.png", 255)
    assert [p.path.name for p in check_dataset("mtd", tmp_path)] == ["exp1_num_5.png"]


def test_default_place_must_exist(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTAD_DATA", str(tmp_path))
    with pytest.raises(LayoutError, match="robustad download mvtec"):
        check_dataset("mvtec")


def test_an_object_on_both_sides_is_named(tmp_path, picture):
    for index in range(5):
        picture(tmp_path / f"{index}.png", 50 + 10 * index)
    samples = [Sample(tmp_path / f"{i}.png", i == 4, None, None, f"patient{i // 2 % 2}", f"{i}.png") for i in range(5)]
    assert check_split(Split(samples[:2], samples[2:])) == []
    (problem,) = check_split(Split(samples[:3], samples[3:]))
    assert "1 normal test images of patient1, which training images show, too" in problem.text
