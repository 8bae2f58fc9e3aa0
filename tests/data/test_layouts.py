"""Each row of the table against a tree that is written out by hand, file by file."""

import os
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robustad.data import LAYOUTS, list_categories, load_samples, read_layout
from robustad.data.samples import Sample
from robustad.errors import LayoutError

# data -> (category, {training image: foreground or None}, test normals, {anomalous image: mask or None})
TREES = {
    "mvtec": (
        "bottle",
        {
            "bottle/train/good/000.png": "bottle/train/foreground_mask/000.png",
            "bottle/train/good/001.PNG": None,
        },
        ["bottle/test/good/000.png"],
        {
            "bottle/test/broken_large/000.png": "bottle/ground_truth/broken_large/000_mask.png",
            "bottle/test/broken_large/001.jpg": "bottle/ground_truth/broken_large/001_mask.png",
            "bottle/test/contamination/000.png": None,
        },
    ),
    "mpdd": (
        "tubes",
        {"tubes/train/good/000.png": "tubes/train/foreground_mask/000.png"},
        ["tubes/test/good/000.png"],
        {"tubes/test/anomalous/000.png": "tubes/ground_truth/anomalous/000_mask.png"},
    ),
    "dtd": (
        "Woven_001",
        {"Woven_001/train/good/000.png": None},
        ["Woven_001/test/good/000.png"],
        {"Woven_001/test/bad/000.png": "Woven_001/ground_truth/bad/000_mask.png"},
    ),
    "wfdd": (
        "grey_cloth",
        {"grey_cloth/train/good/000.png": None},
        ["grey_cloth/test/good/000.png"],
        {"grey_cloth/test/line/000.png": "grey_cloth/ground_truth/line/000_mask.png"},
    ),
    "btad": (
        "01",
        {"01/train/ok/0000.bmp": "01/train/foreground_mask/0000.bmp"},
        ["01/test/ok/0001.bmp"],
        {
            "01/test/ko/0000.bmp": "01/ground_truth/ko/0000.png",
            "01/test/ko/0001.bmp": "01/ground_truth/ko/0001.bmp",
        },
    ),
    "visa": (
        "pcb1",
        {"pcb1/Data/Images/Normal/0000.JPG": "pcb1/Data/Images/foreground_mask/0000.JPG"},
        ["pcb1/Data/Images/Normal/0001.JPG"],
        {"pcb1/Data/Images/Anomaly/000.JPG": "pcb1/Data/Masks/Anomaly/000.png"},
    ),
    "brats2021": (
        None,
        {"train/normal/00000_flair_60.png": "train/foreground_mask/00000_flair_60.png"},
        ["test/normal/00001_flair_60.png"],
        {"test/tumor/00002_flair_70.png": "ground_truth/00002_seg_70.png"},
    ),
    "headct": (
        None,
        {"train/good/000.png": "train/foreground_mask/000.png"},
        ["test/good/001.png"],
        {
            "test/hemorrhage/002.png": "ground_truth/hemorrhage/002_mask.png",
            "test/hemorrhage/003.png": None,
        },
    ),
    "mtd": (
        None,
        {"MT_Free/Imgs/exp1_num_461.jpg": None, "MT_Free/Imgs/exp1_num_743.jpg": None},
        [],
        {
            "MT_Blowhole/Imgs/exp1_num_1810.jpg": "MT_Blowhole/Imgs/exp1_num_1810.png",
            "MT_Crack/Imgs/exp1_num_2610.jpg": None,
        },
    ),
    "imagenet30": (
        "acorn",
        {"train/acorn/1.JPEG": None, "train/acorn/2.JPEG": None},
        ["test/acorn/acorn/3.JPEG"],
        {"test/nail/nail/4.JPEG": None, "test/volcano/5.JPEG": None},
    ),
    "dagm": (
        "Class1",
        {"Class1/train/normal/0001.PNG": None},
        ["Class1/test/normal/0002.PNG"],
        {"Class1/test/abnormal/0003.PNG": None},
    ),
    "cityscapes": (
        None,
        {f"ID/bad-honnef_000000_00{frame}_{patch}.png": None for frame in range(1001, 1011) for patch in range(2)},
        [],
        {"OOD/bad-honnef_000000_001003_7.png": None, "OOD/other.png": None},
    ),
    "isic2018": (
        None,
        {"train/NORMAL/ISIC_0.jpg": None},
        ["test/NORMAL/ISIC_1.jpg"],
        {"test/ABNORMAL/ISIC_2.jpg": None},
    ),
}


def build(root, data, picture):
    category, train, good, defects = TREES[data]
    for image in (*train, *good, *defects):
        picture(root / image)
    for mask in (*train.values(), *defects.values()):
        if mask is not None:
            picture(root / mask, 255)
    return category


def relative(path, root):
    return path and path.relative_to(root).as_posix()


def test_every_row_of_the_table_has_a_tree():
    assert set(TREES) == set(LAYOUTS)


@pytest.mark.parametrize("data", TREES)
def test_layout_reads_what_the_tree_holds(data, tmp_path, picture):
    root = tmp_path / "test" / "train_good_flair"  # words of the templates in the root's own path do no harm
    category = build(root, data, picture)
    _, train, good, defects = TREES[data]
    split = read_layout(LAYOUTS[data], root, category)
    assert {relative(s.path, root): relative(s.foreground_path, root) for s in split.train} == train
    assert [relative(s.path, root) for s in split.test if not s.label] == good
    assert {relative(s.path, root): relative(s.mask_path, root) for s in split.test if s.label} == defects
    for sample in split.train + split.test:
        assert sample.name == relative(sample.path, root)
        assert sample.has_mask == (not sample.label or sample.mask_path is not None)
    if data not in ("mtd", "cityscapes"):  # they set normals aside: tests/data/test_partition.py, and below
        assert load_samples(data, root, category=category) == split


@pytest.mark.parametrize("data", [name for name in TREES if name != "mtd"])
def test_stray_files_and_folders_change_nothing(data, tmp_path, picture):
    category = build(tmp_path, data, picture)
    before = read_layout(LAYOUTS[data], tmp_path, category)
    for sample in before.train + before.test:
        (sample.path.parent / ".DS_Store").touch()
        (sample.path.parent / "Thumbs.db").touch()
        (sample.path.parent / f"._{sample.path.name}").touch()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "readme.txt").touch()
    assert read_layout(LAYOUTS[data], tmp_path, category) == before


def test_order_does_not_depend_on_the_file_system(tmp_path, picture, monkeypatch):
    build(tmp_path, "mvtec", picture)
    before = read_layout(LAYOUTS["mvtec"], tmp_path, "bottle")
    scandir, listdir = os.scandir, os.listdir

    class Reversed:
        def __init__(self, path):
            self.entries = iter(sorted(scandir(path), key=lambda entry: entry.name, reverse=True))

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def __iter__(self):
            return self

        def __next__(self):
            return next(self.entries)

    monkeypatch.setattr(os, "scandir", Reversed)
    monkeypatch.setattr(os, "listdir", lambda path=".": sorted(listdir(path), reverse=True))
    after = read_layout(LAYOUTS["mvtec"], tmp_path, "bottle")
    assert after == before
    assert [sample.path.parent.name for sample in after.test] == [
        "good",
        "broken_large",
        "broken_large",
        "contamination",
    ]
    assert [sample.path.name for sample in after.train] == ["000.png", "001.PNG"]


def test_only_folders_of_the_pattern_are_defects(tmp_path, picture):
    build(tmp_path, "mtd", picture)
    before = read_layout(LAYOUTS["mtd"], tmp_path)
    picture(tmp_path / "XY_Crack/Imgs/exp1_num_9.jpg")
    assert read_layout(LAYOUTS["mtd"], tmp_path) == before


def test_patients_are_groups(tmp_path, picture):
    build(tmp_path, "brats2021", picture)
    picture(tmp_path / "test/tumor/00002_flair_71.png")
    defects = [sample for sample in read_layout(LAYOUTS["brats2021"], tmp_path).test if sample.label]
    assert [sample.group for sample in defects] == ["00002", "00002"]


def test_patches_of_one_street_frame_stay_together(tmp_path, picture):
    build(tmp_path, "cityscapes", picture)
    split = load_samples("cityscapes", tmp_path)
    good = [sample for sample in split.test if not sample.label]
    assert (len(split.train), len(good)) == (14, 6)
    assert not {sample.group for sample in split.train} & {sample.group for sample in good}
    assert [sample.group for sample in split.test if sample.label] == ["bad-honnef_000000_001003", "OOD/other.png"]
    assert load_samples("cityscapes", tmp_path, seed=1) != split


def test_every_class_is_normal(tmp_path, picture):
    build(tmp_path, "imagenet30", picture)
    for name in ("train/nail/6.JPEG", "train/volcano/7.JPEG"):
        picture(tmp_path / name)
    (tmp_path / "train" / ".robustad-download").mkdir()
    assert list_categories(LAYOUTS["imagenet30"], tmp_path) == ["acorn", "nail", "volcano"]
    split = load_samples("imagenet30", tmp_path, category="all")
    assert [sample.kind for sample in split.train] == ["acorn", "acorn", "nail", "volcano"]
    assert [(sample.kind, sample.label) for sample in split.test] == [(n, False) for n in ("acorn", "nail", "volcano")]
    with pytest.raises(LayoutError, match=r"'nails' does not exist in .*; it holds acorn, nail, volcano"):
        load_samples("imagenet30", tmp_path, category="nails")
    with pytest.raises(LayoutError, match=r"no category found in .*; expected folders such as train/CATEGORY"):
        load_samples("imagenet30", tmp_path / "train", category="all")


def test_samples_know_their_class_or_defect(tmp_path, picture):
    build(tmp_path / "a", "imagenet30", picture)
    split = load_samples("imagenet30", tmp_path / "a", category="acorn")
    assert [sample.kind for sample in split.train + split.test] == ["acorn"] * 3 + ["nail", "volcano"]
    build(tmp_path / "b", "mvtec", picture)
    split = load_samples("mvtec", tmp_path / "b", category="bottle")
    kinds = [sample.kind for sample in split.train + split.test]
    assert kinds == ["", "", "", "broken_large", "broken_large", "contamination"]


def test_own_extension_goes_before_png(tmp_path, picture):
    build(tmp_path, "btad", picture)
    picture(tmp_path / "01/ground_truth/ko/0001.png", 255)
    masks = [sample.mask_path for sample in read_layout(LAYOUTS["btad"], tmp_path, "01").test if sample.label]
    assert [path.name for path in masks] == ["0000.png", "0001.bmp"]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.text(alphabet="abcXYZ019_-. {}", min_size=1, max_size=12).filter(lambda t: t.strip(" .") == t),
        min_size=1,
        max_size=6,
        unique_by=str.lower,
    )
)
def test_any_file_and_defect_name_finds_its_own_mask(tmp_path, names):
    """Names with dots, blanks and braces, as people give them."""
    root = tmp_path / "tree"
    shutil.rmtree(root, ignore_errors=True)
    for folder in ("train/good", "test/good"):
        (root / "C" / folder).mkdir(parents=True)
        (root / "C" / folder / "0.png").touch()
    names = [name for name in names if name.lower() != "good"] or ["crack"]
    for name in names:
        for folder, file in (("test", f"{name}.png"), ("ground_truth", f"{name}_mask.png")):
            (root / "C" / folder / name).mkdir(parents=True, exist_ok=True)
            (root / "C" / folder / name / file).touch()
    defects = [sample for sample in read_layout(LAYOUTS["mvtec"], root, "C").test if sample.label]
    assert sorted(sample.path.stem for sample in defects) == sorted(names)
    for sample in defects:
        assert sample.mask_path == root / "C/ground_truth" / sample.path.stem / f"{sample.path.stem}_mask.png"


def test_errors_say_what_is_missing(tmp_path, picture):
    layout = LAYOUTS["mvtec"]
    with pytest.raises(LayoutError, match=r"nowhere does not exist"):
        read_layout(layout, tmp_path / "nowhere", "bottle")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LayoutError, match="no category found"):
        read_layout(layout, tmp_path / "empty", "bottle")
    root = tmp_path / "data"
    build(root, "mvtec", picture)
    (root / "license").mkdir()
    assert list_categories(layout, root) == ["bottle"]
    with pytest.raises(LayoutError, match=r"'cable' does not exist in .*; it holds bottle$"):
        read_layout(layout, root, "cable")
    with pytest.raises(LayoutError, match=r"`category` is missing; .* holds bottle"):
        read_layout(layout, root)
    for path in (root / "bottle/train/good").iterdir():
        path.unlink()
    with pytest.raises(LayoutError, match=r"no image .* in .*train/good"):
        read_layout(layout, root, "bottle")


def test_missing_test_folders(tmp_path, picture):
    layout = LAYOUTS["mvtec"]
    picture(tmp_path / "a/train/good/0.png")
    with pytest.raises(LayoutError, match="test/good does not exist"):
        read_layout(layout, tmp_path, "a")
    picture(tmp_path / "a/test/good/0.png")
    with pytest.raises(LayoutError, match="no anomalous images"):
        read_layout(layout, tmp_path, "a")


def test_a_category_where_there_is_none(tmp_path, picture):
    build(tmp_path, "headct", picture)
    with pytest.raises(LayoutError, match="has no categories, got category 'skull'"):
        read_layout(LAYOUTS["headct"], tmp_path, "skull")


def test_visa_without_foregrounds_names_the_way_out(tmp_path, picture):
    build(tmp_path, "visa", picture)
    (tmp_path / "pcb1/Data/Images/foreground_mask/0000.JPG").unlink()
    with pytest.raises(LayoutError, match="visa-csv"):
        read_layout(LAYOUTS["visa"], tmp_path, "pcb1")


def test_visa_with_a_foreground_of_every_normal_image_has_nothing_to_test_on(tmp_path, picture):
    build(tmp_path, "visa", picture)
    for path in (tmp_path / "pcb1/Data/Images/Normal").iterdir():
        picture(tmp_path / f"pcb1/Data/Images/foreground_mask/{path.stem}.JPG", 255)
    with pytest.raises(LayoutError, match=r"none is left for the test; .*visa-csv"):
        read_layout(LAYOUTS["visa"], tmp_path, "pcb1")


def test_sample_has_defaults_for_tiles():
    sample = Sample("a", False, None, None, "g", "n")
    assert sample.crop is None
    assert sample.boxes is None
