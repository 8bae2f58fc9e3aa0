"""Unpacking: what comes out, and that hostile or damaged archives leave nothing behind."""

from __future__ import annotations

import errno
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from robustad.data.archives import extract
from robustad.errors import DownloadError


def make_tar(path: Path, members: list[tarfile.TarInfo | tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            archive.addfile(info, io.BytesIO(member[1]))
    return path


def make_zip(path: Path, members: dict[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_refused(archive: Path, target: Path, match: str, **limits: int) -> None:
    before = set(target.parent.parent.rglob("*"))
    with pytest.raises(DownloadError, match=match) as caught:
        extract(archive, target, **limits)
    assert "\n" not in str(caught.value)
    assert set(target.parent.parent.rglob("*")) == before


@pytest.fixture
def target(tmp_path: Path) -> Path:
    parent = tmp_path / "parent"
    parent.mkdir()
    return parent / "target"


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_tar_of_every_compression(tmp_path: Path, target: Path, mode: str) -> None:
    folder = special("a/empty", tarfile.DIRTYPE)
    archive = make_tar(tmp_path / "data.bin", [("a/b.png", b"1"), folder, ("./c.txt", b"22")], mode)
    assert extract(archive, target) == target
    assert tree(target) == {"a/b.png": b"1", "c.txt": b"22"}
    assert (target / "a" / "empty").is_dir()
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_zip_with_clutter_backslashes_and_strip(tmp_path: Path, target: Path) -> None:
    names = ("top/a/1.png", "top\\a\\2.png", "top/__MACOSX/x", "__MACOSX/top/._1.png", "top/.DS_Store", "top/d/")
    archive = make_zip(tmp_path / "data.zip", dict.fromkeys(names, b"x"))
    extract(archive, target, strip=1)
    assert set(tree(target)) == {"a/1.png", "a/2.png"}


def test_utf8_names_without_the_flag_and_other_bytes(tmp_path: Path, target: Path) -> None:
    archive = make_zip(tmp_path / "data.zip", {"AAAAA.png": b"1", "BBB.png": b"2"})
    raw = archive.read_bytes().replace(b"AAAAA", "né図"[:2].encode() + b"__").replace(b"BBB", b"\xff\xfe_")
    archive.write_bytes(raw)
    extract(archive, target)
    assert sorted(tree(target).values()) == [b"1", b"2"]
    assert "né__.png" in tree(target)


def test_existing_empty_folder_is_taken_and_a_full_one_is_not(tmp_path: Path, target: Path) -> None:
    archive = make_zip(tmp_path / "data.zip", {"a": b"1"})
    target.mkdir()
    extract(archive, target)
    with pytest.raises(DownloadError, match="not empty"):
        extract(archive, target)


def test_links_inside_become_copies(tmp_path: Path, target: Path) -> None:
    members = [("t/a/1", b"one"), special("t/b/2", tarfile.SYMTYPE, "../a/1"), special("t/3", tarfile.LNKTYPE, "t/a/1")]
    extract(make_tar(tmp_path / "data.tar", members), target, strip=1)
    assert tree(target) == {"a/1": b"one", "b/2": b"one", "3": b"one"}
    assert not any(path.is_symlink() for path in target.rglob("*"))
    (target / "3").write_bytes(b"changed")
    assert (target / "a" / "1").read_bytes() == b"one"


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil", "C:\\evil", "..\\evil", "\\\\host\\share\\x"])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_names_that_lead_out(tmp_path: Path, target: Path, name: str, kind: str) -> None:
    good_and_bad = {"good": b"1", name: b"evil"}
    if kind == "zip":
        archive = make_zip(tmp_path / "bad", dict(good_and_bad))
    else:
        archive = make_tar(tmp_path / "bad", list(good_and_bad.items()))
    assert_refused(archive, target, "unsafe")


@pytest.mark.parametrize("link", ["../../outside", "/etc/passwd", "missing", ".", "dir"])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_that_lead_out_or_nowhere(tmp_path: Path, target: Path, link: str, kind: bytes) -> None:
    (tmp_path / "outside").write_text("secret")
    members = [("dir/f", b"1"), special("link", kind, link), ("link/f", b"through the link")]
    assert_refused(make_tar(tmp_path / "bad", members), target, "unsafe")


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices(tmp_path: Path, target: Path, kind: bytes) -> None:
    assert_refused(make_tar(tmp_path / "bad", [special("device", kind)]), target, "device or pipe")


def test_symlink_in_zip(tmp_path: Path, target: Path) -> None:
    info = zipfile.ZipInfo("link")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    assert_refused(make_zip(tmp_path / "bad", {"good": b"1", info: b"/etc/passwd"}), target, "link or device")


def test_bombs_are_stopped_by_what_they_write(tmp_path: Path, target: Path) -> None:
    archive = make_zip(tmp_path / "bomb", {"zeros": bytes(3_000_000)})
    assert archive.stat().st_size < 10_000
    assert_refused(archive, target, "needs more than", max_bytes=2_999_999)
    assert_refused(make_zip(tmp_path / "many", {str(i): b"" for i in range(5)}), target, "more than 4", max_files=4)
    extract(archive, target, max_bytes=3_000_000)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_tar(tmp_path: Path, target: Path, mode: str, share: float) -> None:
    noise = bytes(i * 7919 % 251 for i in range(50_000))
    archive = make_tar(tmp_path / "cut", [("a", noise), ("b", noise[::-1])], mode)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(len(whole) * share)])
    assert_refused(archive, target, "damaged|neither")


def test_damaged_zip(tmp_path: Path, target: Path) -> None:
    archive = make_zip(tmp_path / "cut", {"a": b"content " * 100})
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-10])
    assert_refused(archive, target, "neither")
    archive.write_bytes(whole[:40] + b"\xff\xff" + whole[42:])
    assert_refused(archive, target, "damaged")


def test_encrypted_zip(tmp_path: Path, target: Path) -> None:
    archive = make_zip(tmp_path / "locked", {"a": b"1"})
    raw = bytearray(archive.read_bytes())
    raw[6] |= 1  # the "encrypted" bit of the local header and of the directory
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(raw)
    assert_refused(archive, target, "encrypted")


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>", b"\0" * 10_240])
def test_not_an_archive(tmp_path: Path, target: Path, content: bytes) -> None:
    (tmp_path / "page").write_bytes(content)
    assert_refused(tmp_path / "page", target, "neither|empty")


def test_full_disk(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_zip(tmp_path / "data", {"a": b"1"})
    real_open = Path.open

    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    def fake_open(self: Path, mode: str = "r", *args: object, **kwargs: object) -> object:
        return Full() if mode == "wb" else real_open(self, mode, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", fake_open)
    assert_refused(archive, target, "No space left on device")


def test_file_and_folder_of_one_name(tmp_path: Path, target: Path) -> None:
    assert_refused(make_tar(tmp_path / "odd", [("a", b"1"), ("a/b", b"2")]), target, "cannot unpack")
