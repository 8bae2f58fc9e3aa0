"""What `make bench` does with its measurements: shares of a peak, memory, claims, files, interruptions."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime

import benchmarks.__main__ as bench
import pytest
import torch
from benchmarks import claims, pixel_metrics, roofline
from benchmarks.memory import memory_row
from benchmarks.timing import alternate_all
from torch.nn import functional as F

from robustad.evaluation import BenchmarkRow, Results


def row(claim, ratio):
    return BenchmarkRow(claim=claim, baseline=1.0, ours=ratio, unit="x/s", ratio=ratio)


def test_what_got_nowhere_has_no_ratio(capsys):
    rows = [BenchmarkRow(claim="hours", baseline=None, ours=3.0, unit="minutes", ratio=None), row("fast", 2.0)]
    assert claims.failures(rows, {"fast": 1.5}, everything=True) == []
    (line,) = claims.failures(rows, {"hours": 1.5}, everything=True)
    assert "no benchmark measures it" in line
    bench.show(rows, {})
    assert "not reached" in capsys.readouterr().out


def test_a_ratio_below_its_claim_is_one_line():
    lines = claims.failures([row("a", 1.4), row("b", 2.0), row("c", 0.1)], {"a": 1.5, "b": 2.0}, everything=True)
    assert lines == ["a: claimed at least 1.5 times, measured 1.4"]


def test_a_claim_that_nothing_measures_fails_where_everything_was_measured():
    assert claims.failures([row("a", 2)], {"a": 1, "gone": 1.2}, everything=False) == []
    (line,) = claims.failures([row("a", 2)], {"a": 1, "gone": 1.2}, everything=True)
    assert line.startswith("gone: claimed at least 1.2 times, but no benchmark measures it")


@pytest.fixture
def small_bench(tmp_path, monkeypatch):
    """The command with two made claims; gives how often each was measured, and the folder."""
    monkeypatch.setattr(bench, "bfloat16_pays", lambda: False)
    counts = {"fast": 0, "slow": 0}

    def measure(name, ratio):
        def call(*, quick):
            counts[name] += 1
            if os.environ.get("INTERRUPTED") == name:
                raise KeyboardInterrupt
            if os.environ.get("FAILS") == name:
                raise ValueError("no such\nthing")
            return [row(f"{name}, {'quick' if quick else 'full'}", ratio)]

        return call

    path = tmp_path / "claims.toml"
    text = '[bench]\n"fast, quick" = 2.0\n"slow, quick" = 2.0\n[bench-full]\n"fast, full" = 3.0\n'
    path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(bench, "CLAIMS", {"fast": measure("fast", 3.0), "slow": measure("slow", 0.5)})
    monkeypatch.setattr(bench, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(bench, "RECORDED", tmp_path)
    monkeypatch.setattr(bench, "keep_freed_memory", lambda: True)
    monkeypatch.setattr(claims.claimed, "__defaults__", (path,))
    return counts, tmp_path


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["benchmarks", *words])
    with pytest.raises(SystemExit) as ended:
        bench.main()
    return ended.value.code


def test_results_are_written_before_a_claim_fails(small_bench, monkeypatch, capsys):
    _, folder = small_bench
    assert run(monkeypatch) == "slow, quick: claimed at least 2 times, measured 0.5"  # text = exit code 1
    assert [r.ratio for r in Results.read(folder / "bench.json").benchmarks] == [3.0, 0.5]
    shown = capsys.readouterr().out
    assert "share of peak" in shown and "claimed: 2" in shown


def test_machines_that_are_faster_in_bfloat16_have_a_file_and_claims_of_their_own(small_bench, monkeypatch, capsys):
    _, folder = small_bench
    monkeypatch.setattr(bench, "bfloat16_pays", lambda: True)
    assert run(monkeypatch) == 0, "nothing is claimed of a kind of machine that nothing was recorded on"
    assert (folder / "bench-bfloat16.json").is_file() and not (folder / "bench.json").exists()
    with (folder / "claims.toml").open("a", encoding="utf-8") as file:
        file.write('[bench-bfloat16]\n"fast, quick" = 3.5\n')
    assert run(monkeypatch, "fast") == "fast, quick: claimed at least 3.5 times, measured 3"
    assert "claimed: 3.5" in capsys.readouterr().out


def test_some_claims_alone_overwrite_no_record(small_bench, monkeypatch):
    counts, folder = small_bench
    assert run(monkeypatch, "fast") == 0
    assert counts == {"fast": 1, "slow": 0} and not (folder / "bench.json").exists()


def test_a_full_run_goes_on_where_it_was_interrupted(small_bench, monkeypatch):
    counts, folder = small_bench
    monkeypatch.setenv("INTERRUPTED", "slow")
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--full"])
    with pytest.raises(KeyboardInterrupt):
        bench.main()
    monkeypatch.delenv("INTERRUPTED")
    assert run(monkeypatch, "--full") == 0
    assert counts == {"fast": 1, "slow": 2}
    results = Results.read(folder / "bench-full.json")
    assert [r.claim for r in results.benchmarks] == ["fast, full", "slow, full"]
    assert set(results.details["seconds"]) == {"fast", "slow"}
    monkeypatch.setattr(bench, "state", lambda: "changed")
    assert run(monkeypatch, "--full") == 0
    assert counts == {"fast": 2, "slow": 3}


def test_what_cannot_be_measured_stops_nothing_else(small_bench, monkeypatch):
    counts, folder = small_bench
    monkeypatch.setenv("FAILS", "fast")
    assert run(monkeypatch, "--full") == "fast could not be measured: no such thing"
    assert counts == {"fast": 1, "slow": 1} and not (folder / "bench-full.json").exists()
    monkeypatch.delenv("FAILS")
    assert run(monkeypatch, "--full") == 0
    assert counts == {"fast": 2, "slow": 1}


def test_code_that_changes_while_it_is_measured_keeps_nothing(small_bench, monkeypatch):
    counts, _ = small_bench
    states = iter(["before", "before", "after", "after"])
    monkeypatch.setattr(bench, "state", lambda: next(states))
    told = run(monkeypatch, "--full")
    assert "fast could not be measured: code was changed" in told and "slow and what follows were not" in told
    assert counts == {"fast": 1, "slow": 0}, "hours are not spent on what cannot be kept"
    monkeypatch.setattr(bench, "state", lambda: "before")
    assert run(monkeypatch, "--full") == 0
    assert counts == {"fast": 2, "slow": 1}


def test_what_other_commands_measured_stands_beside_and_can_fail(small_bench, monkeypatch, capsys):
    _, folder = small_bench
    started, rows = datetime.now(UTC), [row("fast, full", 9.0), row("predict, rival", 1.5)]
    other = Results.of_run("predict", [], command="other", started=started, benchmarks=rows)
    other.write(folder / "predict.json")
    (folder / "claims.toml").write_text('[bench-full]\n"predict, rival" = 2.0\n', encoding="utf-8")
    assert run(monkeypatch, "--full", "fast") == 0
    assert "predict, rival" not in capsys.readouterr().out
    assert run(monkeypatch, "--full") == "predict, rival: claimed at least 2 times, measured 1.5"
    results = Results.read(folder / "bench-full.json")
    assert [r.claim for r in results.benchmarks] == ["fast, full", "slow, full", "predict, rival"]
    assert results.benchmarks[0].ratio == 3.0, "what was measured here counts"
    assert results.details["commits"]["predict.json"] == other.commit


@pytest.mark.parametrize("quick", [True, False])
def test_each_metric_meets_both_classes_at_either_size(monkeypatch, quick):
    made = pixel_metrics.made_maps
    monkeypatch.setattr(pixel_metrics, "made_maps", lambda count, folder: made(count // 80, folder))
    monkeypatch.setattr(pixel_metrics, "_FEW", 2)
    monkeypatch.setattr(pixel_metrics, "_LOOPED", 2)
    assert len(pixel_metrics.measure(quick=quick)) == 7


def test_a_quick_run_keeps_nothing(small_bench, monkeypatch):
    counts, _ = small_bench
    for _ in range(2):
        run(monkeypatch)
    assert counts == {"fast": 2, "slow": 2}


def test_operations_are_counted():
    first, second = torch.rand(3, 5), torch.rand(5, 7)
    assert roofline.operations(lambda: first @ second) == 2 * 3 * 5 * 7
    query = torch.rand(2, 3, 11, 4, requires_grad=True)

    def attention():
        torch.autograd.grad(F.scaled_dot_product_attention(query, query, query).sum(), query)

    assert roofline.operations(attention) == 7 * 2 * 2 * 3 * 11 * 11 * 4  # two products forward, five backward


def test_a_share_of_peak(monkeypatch):
    monkeypatch.setattr(roofline, "peak", {torch.float32: 100.0}.__getitem__)
    assert roofline.share_of_peak(25 * 10**9, 0.5, torch.float32) == 0.5


def test_rivals_take_turns_after_a_run_that_does_not_count():
    order = []
    pairs = alternate_all(lambda: order.append(0), [lambda: order.append(1), lambda: order.append(2)], rounds=2)
    assert order == [0, 1, 2] * 3 and len(pairs) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_peak_memory_is_what_a_call_adds(tmp_path, monkeypatch):
    """80 MiB at a time against 20 MiB twice, one after the other; what was there before does not count."""
    (tmp_path / "made_rivals.py").write_text(
        "import torch\n"
        "MIB = 2**18\n"
        "def rival(name, *, quick):\n"
        "    torch.ones(300 * MIB)\n"
        "    large, small = (lambda: torch.ones(80 * MIB)), (lambda: [torch.ones(20 * MIB).sum() for _ in range(2)])\n"
        "    return {'large': large, 'small': small}[name]\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    (found,) = memory_row("made", "made_rivals", "large", "small", quick=True)
    assert found.unit == "MiB" and 78 < found.baseline < 90 and 19 < found.ours < 26
    assert found.ratio == pytest.approx(found.baseline / found.ours, rel=0.01)


@pytest.mark.parametrize("name", ["bench", "bench-bfloat16", "bench-full"])
def test_a_record_reaches_what_is_claimed_and_each_subject_has_a_claim(name):
    least = claims.claimed(name)
    record = Results.read(bench.ROOT / bench.RECORDED / f"{name}.json")
    assert claims.failures(record.benchmarks, least, everything=True) == []
    for subject in ("pseudo-anomalies", "train step", "cobra step", "pixel auroc", "aupro", "pgd evaluation"):
        assert any(claim.startswith(subject) for claim in least), f"nothing is claimed of {subject}"
