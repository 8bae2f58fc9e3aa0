"""Plain folders: with and without anomalies, masks, foregrounds; and every way to get them wrong."""

import pytest

from robustad.data import ImageDataset, load_folder, load_samples
from robustad.data.folder import load_root
from robustad.errors import LayoutError


@pytest.fixture
def root(tmp_path, picture):
    for index in range(10):
        picture(tmp_path / f"normal/{index}.png")
    for name in ("a/scratch.png", "b/scratch.png", "dent.JPG", "faint.png"):
        picture(tmp_path / "anomalous" / name)
    picture(tmp_path / "masks/a/scratch_mask.png", 255)
    picture(tmp_path / "masks/b/scratch.bmp", 255)
    picture(tmp_path / "masks/dent.png", 255)
    return tmp_path


def test_normals_alone_are_split_by_seed(root):
    split = load_folder(root / "normal", seed=0)
    assert (len(split.train), len(split.test)) == (8, 2)
    assert not any(sample.label for sample in split.train + split.test)
    assert load_folder(root / "normal", seed=0) == split
    others = {tuple(load_folder(root / "normal", seed=seed).test) for seed in range(5)}
    assert len(others) > 1
    assert len(load_folder(root / "normal", test_fraction=0.5).test) == 5
    assert load_folder(root / "normal", test_fraction=0).test == []


def test_names_do_not_depend_on_where_the_folder_lies(root, tmp_path_factory):
    moved = tmp_path_factory.mktemp("elsewhere") / "x"
    before = load_folder(root / "normal", anomalous=root / "anomalous")
    root.rename(moved)
    after = load_folder(moved / "normal", anomalous=moved / "anomalous")
    assert [s.name for s in before.train + before.test] == [s.name for s in after.train + after.test]


def test_masks_are_matched_by_relative_path_and_may_be_missing(root):
    split = load_folder(root / "normal", anomalous=root / "anomalous", masks=root / "masks")
    defects = {s.name: s.mask_path and s.mask_path.relative_to(root).as_posix() for s in split.test if s.label}
    assert defects == {
        "anomalous/a/scratch.png": "masks/a/scratch_mask.png",
        "anomalous/b/scratch.png": "masks/b/scratch.bmp",
        "anomalous/dent.JPG": "masks/dent.png",
        "anomalous/faint.png": None,
    }
    items = list(ImageDataset([s for s in split.test if s.label], 8))
    assert [item["has_mask"] for item in items] == [True, True, True, False]


def test_foreground_and_own_test_normals(root, picture):
    picture(root / "fg/3.png", 255)
    picture(root / "more/3.png")
    split = load_folder(root / "normal", foreground=root / "fg", test_normal=root / "more")
    assert len(split.train) == 10
    assert [s.foreground_path for s in split.train if s.foreground_path] == [root / "fg/3.png"]
    assert [(s.name, s.label) for s in split.test] == [("test_normal/3.png", False)]


def test_load_samples_reads_the_named_folders(root):
    split = load_samples("folder", root, seed=3)
    assert split == load_folder(root / "normal", anomalous=root / "anomalous", masks=root / "masks", seed=3)
    assert load_samples("folder", root / "normal", seed=3).train == split.train
    parts = [load_samples("folder", root, seed=3, part=part).test for part in ("dev", "final")]
    assert sorted(parts[0] + parts[1]) == sorted(split.test)


def test_errors(root, picture, tmp_path):
    normal, anomalous = root / "normal", root / "anomalous"
    with pytest.raises(LayoutError, match="nowhere does not exist"):
        load_folder(root / "nowhere")
    (root / "empty").mkdir()
    with pytest.raises(LayoutError, match=r"no images in .*empty"):
        load_folder(root / "empty")
    with pytest.raises(LayoutError, match=r"no images in .*empty"):
        load_folder(normal, anomalous=root / "empty")
    with pytest.raises(LayoutError, match=r"no images in .*empty; leave the folder out"):
        load_folder(normal, anomalous=anomalous, masks=root / "empty")
    with pytest.raises(LayoutError, match="without anomalous images"):
        load_folder(normal, masks=root / "masks")
    with pytest.raises(LayoutError, match="lies in two of the given folders"):
        load_folder(root, anomalous=anomalous)
    picture(root / "masks/ghost.png", 255)
    with pytest.raises(LayoutError, match=r"mask .*ghost\.png has no image .*\(1 such masks\)"):
        load_folder(normal, anomalous=anomalous, masks=root / "masks")
    with pytest.raises(ValueError, match="fraction"):
        load_folder(normal, test_fraction=2)
    with pytest.raises(LayoutError, match="needs a folder"):
        load_samples("folder", None)
    with pytest.raises(LayoutError, match="no categories"):
        load_samples("folder", root, category="screw")
    (root / "normal").rename(root / "okay")
    with pytest.raises(LayoutError, match="no folder `normal`"):
        load_samples("folder", root)


@pytest.fixture
def parts(tmp_path, picture):
    """Ten parts, three pictures each; a picture of the first one shows a defect."""
    for part in range(10):
        for view in range(3):
            picture(tmp_path / f"normal/part{part}-{view}.png")
    picture(tmp_path / "anomalous/part0-9.png")
    return tmp_path


def test_pictures_of_one_object_stay_together(parts):
    options = {"anomalous": parts / "anomalous", "group_by": "part([0-9]+)"}
    split = load_folder(parts / "normal", **options)
    known = {sample.group for sample in split.train}
    tested = {sample.group for sample in split.test}
    assert not known & tested and known | tested == {str(part) for part in range(10)}
    assert "0" in tested, "an object with a defect is never trained on"
    assert (len(split.train), sum(not sample.label for sample in split.test)) == (24, 6)
    assert [s.name for s in split.test] == sorted((s.name for s in split.test), key=lambda n: (n.startswith("a"), n))
    assert load_root(parts, group_by="part([0-9]+)") == split
    assert len({tuple(load_folder(parts / "normal", **options, seed=seed).train) for seed in range(5)}) > 1
    alone = load_folder(parts / "normal", group_by="part([0-9]+)", test_fraction=0)
    assert len(alone.train) == 30 and not alone.test
    few = load_folder(parts / "normal", **options, test_fraction=0.01)
    assert {sample.group for sample in few.test} == {"0"}, "what must be tested is enough"


def test_objects_that_cannot_be_kept_apart(parts, picture):
    normal = parts / "normal"
    with pytest.raises(LayoutError, match=r"'board\(\.\)' finds nothing in part0-0.png"):
        load_folder(normal, group_by="board(.)")
    for bad, text in (("part", "one group in parentheses"), ("(p)(a)", "one group"), ("part(", "must be a regular")):
        with pytest.raises(ValueError, match=f"`group_by`.*{text}"):
            load_folder(normal, group_by=bad)
    picture(parts / "more/part3-7.png")
    with pytest.raises(LayoutError, match=r"3 is shown by training and by test images \(1 such objects"):
        load_folder(normal, test_normal=parts / "more", group_by="part([0-9]+)")
    with pytest.raises(LayoutError, match=r"0 is shown by training and by test images"):
        load_folder(normal, test_normal=parts / "anomalous", group_by="part([0-9]+)")
    with pytest.raises(LayoutError, match="every object has an anomalous image"):
        load_folder(normal, anomalous=parts / "anomalous", group_by="(part)")


def test_a_mask_is_never_an_image_as_well(root, picture):
    picture(root / "beside/1.png")
    picture(root / "beside/1_mask.png", 255)
    with pytest.raises(LayoutError, match=r"1\.png would be an image and a mask"):
        load_folder(root / "normal", anomalous=root / "beside", masks=root / "beside")
    picture(root / "above/1.png")
    picture(root / "above/masks/1.png", 255)
    with pytest.raises(LayoutError, match=r"masks/1\.png would be an image and a mask"):
        load_folder(root / "normal", anomalous=root / "above", masks=root / "above/masks")
    picture(root / "normal/fg/3.png", 255)
    with pytest.raises(LayoutError, match=r"fg/3\.png would be an image and a mask"):
        load_folder(root / "normal", foreground=root / "normal/fg")


def test_names_of_folders_are_read_in_any_case(root):
    expected = load_samples("folder", root, seed=3)
    (root / "normal").rename(root / "Good")
    (root / "anomalous").rename(root / "Defects")
    found = load_samples("folder", root, seed=3)
    assert [sample.label for sample in found.test] == [sample.label for sample in expected.test]
    assert len(found.train) == len(expected.train)


def test_a_folder_of_unknown_meaning_is_no_reason_to_test_on_normal_images_alone(root):
    (root / "masks").rename(root.parent / "masks")
    (root / "anomalous").rename(root / "scratched")
    (root / "empty").mkdir()
    with pytest.raises(LayoutError, match="holds normal and scratched; call the folder of defects `anomalous`"):
        load_samples("folder", root)


@pytest.mark.parametrize(
    ("good", "defects", "text"),
    [
        ("fine", "scratched", "holds fine, scratched"),
        (".", "scratched", r"holds \., scratched"),
        ("line1/fine", "line1/scratched", "holds line1/fine, line1/scratched"),
        ("fine", "fine/NG", "holds NG"),
        ("fine", "fine/Data/Masks", "holds Masks"),
        ("train/OK", "train/NG", "train holds NG"),
    ],
)
def test_defects_are_not_trained_on_because_nobody_knows_their_folder(root, picture, good, defects, text):
    picture(root / "apart" / good / "1.png")
    picture(root / "apart" / good / "2.png")
    assert not any(sample.label for sample in load_samples("folder", root / "apart").train)
    picture(root / "apart" / defects / "1.png")
    with pytest.raises(LayoutError, match=f"{text}, and it does not say which images are normal"):
        load_samples("folder", root / "apart")


def test_ok_and_ng_are_good_and_bad(root):
    expected = load_samples("folder", root, seed=3)
    (root / "normal").rename(root / "OK")
    (root / "anomalous").rename(root / "NG")
    assert [sample.label for sample in load_samples("folder", root, seed=3).test] == [s.label for s in expected.test]
