"""Results that outlive an interruption: one line per image, written as it is scored, turned into a table at the end."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

SUFFIX = ".partial.jsonl"
_LONGEST = 1_000_000  # bytes per line: what is longer was not written here, and must not fill the memory


def journal_path(out: str | Path) -> Path:
    """Where the results for ``out`` lie while they are not complete."""
    return Path(f"{out}{SUFFIX}")


class Journal:
    """An append-only file of rows: a header on the first line, then one JSON object per image.

    Each batch is handed to the operating system at once: after a crash, a kill or a full disk at most the batch in
    work is missing, and a line cut off in its middle is ignored.

    Args:
        path: The file; made if missing.
        header: What must be equal for a later run to go on with it, plain values.
        resume: Go on after the rows that are there.

    Raises:
        ValueError: If it is to be resumed and was written by a run with another header, or if it is not to be resumed
            and holds rows.
    """

    def __init__(self, path: str | Path, header: Mapping[str, Any], *, resume: bool = False) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.num_kept = 0
        end = 0
        if self.path.exists():
            end = self._scan(dict(header)) if resume else self._check_unused()
        self._stream: IO[bytes] = self.path.open("r+b" if end else "wb")
        self._stream.truncate(end)
        self._stream.seek(end)
        if not end:
            self._write([header])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError) if kind else contextlib.nullcontext():  # a full disk has been reported then
            self._stream.close()

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows and hand them to the operating system."""
        self._write(rows)

    def rows(self) -> Iterator[dict[str, Any]]:
        """All complete rows, first to last."""
        lines = (line for _, line in _lines(self.path))
        next(lines, None)
        yield from lines

    def remove(self) -> None:
        """Delete the file: its rows are safe elsewhere."""
        self._stream.close()
        self.path.unlink()

    def _write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        # ASCII only: names that are not valid Unicode survive as escapes
        self._stream.write(b"".join(json.dumps(row, allow_nan=False).encode("ascii") + b"\n" for row in rows))
        self._stream.flush()

    def _check_unused(self) -> int:
        if len(list(islice(_lines(self.path), 2))) == 2:
            raise ValueError(
                f"{self.path} holds results of an interrupted run; go on with `resume`, or delete it to start anew"
            )
        return 0

    def _scan(self, header: dict[str, Any]) -> int:
        """Count the complete rows; returns where the last one ends, in bytes (0 = nothing usable)."""
        end = 0
        for number, (position, line) in enumerate(_lines(self.path)):
            if number == 0 and line != json.loads(json.dumps(header)):
                keys = [key for key in header if line.get(key) != header[key]]
                raise ValueError(
                    f"{self.path} was begun with another {', '.join(keys) or 'version'}; repeat it with the same one, "
                    "or delete the file to start anew"
                )
            self.num_kept, end = number, position
        return end


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each complete line with the position after it; stops at the first that is cut off."""
    with path.open("rb") as stream:
        end = 0
        while raw := stream.readline(_LONGEST):
            end += len(raw)
            try:
                value = json.loads(raw) if raw.endswith(b"\n") else None
            except ValueError:
                value = None
            if not isinstance(value, dict):
                return
            yield end, value
