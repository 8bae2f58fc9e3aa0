"""What the download tests talk to: a local server with a will of its own, and a stand-in for the drive client."""

from __future__ import annotations

import io
import os
import re
import threading
import types
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from robustad.data import _http
from robustad.data._addresses import Address
from robustad.errors import DownloadError

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


@contextmanager
def running_server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def isolate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No waiting between attempts, nothing of the user's home, no proxies."""
    monkeypatch.setattr(_http, "BACKOFF", 0.0)
    monkeypatch.setenv("ROBUSTAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ROBUSTAD_DATA", str(tmp_path / "home"))
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


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


def mask_rows(into: str = "{category}/train/foreground_mask") -> list[Address]:
    first = Address(kind="masks", dataset="set", how="gdrive-file", address="FILE", archive="zip", into=into)
    return [first, Address(kind="masks", dataset="set", how="gdrive-folder", address="FOLDER", into=into)]
