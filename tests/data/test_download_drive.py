"""Masks and weights from shared drives, with a stand-in for gdown."""

from __future__ import annotations

import inspect
import io
import re
import tarfile
from pathlib import Path

import pytest
from download_doubles import (
    Drive,
    Server,
    fails,
    files_below,
    images_row,
    mask_rows,
    zipped,
)

from robustad.data import _drive, _fetching
from robustad.data._placing import place
from robustad.data.download import download_dataset, download_weights
from robustad.errors import MissingExtra

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture
def drive(monkeypatch: pytest.MonkeyPatch) -> Drive:
    stand_in = Drive()

    def require(module: str, extra: str) -> Drive:
        assert (module, extra) == ("gdown", "download")
        return stand_in

    monkeypatch.setattr(_fetching, "require", require)
    return stand_in


def test_masks_go_to_their_categories_and_never_over_others(server: Server, drive: Drive, tmp_path: Path) -> None:
    images = images_row(server, zipped("a/train/good/1.png", "b/train/good/1.png", "c/train/good/1.png"))
    drive.files["FILE"] = zipped("masks/a/1.png", "masks/b/foreground_mask/1.png", "masks/c/1.png", "masks/else/1.png")
    own = tmp_path / "c/train/foreground_mask/own.png"
    download_dataset("set", tmp_path, masks=False, addresses=[images])
    (tmp_path / "b/train/foreground_mask").mkdir()  # the published loaders leave such empty folders
    download_dataset("set", tmp_path, addresses=[images, *mask_rows()])
    wanted = {f"{name}/train/foreground_mask/1.png" for name in "abc"}
    assert files_below(tmp_path) & wanted == wanted
    assert not (tmp_path / "else").exists()
    assert not (tmp_path / ".robustad-download").exists()
    # Again with masks of one's own in place: nothing is fetched, nothing replaced.
    own.write_bytes(b"mine")
    download_dataset("set", tmp_path, addresses=[images, *mask_rows()])
    assert own.read_bytes() == b"mine"
    assert drive.asked == ["FILE"]


def test_masks_of_an_interrupted_run_do_not_replace_others(tmp_path: Path) -> None:
    source, root = tmp_path / "ready", tmp_path / "root"
    for path in (source / "a/1.png", source / "b/1.png", root / "a/train/foreground_mask/own.png", root / "b/x"):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    place(source, root, mask_rows()[0])
    assert files_below(root) == {"a/train/foreground_mask/own.png", "b/train/foreground_mask/1.png", "b/x"}


def test_masks_without_categories(server: Server, drive: Drive, tmp_path: Path) -> None:
    images = images_row(server, zipped("train/good/1.png", "test/x"), present="train/good")
    drive.files["FILE"] = zipped("foreground_mask/1.png", "foreground_mask/2.png")
    download_dataset("set", tmp_path / "r", addresses=[images, *mask_rows("train/foreground_mask")])
    assert {"train/foreground_mask/1.png", "train/foreground_mask/2.png"} <= files_below(tmp_path / "r")


def test_second_source_is_taken_when_the_first_refuses(server: Server, drive: Drive, tmp_path: Path) -> None:
    images = images_row(server, zipped("a/train/good/1.png", "b/train/good/1.png"))
    drive.folders["FOLDER"] = {"a.zip": zipped("1.png"), "b/2.png": b"plain"}
    download_dataset("set", tmp_path / "r", addresses=[images, *mask_rows()])
    assert drive.asked == ["FILE", "FOLDER"]
    assert {"a/train/foreground_mask/1.png", "b/train/foreground_mask/2.png"} <= files_below(tmp_path / "r")


def test_refusal_of_all_sources_gives_the_first_reason_and_a_link(server: Server, drive: Drive, tmp_path: Path) -> None:
    rows = [images_row(server), *mask_rows()]
    fails(
        lambda: download_dataset("set", tmp_path / "r", addresses=rows),
        "Too many accesses",
        "https://drive.google.com/file/d/FILE",
    )
    assert "a/train/good/1.png" in files_below(tmp_path / "r")


def test_masks_of_something_else(server: Server, drive: Drive, tmp_path: Path) -> None:
    drive.files["FILE"] = zipped("x/1.png", "y/1.png")
    rows = [images_row(server), *mask_rows()]
    fails(lambda: download_dataset("set", tmp_path / "r", addresses=rows), "no folder that is named as a category")
    drive.files["FILE"] = zipped("a/1.png")
    download_dataset("set", tmp_path / "r", addresses=rows)
    assert "a/train/foreground_mask/1.png" in files_below(tmp_path / "r")


def test_dataset_in_two_parts(drive: Drive, tmp_path: Path) -> None:
    for number, part in (("1B5c39Fc3haOPzlehzmpTLz6xLtGyKEy4", "train"), ("13xzVuQMEhSnBRZr-YaaO08coLU2dxAUq", "test")):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for name in ("acorn", "airliner"):
                archive.addfile(tarfile.TarInfo(f"one_class_{part}/{name}/1.JPEG"))
        drive.files[number] = stream.getvalue()
    second = drive.files.pop("13xzVuQMEhSnBRZr-YaaO08coLU2dxAUq")
    fails(lambda: download_dataset("imagenet30", tmp_path), "accesses")
    drive.files = {"13xzVuQMEhSnBRZr-YaaO08coLU2dxAUq": second}  # the first part is not fetched again
    download_dataset("imagenet30", tmp_path)
    assert len([name for name in files_below(tmp_path) if re.match(r"(train|test)/a\w+/1.JPEG", name)]) == 4


def test_missing_client_is_said_before_anything_is_fetched(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(module: str, extra: str) -> None:
        raise MissingExtra(f"{module} [{extra}]")

    monkeypatch.setattr(_fetching, "require", missing)
    with pytest.raises(MissingExtra, match=r"gdown \[download\]"):
        download_weights("mvtec", "bottle", tmp_path)
    with pytest.raises(MissingExtra):
        download_dataset("set", tmp_path / "r", addresses=[images_row(server), *mask_rows()])
    assert server.requests == []
    download_dataset("set", tmp_path / "r", masks=False, addresses=[images_row(server), *mask_rows()])
    assert "a/train/good/1.png" in files_below(tmp_path / "r")


BOTTLE = "1vAV5zzVxx6SqLlirkP0kibEileHxKflz"


@pytest.mark.parametrize("content", [b"PK\x03\x04weights", b"\x80\x02old weights"])
def test_weights(drive: Drive, tmp_path: Path, content: bytes) -> None:
    drive.files[BOTTLE] = content
    for _ in range(2):
        path = download_weights("mvtec", "bottle", tmp_path / "w")
    assert path == tmp_path / "w" / "patchguard_mvtec_bottle.pth"
    assert path.read_bytes() == content
    assert files_below(tmp_path / "w") == {path.name}
    assert drive.asked == [BOTTLE]
    path.write_bytes(b"PK tampered")
    fails(lambda: download_weights("mvtec", "bottle", tmp_path / "w"), "first downloaded")
    assert path.exists()


def test_weights_that_are_a_page(drive: Drive, tmp_path: Path) -> None:
    drive.files[BOTTLE] = b"<!DOCTYPE html>"
    fails(lambda: download_weights("mvtec", "bottle", tmp_path / "w"), "not a file of weights", BOTTLE)
    assert files_below(tmp_path) == set()


def test_installed_client_takes_the_arguments_that_the_stand_in_takes() -> None:
    gdown = pytest.importorskip("gdown")
    for name in ("download", "download_folder"):
        wanted = inspect.signature(getattr(Drive, name)).parameters
        assert set(wanted) - {"self"} <= set(inspect.signature(getattr(gdown, name)).parameters)
    assert gdown.exceptions.FileURLRetrievalError in _drive._failures(gdown)


def test_folders_of_weights(drive: Drive, tmp_path: Path) -> None:
    drive.folders["1Wn_1cE700ORpRmSfDzOfOpYyhAjxsyHr"] = {"bottle.pth": b"PK", "sub/wood.pth": b"PK"}
    drive.folders["1p6FkGOWI78_1ZZpAVWBfP8alESug2k5P"] = {"cobra.pth": b"PK"}
    for _ in range(2):
        assert download_weights("mvtec", None, tmp_path) == tmp_path / "mvtec"
        download_weights("imagenet30", None, tmp_path)
    assert files_below(tmp_path) == {"mvtec/bottle.pth", "mvtec/sub/wood.pth", "imagenet30/cobra.pth"}
    assert len(drive.asked) == 2


def test_weights_that_do_not_exist(tmp_path: Path) -> None:
    fails(lambda: download_weights("mvtec", "zipper", tmp_path), "mvtec/zipper", "released no file", "bottle, cable")
    with pytest.raises(ValueError, match=r"bottle.*did you mean 'bottle'"):
        download_weights("mvtec", "botle", tmp_path)
    with pytest.raises(ValueError, match=r"`dataset` must be one of imagenet30, mvtec, visa; got 'btad'"):
        download_weights("btad", "01", tmp_path)
    with pytest.raises(ValueError, match="not sorted by category"):
        download_weights("imagenet30", "acorn", tmp_path)


def test_a_truncated_archive_in_a_folder_is_no_plain_file(server: Server, drive: Drive, tmp_path: Path) -> None:
    images = images_row(server, zipped("a/train/good/1.png", "b/train/good/1.png"))
    rows, whole = [images, mask_rows()[1]], zipped("1.png")
    drive.folders["FOLDER"] = {"a.zip": whole[: len(whole) // 2], "b/2.png": b"plain"}
    fails(lambda: download_dataset("set", tmp_path / "r", addresses=rows), "a.zip")
    drive.folders["FOLDER"]["a.zip"] = whole
    download_dataset("set", tmp_path / "r", addresses=rows)
    assert {"a/train/foreground_mask/1.png", "b/train/foreground_mask/2.png"} <= files_below(tmp_path / "r")


def test_a_folder_whose_unpacking_was_interrupted(
    server: Server, drive: Drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = images_row(server, zipped("a/train/good/1.png", "b/train/good/1.png"))
    drive.folders["FOLDER"] = {"a.zip": zipped("1.png"), "b.zip": zipped("2.png")}
    rows, extract = [images, mask_rows()[1]], _fetching.extract

    def interrupted(archive: Path, target: Path, **options: bool) -> Path:
        if archive.name == "b.zip":
            raise KeyboardInterrupt
        return extract(archive, target, **options)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(_fetching, "extract", interrupted)
        download_dataset("set", tmp_path / "r", addresses=rows)
    download_dataset("set", tmp_path / "r", addresses=rows)
    assert {"a/train/foreground_mask/1.png", "b/train/foreground_mask/2.png"} <= files_below(tmp_path / "r")
