"""Fetch one file over HTTP so that a cut line, a full disk or a changed file never passes for a complete download."""

from __future__ import annotations

import contextlib
import http.client
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, Any

import robustad
from robustad._progress import Progress
from robustad.errors import DownloadError
from robustad.files import read_json, write_json

ATTEMPTS = 5
BACKOFF = 0.5
TIMEOUT = 30.0
_CHUNK = 1 << 16
_TEMPORARY = {408, 425, 429, 500, 502, 503, 504}


class _RetryError(Exception):
    """This attempt failed in a way that the next one may not; ``wait`` is what the server asked for, in seconds."""

    def __init__(self, reason: str, wait: float = 0) -> None:
        super().__init__(reason)
        self.wait = wait


class _Partial:
    """The bytes that have come so far, beside them the version of the file that they belong to."""

    def __init__(self, target: Path, address: str) -> None:
        self.path = target.with_name(target.name + ".part")
        self._state = target.with_name(target.name + ".part.json")
        self.address = address
        self.validator = ""
        self.total: int | None = None
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            state = read_json(self._state)
            if state["address"] == address:
                self.validator, self.total = str(state["validator"]), state["total"]

    def size(self) -> int:
        """Bytes on disk that the next attempt can build on: none unless their version is known."""
        return self.path.stat().st_size if self.validator and self.path.is_file() else 0

    def restart(self, validator: str, total: int | None) -> None:
        """Forget the bytes; the next ones belong to this version."""
        self.path.unlink(missing_ok=True)
        self.validator, self.total = validator, total
        write_json(self._state, {"address": self.address, "validator": validator, "total": total})

    def finish(self, target: Path) -> None:
        """Give the complete file its name."""
        self.path.replace(target)
        self._state.unlink(missing_ok=True)


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        """Follow, but not from an encrypted address to an open one."""
        if req.type == "https" and not newurl.startswith("https:"):
            fp.close()
            raise DownloadError(f"{req.full_url} redirects to the unencrypted {newurl}; not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(address: str, target: Path, *, show_progress: bool = True, timeout: float = TIMEOUT) -> Path:
    """Download ``address`` to ``target``, resuming what an earlier call left in ``target.part``.

    The proxies of the environment are used. A resumed file is continued only if the server still has the same version
    (``If-Range`` with its ETag or date); otherwise it starts anew.

    Args:
        address: ``http://`` or ``https://``.
        target: File to make; if it exists it is complete and nothing is fetched.
        show_progress: Show a bar.
        timeout: Seconds without a byte after which the connection counts as lost.

    Raises:
        DownloadError: If the file cannot be had completely; what has come is kept for the next call.
    """
    if target.is_file():
        return target
    if not address.startswith(("http://", "https://")):
        raise DownloadError(f"cannot download {address!r}: only http and https addresses are fetched")
    partial = _Partial(target, address)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with Progress(target.name, partial.total, unit="B", initial=partial.size(), enabled=show_progress) as shown:
            _persist(partial, shown, timeout)
        partial.finish(target)
    except DownloadError:
        raise
    except OSError as error:  # of the disk: those of the network do not come this far
        reason = error.strerror or str(error)
        raise DownloadError(f"cannot write {partial.path}: {reason}; run again to resume") from error
    return target


def _persist(partial: _Partial, shown: Progress, timeout: float) -> None:
    """Try until all is there, or until several attempts in a row bring nothing."""
    best, failures = partial.size(), 0
    while True:
        try:
            return _attempt(partial, shown, timeout)
        except _RetryError as problem:
            # Only getting further than ever before counts as progress, or a flapping server would hold us for ever.
            failures = 1 if partial.size() > best else failures + 1
            best = max(best, partial.size())
            if failures >= ATTEMPTS:
                raise _given_up(partial, str(problem)) from problem
            time.sleep(max(BACKOFF * 2 ** (failures - 1), min(problem.wait, 60)))


def _given_up(partial: _Partial, reason: str) -> DownloadError:
    kept = f"; {partial.size()} bytes are kept, run again to resume" if partial.size() else ""
    return DownloadError(f"cannot download {partial.address}: {reason}{kept}")


def _attempt(partial: _Partial, shown: Progress, timeout: float) -> None:
    offset = partial.size()
    if offset and offset == partial.total:
        return
    headers = {"User-Agent": f"robustad/{robustad.__version__}", "Accept-Encoding": "identity"}
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": partial.validator}
    opener = urllib.request.build_opener(_Redirects)
    try:
        response = opener.open(urllib.request.Request(partial.address, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        raise _refused(error, partial) from error
    except DownloadError:
        raise
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise DownloadError(f"cannot download {partial.address}: {reason}") from error
        raise _RetryError(_text(reason)) from error
    with response:
        start = _accept(response, partial, offset)
        _copy(response, partial, shown, start)


def _refused(error: urllib.error.HTTPError, partial: _Partial) -> Exception:
    if error.code == 416:  # our range lies outside: the file has become shorter
        partial.restart("", None)
        return _RetryError("the file on the server has changed")
    if error.code in _TEMPORARY:
        wait = str(error.headers.get("Retry-After", ""))
        return _RetryError(f"{error.code} {error.reason}", float(wait) if wait.isdecimal() else 0)
    return DownloadError(f"cannot download {partial.address}: {error.code} {error.reason}")


def _accept(response: Any, partial: _Partial, offset: int) -> int:
    """Check what the server is about to send and return the position at which it goes on."""
    if response.headers.get_content_type() == "text/html":
        raise DownloadError(f"{partial.address} answers with a web page instead of a file; open it in a browser")
    validator = _validator(response.headers)
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        total = None if match is None or match[2] == "*" else int(match[2])
        # Not every server minds If-Range: the version it says it is sending decides.
        same = validator in ("", partial.validator) and (total is None or partial.total in (None, total))
        if match is None or int(match[1]) != offset or not same:
            partial.restart("", None)
            raise _RetryError("the file on the server has changed")
        return offset
    if response.status != 200:
        raise DownloadError(f"cannot download {partial.address}: unexpected answer {response.status}")
    length = response.headers.get("Content-Length", "")
    partial.restart(validator, int(length) if length.isdecimal() else None)
    return 0


def _validator(headers: HTTPMessage) -> str:
    """A strong ETag or the date; a weak ETag does not promise equal bytes."""
    etag = str(headers.get("ETag", ""))
    return etag if etag.startswith('"') else str(headers.get("Last-Modified", ""))


def _copy(response: Any, partial: _Partial, shown: Progress, start: int) -> None:
    size, total = start, partial.total
    _check_space(partial, start)
    with partial.path.open("r+b" if start else "wb") as output:
        output.seek(start)
        while total is None or size < total:
            chunk = _receive(response, _CHUNK if total is None else min(_CHUNK, total - size))
            if not chunk:
                break
            output.write(chunk)
            size += len(chunk)
            shown.move_to(size, total=total)
    if total is not None and size < total:
        raise _RetryError(f"the connection was cut after {size} of {total} bytes")


def _receive(response: Any, count: int) -> bytes:
    try:
        # read1 hands over what has arrived: bytes before a cut are not lost in a half-filled buffer.
        return bytes(response.read1(count))
    except (OSError, http.client.HTTPException) as error:
        raise _RetryError(_text(error)) from error


def _check_space(partial: _Partial, start: int) -> None:
    free = shutil.disk_usage(partial.path.parent).free
    if partial.total is not None and partial.total - start > free:
        raise DownloadError(
            f"cannot download {partial.address}: {partial.total - start} bytes are still to come, "
            f"but only {free} are free in {partial.path.parent}"
        )


def _text(reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return "the server does not answer in time"
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
