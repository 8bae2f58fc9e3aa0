"""Files are there in full or not at all: errors, interruptions, a full disk, permissions."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from robustad import files
from robustad.files import atomic_path, read_json, write_json, write_text


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file_in_a_new_folder(tmp_path):
    with atomic_path(tmp_path / "a" / "b" / "file.bin") as temporary:
        assert temporary.parent == tmp_path / "a" / "b", "another file system could not rename"
        temporary.write_bytes(b"new")
        assert not (tmp_path / "a" / "b" / "file.bin").exists()
    assert (tmp_path / "a" / "b" / "file.bin").read_bytes() == b"new"
    assert leftovers(tmp_path / "a" / "b") == ["file.bin"]


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
@pytest.mark.parametrize("existing", [True, False])
def test_an_error_leaves_the_old_file_or_none(tmp_path, error, existing):
    target = tmp_path / "file.txt"
    if existing:
        target.write_text("old")
    with pytest.raises(type(error)), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise error
    assert leftovers(tmp_path) == (["file.txt"] if existing else [])
    assert not existing or target.read_text() == "old"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_that_shows_only_at_the_end(tmp_path, monkeypatch, call):
    target = tmp_path / "file.txt"
    write_text(target, "old")

    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os if call == "fsync" else files.Path, call, full)
    with pytest.raises(OSError, match="No space left"):
        write_text(target, "new")
    assert target.read_text() == "old" and leftovers(tmp_path) == ["file.txt"]


def test_data_reach_the_disk_before_the_name_does(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(files.os, "fsync", lambda fd: (order.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(files.Path, "replace", lambda self, to: (order.append("replace"), replace(self, to))[1])
    write_text(tmp_path / "file.txt", "x")
    assert order == ["fsync", "replace"]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_permissions_follow_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "file.txt", "x")
        assert os.umask(umask) == umask, "the mask is as it was"
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file.txt").stat().st_mode) == 0o666 & ~umask


def test_a_folder_that_cannot_be_written_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="file"):
        write_text(tmp_path / "file" / "inner.txt", "x")


def test_two_writers_do_not_share_a_temporary(tmp_path):
    target = tmp_path / "file.txt"
    with atomic_path(target) as one, atomic_path(target) as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")
    assert target.read_text() == "one" and leftovers(tmp_path) == ["file.txt"]


def test_json_round_trip_in_utf_8(tmp_path):
    value = {"name": "Größe", "values": [1, 2.5, None, True], "inner": {"a": []}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    raw = (tmp_path / "a.json").read_bytes()
    assert "Größe".encode() in raw and raw.endswith(b"}\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_is_not_json_is_refused_and_the_old_file_stays(tmp_path, value):
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "a.json", {"new": value})
    assert read_json(tmp_path / "a.json") == {"old": 1} and leftovers(tmp_path) == ["a.json"]


def test_a_name_that_is_not_utf_8_can_be_written_about(tmp_path):
    write_text(tmp_path / "a.txt", os.fsdecode(b"\xff.png"))
    write_json(tmp_path / "a.json", os.fsdecode(b"\xff.png"))
    assert (tmp_path / "a.txt").read_text() == "\\udcff.png"
    assert read_json(tmp_path / "a.json") == os.fsdecode(b"\xff.png")
