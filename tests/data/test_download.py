"""Downloads, against a local server with a will of its own and a stand-in for the drive client."""

from __future__ import annotations

import errno
import hashlib
import inspect
import io
import json
import os
import re
import tarfile
import threading
import types
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from robustad.data import _drive, _fetching, _http
from robustad.data._addresses import Address, load_addresses
from robustad.data._placing import place
from robustad.data.download import available, download_dataset, download_weights, manual_steps
from robustad.errors import DownloadError, MissingExtra

CONTENT = bytes(i * 31 % 253 for i in range(300_000))


@dataclass
class Resource:
    """One file of the server and how it misbehaves."""

    content: bytes = CONTENT
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"v1"'})
    ranges: bool = True
    minds_if_range: bool = True
    cuts: list[int] = field(default_factory=list)  # bytes to send before each cut
    failures: list[int] = field(default_factory=list)  # status codes to answer first
    range_error: int = 0  # how far the answered range lies beside the asked one
    content_length: bool = True


class Server:
    """A real HTTP server on this machine; ``requests`` holds what was asked: path and Range header."""

    def __init__(self) -> None:
        self.resources: dict[str, Resource] = {}
        self.requests: list[tuple[str, str]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append((self.path, self.headers.get("Range", "")))
                server.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_port}"
        self.thread = threading.Thread(target=self.httpd.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        resource = self.resources.get(handler.path)
        if resource is None or resource.failures:
            handler.send_response(404 if resource is None else resource.failures.pop(0))
            handler.send_header("Retry-After", "0")
            handler.end_headers()
            return
        start, etag = 0, resource.headers.get("ETag", "")
        match = re.match(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        current = handler.headers.get("If-Range") in (etag, resource.headers.get("Last-Modified"))
        if match and resource.ranges and (current or not resource.minds_if_range):
            start = int(match[1]) + resource.range_error
            if start >= len(resource.content):
                handler.send_response(416)
                handler.end_headers()
                return
            handler.send_response(206)
            size = len(resource.content)
            handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        else:
            handler.send_response(200)
        body = resource.content[start:]
        for name, value in resource.headers.items():
            handler.send_header(name, value)
        if resource.content_length:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: resource.cuts.pop(0)] if resource.cuts else body)

    def close(self) -> None:
        self.httpd.shutdown()
        self.httpd.server_close()
        self.thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture(autouse=True)
def _no_waiting_no_home_no_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_http, "BACKOFF", 0.0)
    monkeypatch.setenv("ROBUSTAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ROBUSTAD_DATA", str(tmp_path / "home"))
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def fails(action: Callable[[], object], *words: str) -> None:
    with pytest.raises(DownloadError) as caught:
        action()
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def zipped(*names: str, content: bytes = b"x") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return stream.getvalue()


def images_row(server: Server, archive: bytes = b"", **more: Any) -> Address:
    server.resources["/set.zip"] = Resource(archive or zipped("a/train/good/1.png", "a/test/good/2.png", "b/readme"))
    row = {"kind": "images", "dataset": "set", "how": "http", "address": f"{server.url}/set.zip", "archive": "zip"}
    return Address(**{**row, "present": "*/train/good", **more})


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# --- one file over HTTP ---------------------------------------------------------------------------------------------


def test_fetch_and_not_again(server: Server, tmp_path: Path) -> None:
    server.resources["/f"] = Resource()
    target = tmp_path / "new" / "f"
    assert _http.fetch(f"{server.url}/f", target).read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]
    _http.fetch(f"{server.url}/f", target)
    assert len(server.requests) == 1


@pytest.mark.parametrize("headers", [{"ETag": '"v1"'}, {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}])
def test_cut_connection_is_resumed_within_a_call(server: Server, tmp_path: Path, headers: dict[str, str]) -> None:
    server.resources["/f"] = Resource(cuts=[100_000, 50_000], headers=headers)
    assert _http.fetch(f"{server.url}/f", tmp_path / "f").read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == ["", "bytes=100000-", "bytes=150000-"]


def test_partial_file_is_kept_and_resumed_by_the_next_call(server: Server, tmp_path: Path) -> None:
    resource = server.resources["/f"] = Resource(cuts=[200_000, *[0] * 10])
    target = tmp_path / "f"
    fails(lambda: _http.fetch(f"{server.url}/f", target), "200000 bytes are kept", "200000 of 300000")
    assert not target.exists()
    resource.cuts.clear()
    server.requests.clear()
    assert _http.fetch(f"{server.url}/f", target).read_bytes() == CONTENT
    assert server.requests == [("/f", "bytes=200000-")]


def test_complete_part_of_a_killed_run_needs_no_request(server: Server, tmp_path: Path) -> None:
    state = {"address": f"{server.url}/f", "validator": '"v1"', "total": len(CONTENT)}
    (tmp_path / "f.part").write_bytes(CONTENT)
    (tmp_path / "f.part.json").write_text(json.dumps(state))
    assert _http.fetch(f"{server.url}/f", tmp_path / "f").read_bytes() == CONTENT
    assert server.requests == []


@pytest.mark.parametrize("state", [None, "{}", "[1]", "nonsense", '{"address": "other", "validator": "v", "total": 9}'])
def test_part_of_unknown_origin_is_not_trusted(server: Server, tmp_path: Path, state: str | None) -> None:
    server.resources["/f"] = Resource()
    (tmp_path / "f.part").write_bytes(b"other bytes")
    if state:
        (tmp_path / "f.part.json").write_text(state)
    assert _http.fetch(f"{server.url}/f", tmp_path / "f").read_bytes() == CONTENT
    assert server.requests == [("/f", "")]


@pytest.mark.parametrize("minds_if_range", [True, False])
def test_changed_file_starts_anew(server: Server, tmp_path: Path, minds_if_range: bool) -> None:
    server.resources["/f"] = Resource(cuts=[250_000, *[0] * 10])
    fails(lambda: _http.fetch(f"{server.url}/f", tmp_path / "f"), "250000")
    new = CONTENT[::-1]
    server.resources["/f"] = Resource(new, headers={"ETag": '"v2"'}, minds_if_range=minds_if_range)
    assert _http.fetch(f"{server.url}/f", tmp_path / "f").read_bytes() == new


def test_shrunk_file_starts_anew(server: Server, tmp_path: Path) -> None:
    server.resources["/f"] = Resource(cuts=[250_000, *[0] * 10])
    fails(lambda: _http.fetch(f"{server.url}/f", tmp_path / "f"))
    server.resources["/f"] = Resource(b"short", headers={"ETag": '"v2"'}, minds_if_range=False)
    assert _http.fetch(f"{server.url}/f", tmp_path / "f").read_bytes() == b"short"


def test_wrong_range_is_not_stitched_in(server: Server, tmp_path: Path) -> None:
    server.resources["/f"] = Resource(cuts=[100_000], range_error=1)
    assert _http.fetch(f"{server.url}/f", tmp_path / "f").read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == ["", "bytes=100000-", ""]


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"weak"'}])
def test_without_a_version_nothing_is_stitched_together(
    server: Server, tmp_path: Path, headers: dict[str, str]
) -> None:
    server.resources["/f"] = Resource(cuts=[200_000], headers=headers)
    assert _http.fetch(f"{server.url}/f", tmp_path / "f").read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == ["", ""]


def test_server_without_ranges(server: Server, tmp_path: Path) -> None:
    server.resources["/f"] = Resource(cuts=[200_000], ranges=False)
    assert _http.fetch(f"{server.url}/f", tmp_path / "f").read_bytes() == CONTENT
    server.resources["/g"] = Resource(cuts=[200_000] * 100, ranges=False)
    fails(lambda: _http.fetch(f"{server.url}/g", tmp_path / "g"), "200000 of 300000")
    assert not (tmp_path / "g").exists()


def test_server_without_length(server: Server, tmp_path: Path) -> None:
    server.resources["/f"] = Resource(content_length=False)
    assert _http.fetch(f"{server.url}/f", tmp_path / "f").read_bytes() == CONTENT


def test_busy_server_is_asked_again_and_a_missing_file_is_not(server: Server, tmp_path: Path) -> None:
    server.resources["/f"] = Resource(failures=[503, 429, 500])
    assert _http.fetch(f"{server.url}/f", tmp_path / "f").read_bytes() == CONTENT
    server.requests.clear()
    fails(lambda: _http.fetch(f"{server.url}/none", tmp_path / "none"), "404", "/none")
    assert len(server.requests) == 1
    assert not (tmp_path / "none.part").exists()


def test_web_page_instead_of_a_file(server: Server, tmp_path: Path) -> None:
    server.resources["/f"] = Resource(b"<html>", headers={"Content-Type": "text/html; charset=utf-8"})
    fails(lambda: _http.fetch(f"{server.url}/f", tmp_path / "f"), "web page")
    assert list(tmp_path.iterdir()) == []


def test_connection_refused_and_unknown_host(tmp_path: Path) -> None:
    closed = Server()
    closed.close()
    fails(lambda: _http.fetch(f"{closed.url}/f", tmp_path / "f"), "refused", closed.url)
    fails(lambda: _http.fetch("file:///etc/passwd", tmp_path / "f"), "only http")


def test_silent_server_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(_http, "ATTEMPTS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/f"
        fails(lambda: _http.fetch(address, tmp_path / "f", timeout=0.05), "in time")


def test_full_disk_keeps_the_part(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.resources["/f"] = Resource()
    real_open = Path.open

    def full(self: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        stream = real_open(self, mode, *rest, **more)
        if not self.name.endswith(".part") or "b" not in mode or mode[0] == "r":
            return stream
        real_write, room = stream.write, [100_000]

        class Full:
            seek = staticmethod(stream.seek)

            def __enter__(self) -> Full:
                return self

            def __exit__(self, *_: object) -> None:
                stream.close()

            def write(self, chunk: bytes) -> None:
                if len(chunk) > room[0]:
                    raise OSError(errno.ENOSPC, "No space left on device")
                room[0] -= len(chunk)
                real_write(chunk)

        return Full()

    monkeypatch.setattr(Path, "open", full)
    fails(lambda: _http.fetch(f"{server.url}/f", tmp_path / "f"), "No space left", "f.part")
    monkeypatch.undo()
    kept = (tmp_path / "f.part").stat().st_size
    assert 0 < kept <= 100_000
    assert _http.fetch(f"{server.url}/f", tmp_path / "f").read_bytes() == CONTENT
    assert server.requests[-1] == ("/f", f"bytes={kept}-")


def test_too_little_space_is_said_before_the_first_byte(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.resources["/f"] = Resource()
    usage = types.SimpleNamespace(free=299_999)
    monkeypatch.setattr(_http.shutil, "disk_usage", lambda _: usage)
    fails(lambda: _http.fetch(f"{server.url}/f", tmp_path / "f"), "300000", "299999")


def test_proxy_of_the_environment_is_used(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    server.resources["http://elsewhere.example/f"] = Resource()
    assert _http.fetch("http://elsewhere.example/f", tmp_path / "f").read_bytes() == CONTENT


def test_redirect_to_an_open_address_is_not_followed() -> None:
    import urllib.request

    request = urllib.request.Request("https://safe.example/f")
    redirect = _http._Redirects().redirect_request
    with pytest.raises(DownloadError, match="unencrypted"):
        redirect(request, io.BytesIO(), 302, "Found", types.SimpleNamespace(), "http://open.example/f")  # type: ignore[arg-type]
    followed = redirect(request, io.BytesIO(), 302, "Found", types.SimpleNamespace(), "https://safe.example/g")  # type: ignore[arg-type]
    assert followed is not None
    assert followed.full_url == "https://safe.example/g"


# --- datasets -------------------------------------------------------------------------------------------------------


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


# --- shared drives --------------------------------------------------------------------------------------------------


@dataclass
class Drive:
    """Stands in for gdown: files and folders by id; what is not there fails as gdown fails."""

    files: dict[str, bytes] = field(default_factory=dict)
    folders: dict[str, dict[str, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    class RefusedError(Exception):
        pass

    exceptions = types.SimpleNamespace(RefusedError=RefusedError)

    def download(self, *, id: str, output: str, quiet: bool, resume: bool) -> str:
        assert quiet
        assert resume
        self.asked.append(id)
        if id not in self.files:
            raise Drive.RefusedError("Cannot retrieve the public link.\n\nToo many accesses.")
        Path(output).write_bytes(self.files[id])
        return output

    def download_folder(self, *, id: str, output: str, quiet: bool, resume: bool) -> list[str] | None:
        assert quiet
        assert resume
        self.asked.append(id)
        if id not in self.folders:
            return None
        for name, content in self.folders[id].items():
            (Path(output) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(output) / name).write_bytes(content)
        return [str(Path(output) / name) for name in self.folders[id]]


@pytest.fixture
def drive(monkeypatch: pytest.MonkeyPatch) -> Drive:
    stand_in = Drive()

    def require(module: str, extra: str) -> Drive:
        assert (module, extra) == ("gdown", "download")
        return stand_in

    monkeypatch.setattr(_fetching, "require", require)
    return stand_in


def mask_rows(into: str = "{category}/train/foreground_mask") -> list[Address]:
    first = Address(kind="masks", dataset="set", how="gdrive-file", address="FILE", archive="zip", into=into)
    return [first, Address(kind="masks", dataset="set", how="gdrive-folder", address="FOLDER", into=into)]


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


# --- weights --------------------------------------------------------------------------------------------------------

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


# --- the table ------------------------------------------------------------------------------------------------------


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
