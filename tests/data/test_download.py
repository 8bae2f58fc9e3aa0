"""Datasets over HTTP, and the table of addresses."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from download_doubles import (
    Server,
    fails,
    files_below,
    images_row,
    zipped,
)

from robustad.data._addresses import Address, load_addresses
from robustad.data.download import available, download_dataset, manual_steps

pytestmark = pytest.mark.usefixtures("isolated")


def test_dataset_lands_in_its_root_once(server: Server, tmp_path: Path) -> None:
    row, root = images_row(server), tmp_path / "root"
    for _ in range(2):
        assert download_dataset("set", root, addresses=[row]) == root
    assert files_below(root) == {"a/train/good/1.png", "a/test/good/2.png", "b/readme"}
    assert [path.name for path in root.iterdir() if path.name.startswith(".")] == []
    assert len(server.requests) == 1


def test_default_root_and_wrapper_folder(server: Server, tmp_path: Path) -> None:
    row = images_row(server, zipped("Repo-1a2b/set/a/train/good/1.png"))
    root = download_dataset("set", addresses=[row])
    assert root == tmp_path / "home" / "set"
    assert files_below(root) == {"a/train/good/1.png"}
    assert download_dataset("set", addresses=[row]) == root
    assert len(server.requests) == 1


def test_foreign_folder_is_left_alone(server: Server, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    fails(lambda: download_dataset("set", tmp_path, addresses=[images_row(server)]), "not empty", "*/train/good")
    fails(lambda: download_dataset("set", tmp_path / "thesis.tex", addresses=[images_row(server)]), "not empty")
    assert server.requests == []


def test_images_put_there_by_hand_are_taken_as_they_are(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a/train/good").mkdir(parents=True)
    (tmp_path / ".robustad-download/images").mkdir(parents=True)  # of a download that was given up
    download_dataset("set", tmp_path, addresses=[images_row(server)])
    assert server.requests == []


def test_run_killed_while_moving_goes_on(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row, root = images_row(server), tmp_path / "root"
    real_rename = Path.rename

    def killed(self: Path, target: Path) -> Path:
        if self.name == "b":
            raise KeyboardInterrupt
        return real_rename(self, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        download_dataset("set", root, addresses=[row])
    monkeypatch.setattr(Path, "rename", real_rename)
    download_dataset("set", root, addresses=[row])
    assert files_below(root) == {"a/train/good/1.png", "a/test/good/2.png", "b/readme"}
    assert len(server.requests) == 1


def test_published_checksum_must_match(server: Server, tmp_path: Path) -> None:
    row = images_row(server, sha256="0" * 64)
    fails(lambda: download_dataset("set", tmp_path / "r", addresses=[row]), "not the published file", "0" * 64)
    assert files_below(tmp_path / "r") == set()
    digest = hashlib.sha256(server.resources["/set.zip"].content).hexdigest()
    download_dataset("set", tmp_path / "r", addresses=[images_row(server, sha256=digest)])
    assert "a/train/good/1.png" in files_below(tmp_path / "r")


def test_recorded_checksum_must_match_later(server: Server, tmp_path: Path) -> None:
    row = images_row(server)
    download_dataset("set", tmp_path / "first", addresses=[row])
    record = json.loads((tmp_path / "cache" / "checksums.json").read_text())
    assert record == {row.address: hashlib.sha256(server.resources["/set.zip"].content).hexdigest()}
    download_dataset("set", tmp_path / "second", addresses=[row])
    images_row(server, zipped("a/train/good/other.png"))
    fails(lambda: download_dataset("set", tmp_path / "third", addresses=[row]), "first downloaded", "checksums.json")
    assert files_below(tmp_path / "third") == set()


def test_archives_made_on_request_may_differ(server: Server, tmp_path: Path) -> None:
    for content in (b"1", b"2"):
        row = images_row(server, zipped("a/train/good/1.png", content=content), stable=False)
        download_dataset("set", tmp_path / content.decode(), addresses=[row])
    assert not (tmp_path / "cache").exists()


def test_unreadable_record_is_said(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "checksums.json").write_text("{")
    fails(lambda: download_dataset("set", tmp_path / "r", addresses=[images_row(server)]), "checksums.json", "delete")


@pytest.mark.parametrize("bad", [zipped("../evil"), b"no archive", zipped("unexpected/1.png", "other/2.png")])
def test_unusable_archive_is_neither_kept_nor_recorded(server: Server, tmp_path: Path, bad: bytes) -> None:
    row = images_row(server, bad)
    fails(lambda: download_dataset("set", tmp_path / "r", addresses=[row]))
    assert files_below(tmp_path / "r") == set()
    download_dataset("set", tmp_path / "r", addresses=[images_row(server)])
    assert "a/train/good/1.png" in files_below(tmp_path / "r")


def test_unwritable_root_is_one_line(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    fails(lambda: download_dataset("set", tmp_path / "r", addresses=[images_row(server)]), "Permission denied")


def test_manual_dataset_says_what_to_do(tmp_path: Path) -> None:
    fails(lambda: download_dataset("headct", tmp_path), "by hand", "kaggle.com", "train/good", "account")
    steps = manual_steps("headct").splitlines()
    assert [step[:2] for step in steps] == ["1.", "2.", "3."]
    assert "ROOT/train/good" in steps[1]
    assert "masks" in steps[2]
    assert "ROOT/CATEGORY/train/good" in manual_steps("mpdd")
    assert "WACV" in manual_steps("dtd")
    assert manual_steps("mvtec") == ""


def test_unknown_names_list_the_known() -> None:
    for action in (download_dataset, manual_steps):
        with pytest.raises(ValueError, match=r"mvtec.*visa.*did you mean 'mvtec'"):
            action("mvtek")


def test_table_is_sound() -> None:
    rows = load_addresses()
    assert len(set(rows)) == len(rows)
    weights = [row for row in rows if row.kind == "weights" and row.category]
    assert len({row.address for row in weights}) == len(weights)
    assert sum(row.dataset == "mvtec" for row in weights) == 15
    assert sum(row.dataset == "visa" for row in weights) == 12
    for row in rows:
        assert (row.how == "http") == row.address.startswith("https://")
        assert row.present if row.kind == "images" else not row.present
        assert bool(row.into) or row.kind != "masks"
        assert row.fetched or row.page or row.note
    assert ("mvtec", "zipper") not in {(row.dataset, row.category) for row in available()}


def test_table_rejects_mistakes() -> None:
    with pytest.raises(ValueError, match="`how` must be one of"):
        Address(kind="images", dataset="x", how="ftp")
    with pytest.raises(ValueError, match="no `address`"):
        Address(kind="images", dataset="x", how="http")


def test_table_holds_every_address_of_the_specification() -> None:
    shared = Path(os.environ.get("ROBUSTAD_SHARED", Path(__file__).parents[2].parent / "shared"))
    text = shared / "specs" / "downloads.md"
    if not text.is_file():
        pytest.skip(f"{text} is not on this machine")
    drive_ids = set(re.findall(r"\b1[\w-]{32}\b", text.read_text(encoding="utf-8")))
    assert len(drive_ids) > 35
    assert drive_ids == {row.address for row in load_addresses() if row.how.startswith("gdrive")}
