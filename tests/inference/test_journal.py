import json

import pytest

from robustad.inference import Journal

HEADER = {"checkpoint": "abc", "calibration": None}


def fill(path, count, *, start=0, **options):
    with Journal(path, HEADER, **options) as journal:
        journal.append({"path": f"{number}.png", "score": number / 3} for number in range(start, start + count))


def test_rows_come_back_and_removal_leaves_nothing(tmp_path):
    path = tmp_path / "deep/out.partial.jsonl"
    with Journal(path, HEADER) as journal:
        journal.append([{"path": "weird \udcff\n.png", "score": 0.1 + 0.2}])
        journal.append([])
        assert list(journal.rows()) == [{"path": "weird \udcff\n.png", "score": 0.1 + 0.2}]
        journal.remove()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("tail", [b"", b'{"path": "3.p', b"\x00\x00\x00", b"[1]\n", b"x" * 500])
def test_resuming_drops_a_line_that_was_cut_off(tmp_path, tail):
    path = tmp_path / "j"
    fill(path, 3)
    with path.open("ab") as stream:
        stream.write(tail)
    with Journal(path, HEADER, resume=True) as journal:
        assert journal.num_kept == 3
        journal.append([{"path": "3.png", "score": 1.0}])
    assert [json.loads(line)["path"] for line in path.read_text().splitlines()[1:]] == [f"{n}.png" for n in range(4)]


def test_every_cut_of_the_file_resumes(tmp_path):
    fill(tmp_path / "whole", 3)
    data = (tmp_path / "whole").read_bytes()
    for length in range(len(data) + 1):
        path = tmp_path / "cut"
        path.write_bytes(data[:length])
        with Journal(path, HEADER, resume=True) as journal:
            kept = journal.num_kept
        fill(path, 3 - kept, start=kept, resume=True)
        assert path.read_bytes() == data


def test_another_checkpoint_is_refused_and_named(tmp_path):
    fill(tmp_path / "j", 2)
    with pytest.raises(ValueError, match="another checkpoint"):
        Journal(tmp_path / "j", {**HEADER, "checkpoint": "xyz"}, resume=True)
    assert len((tmp_path / "j").read_text().splitlines()) == 3, "untouched"


def test_results_of_an_interrupted_run_are_not_overwritten_unasked(tmp_path):
    fill(tmp_path / "j", 1)
    with pytest.raises(ValueError, match="go on with `resume`"):
        Journal(tmp_path / "j", HEADER)
    fill(tmp_path / "empty", 0)
    fill(tmp_path / "empty", 1)  # without rows there is nothing to lose


def test_a_file_of_something_else_is_not_read_into_memory(tmp_path):
    path = tmp_path / "j"
    with path.open("wb") as stream:
        stream.truncate(10**10)  # ten gigabytes of zeros, none of them on disk
    with Journal(path, HEADER, resume=True) as journal:
        assert journal.num_kept == 0
    assert path.stat().st_size < 1000


def test_rows_reach_the_file_at_once(tmp_path):
    with Journal(tmp_path / "j", HEADER) as journal:
        journal.append([{"path": "a", "score": 1.0}])
        assert (tmp_path / "j").read_text().count("\n") == 2
