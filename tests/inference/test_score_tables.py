import csv
import json

import pyarrow.parquet
import pytest

from robustad.errors import MissingExtra
from robustad.inference import check_table, tables, write_table

COLUMNS = ["path", "score", "anomalous", "error"]
ROWS = [
    {"path": "a, b.png", "score": 0.1 + 0.2, "anomalous": True, "error": None},
    {"path": 'quo"te.png', "score": None, "anomalous": None, "error": "cut\noff"},
    {"path": "ünï\udcff.png", "score": -1e-30, "anomalous": False, "error": None},
]


def test_csv(tmp_path):
    write_table(tmp_path / "t.CSV", ROWS, COLUMNS)
    with (tmp_path / "t.CSV").open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == COLUMNS
    assert float(rows[0][1]) == 0.1 + 0.2, "all digits"
    assert [row[0] for row in rows] == [row["path"] for row in ROWS]
    assert [row[2] for row in rows] == ["true", "", "false"]
    assert rows[1][1:] == ["", "", "cut\noff"]


def test_jsonl(tmp_path):
    write_table(tmp_path / "t.jsonl", ROWS, COLUMNS)
    lines = (tmp_path / "t.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == ROWS
    assert "ünï" in lines[2]


def test_parquet_in_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_CHUNK", 2)
    write_table(tmp_path / "t.parquet", iter(ROWS), COLUMNS)
    found = pyarrow.parquet.read_table(tmp_path / "t.parquet").to_pylist()
    assert found[:2] == ROWS[:2]
    assert found[2]["path"] == "ünï\\udcff.png" and found[2]["score"] == -1e-30
    assert pyarrow.parquet.ParquetFile(tmp_path / "t.parquet").num_row_groups == 2


@pytest.mark.parametrize("extension", sorted(tables.TABLES))
def test_no_rows_and_some_columns(tmp_path, extension):
    write_table(tmp_path / f"t{extension}", [], ["path", "score"])
    assert (tmp_path / f"t{extension}").exists()


@pytest.mark.parametrize("extension", sorted(tables.TABLES))
def test_a_failure_in_the_middle_leaves_the_old_table(tmp_path, extension):
    target = tmp_path / f"t{extension}"
    target.write_text("old")

    def rows():
        yield ROWS[0]
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_table(target, rows(), COLUMNS)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_names_that_cannot_be_tables(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"\.csv, \.jsonl, \.parquet, got 'scores.xlsx'"):
        check_table(tmp_path / "scores.xlsx")
    (tmp_path / "f.csv").mkdir()
    with pytest.raises(ValueError, match="folder"):
        check_table(tmp_path / "f.csv")

    def missing(module, extra):
        raise MissingExtra(f'pip install "robustad[{extra}]"')

    monkeypatch.setattr(tables, "require", missing)
    with pytest.raises(MissingExtra, match="parquet"):
        check_table("a.parquet")
