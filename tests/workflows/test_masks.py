import numpy as np
import pytest
from PIL import Image

from robustad.data import load_folder
from robustad.errors import ImageError, LayoutError
from robustad.foreground import write_mask
from robustad.images import read_mask
from robustad.workflows.masks import masks


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(5):
        path = tmp_path / "set/normal" / ("sub" if number % 2 else "") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = rng.normal(30, 2, (64, 80, 3))
        picture[16:48, 20:60] = 190
        Image.fromarray(picture.round().astype(np.uint8)).save(path)
    return tmp_path / "set/normal"


def test_masks_lie_where_training_looks_for_them(folder, tmp_path):
    result = masks(folder)
    assert result.out == folder.parent / "foreground_mask" and result.errors == []
    found = load_folder(folder, foreground=result.out, test_fraction=0).train
    assert [sample.foreground_path is not None for sample in found] == [True] * 5, (
        "every image has its mask, no mask too many"
    )
    mask = read_mask(result.out / "sub/1.png") > 0
    assert mask[20:44, 24:56].all() and mask.mean() == pytest.approx(0.25, abs=0.05)
    with Image.open(result.sheet) as sheet:
        assert result.sheet == folder.parent / "foreground_mask_sheet.png" and sheet.width > 400


def test_folders_side_by_side_share_no_masks(folder, tmp_path):
    (tmp_path / "set/line2").mkdir()
    (folder / "0.png").rename(tmp_path / "set/line2/0.png")
    assert masks(tmp_path / "set/line2", method="none").out == tmp_path / "set/line2_foreground_mask"
    assert masks(folder, method="none").out == tmp_path / "set/foreground_mask"


def test_the_sheet_shows_no_mask_of_another_size(folder, tmp_path):
    write_mask(np.ones((3, 3), np.bool_), tmp_path / "out/0.png")
    found = masks(folder, tmp_path / "out", method="none", overwrite=False)
    assert len(found.errors) == 1 and "0.png has another size than" in found.errors[0]


def test_the_sheet_shows_some_of_many(folder, tmp_path):
    few = masks(folder, tmp_path / "a", sheet_images=2, sheet=tmp_path / "few.png", method="none")
    with Image.open(few.sheet) as sheet:
        assert sheet.width < 2.2 * 192 + 20
    assert few.num_masks == 5


def test_masks_corrected_by_hand_can_be_kept(folder, tmp_path):
    masks(folder, tmp_path / "a")
    mine = tmp_path / "a/0.png"
    Image.fromarray(np.full((64, 80), 255, np.uint8)).save(mine)
    masks(folder, tmp_path / "a", overwrite=False)
    assert (read_mask(mine) == 255).all()
    with pytest.raises(ValueError, match=r"5 of the masks exist, e.g. .*0.png: .*--keep or --overwrite"):
        masks(folder, tmp_path / "a")
    assert (read_mask(mine) == 255).all()
    masks(folder, tmp_path / "a", overwrite=True)
    assert not (read_mask(mine) == 255).all()


def test_a_bad_image_is_reported_and_the_others_get_masks(folder, tmp_path):
    (folder / "bad.png").touch()
    result = masks(folder, tmp_path / "a")
    assert result.num_masks == 5 and len(result.errors) == 1 and "bad.png is empty" in result.errors[0]
    assert not (tmp_path / "a/bad.png").exists()


def test_what_cannot_work(folder, tmp_path):
    with pytest.raises(LayoutError, match="does not exist"):
        masks(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LayoutError, match="no images"):
        masks(tmp_path / "empty")
    (tmp_path / "empty/a.png").touch()
    with pytest.raises(ImageError, match=r"none of the 1 images"):
        masks(tmp_path / "empty")
    with pytest.raises(ValueError, match="classical"):
        masks(folder, method="classic")
    with pytest.raises(ValueError, match=r"`out` .* lies inside"):
        masks(folder, folder / "masks")
    with pytest.raises(ValueError, match=r"`sheet` .* lies inside"):
        masks(folder, tmp_path / "a", sheet=folder / "sheet.png")
    (folder / "0.bmp").write_bytes((folder / "0.png").read_bytes())
    with pytest.raises(ValueError, match=r"0\.bmp and .*0\.png would share"):
        masks(folder, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_kept_mask_without_a_readable_image_is_reported_and_the_sheet_is_made(folder, tmp_path):
    masks(folder, tmp_path / "a")
    (folder / "0.png").write_bytes(b"")
    Image.fromarray(np.zeros((64, 80), np.uint8)).save(tmp_path / "a/2.png")  # nothing left of the foreground
    result = masks(folder, tmp_path / "a", overwrite=False)
    assert len(result.errors) == 2 and "0.png is empty" in result.errors[0] and "no foreground" in result.errors[1]
    with Image.open(result.sheet) as sheet:
        assert sheet.width == 3 * (192 + 6) + 6, "three are left"
