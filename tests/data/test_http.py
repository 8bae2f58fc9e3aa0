"""One file over HTTP, against a local server that cuts, refuses, changes and forgets."""

from __future__ import annotations

import errno
import io
import json
import socket
import types
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from download_doubles import (
    CONTENT,
    Resource,
    Server,
    fails,
)

from robustad.data import _http
from robustad.errors import DownloadError

pytestmark = pytest.mark.usefixtures("isolated")


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
    request = urllib.request.Request("https://safe.example/f")
    redirect = _http._Redirects().redirect_request
    with pytest.raises(DownloadError, match="unencrypted"):
        redirect(request, io.BytesIO(), 302, "Found", types.SimpleNamespace(), "http://open.example/f")  # type: ignore[arg-type]
    followed = redirect(request, io.BytesIO(), 302, "Found", types.SimpleNamespace(), "https://safe.example/g")  # type: ignore[arg-type]
    assert followed is not None
    assert followed.full_url == "https://safe.example/g"
