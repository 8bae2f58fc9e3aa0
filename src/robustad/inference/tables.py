"""Result tables: CSV, JSON lines or Parquet, chosen by the extension, complete or not there."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from robustad._extras import require
from robustad.files import atomic_path

Row = Mapping[str, Any]
_CHUNK = 10_000
_TYPES = {"path": "string", "score": "float64", "anomalous": "bool_", "error": "string"}


def check_table(path: str | Path) -> Path:
    """Return ``path`` if a table can be written under this name.

    Raises:
        ValueError: If the extension is unknown; the text lists the known ones.
        MissingExtra: If Parquet is asked for and pyarrow is not installed.
    """
    target = Path(path)
    if target.suffix.lower() not in TABLES:
        raise ValueError(f"`out` must end in one of {', '.join(TABLES)}, got {target.name!r}")
    if target.is_dir():
        raise ValueError(f"`out` must be a file, got the folder {target}")
    if target.suffix.lower() == ".parquet":
        require("pyarrow", "parquet")
    return target


def write_table(path: str | Path, rows: Iterable[Row], columns: Sequence[str]) -> None:
    """Write rows one after the other; ``path`` appears, or is replaced, when the last one is on disk.

    Args:
        path: Its extension chooses the format, see `TABLES`.
        rows: Consumed lazily; a missing value is None.
        columns: Which values, in which order.
    """
    target = check_table(path)
    with atomic_path(target) as temporary:
        TABLES[target.suffix.lower()](temporary, rows, columns)


def _write_csv(path: Path, rows: Iterable[Row], columns: Sequence[str]) -> None:
    # surrogateescape: a file name that is not valid Unicode is written as the bytes it has on disk
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_csv_value(row[column]) for column in columns] for row in rows)


def _csv_value(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _write_jsonl(path: Path, rows: Iterable[Row], columns: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8", errors="backslashreplace") as stream:
        for row in rows:
            text = json.dumps({column: row[column] for column in columns}, ensure_ascii=False, allow_nan=False)
            stream.write(text + "\n")


def _write_parquet(path: Path, rows: Iterable[Row], columns: Sequence[str]) -> None:
    arrow, parquet = require("pyarrow", "parquet"), require("pyarrow.parquet", "parquet")
    schema = arrow.schema([(column, getattr(arrow, _TYPES[column])()) for column in columns])
    with parquet.ParquetWriter(path, schema) as writer:
        for chunk in _chunks(rows):
            values = {column: [_valid(row[column]) for row in chunk] for column in columns}
            writer.write_table(arrow.table(values, schema=schema))


def _valid(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while chunk := list(islice(iterator, _CHUNK)):
        yield chunk


TABLES: dict[str, Callable[[Path, Iterable[Row], Sequence[str]], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
