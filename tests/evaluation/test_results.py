"""The results schema: what goes in comes out, and what is wrong is named."""

import json
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustad.evaluation import machine
from robustad.evaluation.machine import current_commit, environment, machine_description
from robustad.evaluation.results import BenchmarkRow, Results, Row, aggregate_seeds, select
from robustad.evaluation.rows import middle_radius

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


def row(**changes):
    fields = {
        "detector": "patchguard", "recipe": "fast", "data": "elpv:mono", "attack": "pgd", "norm": "linf",
        "epsilon": 8 / 255, "targets": "both", "metric": "image_AUROC", "split": "final", "seed": 0, "value": 0.75,
    }  # fmt: skip
    return Row(**{**fields, **changes})


def results(*rows, **changes):
    fields = {
        "name": "elpv", "command": "robustad test run", "commit": "abc", "machine": "one core",
        "started": "2025-01-02T03:04:05+00:00", "wall_seconds": 1.5, "rows": rows,
    }  # fmt: skip
    return Results(**{**fields, **changes})


def seeds(*values, **changes):
    return row(seed=None, value=None, seeds=range(len(values)), values=values, **changes)


def test_write_and_read_give_the_same(tmp_path):
    original = results(
        row(interval=[0.7, 0.8], steps=10),
        row(value=None, reason="no masks", metric="AUPRO"),
        seeds(0.5, 0.7, mean=0.6),
        benchmarks=[BenchmarkRow(claim="step", baseline=2.0, ours=1.0, unit="s", ratio=2.0)],
        details={"ensemble": ["pgd", "apgd"], "nested": {"a": [1, 2.5, None]}},
    )
    original.write(tmp_path / "a" / "elpv.json")
    assert Results.read(tmp_path / "a" / "elpv.json") == original


@settings(deadline=None, max_examples=30)
@given(value=st.floats(allow_nan=False, allow_infinity=False), epsilon=st.floats(0, 1), name=NAMES)
def test_every_float_and_name_survives(tmp_path_factory, value, epsilon, name):
    path = tmp_path_factory.getbasetemp() / "property.json"
    original = results(row(value=value, epsilon=epsilon, data=name))
    original.write(path)
    assert Results.read(path) == original


def test_the_file_is_the_documented_long_format(tmp_path):
    results(row(), row(value=None, reason="one class only")).write(tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    assert {"name", "command", "commit", "machine", "started", "wall_seconds", "rows"} <= set(content)
    assert set(content["rows"][0]) == {
        "detector", "recipe", "data", "seed", "attack", "norm", "epsilon", "targets", "metric", "value", "split",
    }  # fmt: skip
    assert content["rows"][1]["value"] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": float("nan")}, "image_AUROC: `value` is nan; undefined is written as null"),
        ({"value": float("inf")}, "`value` is inf"),
        ({"value": None}, "an undefined figure needs a `reason`"),
        ({"value": "0.5"}, "`value` must be numeric"),
        ({"value": True}, "`value` must be numeric"),
        ({"interval": (0.1, float("nan"))}, "`interval`.* is nan"),
        ({"epsilon": 8.0}, "for 8 grey levels pass 8/255"),
        ({"epsilon": float("nan")}, "`epsilon` must not be negative, got nan"),
        ({"epsilon": "8/255"}, "`epsilon` must be a number"),
        ({"attack": "none"}, "`epsilon` must be 0 without an attack"),
        ({"targets": "all"}, "`targets` must be one of anomalous, both, normal"),
        ({"split": "test"}, "`split` must be one of all, dev, final"),
        ({"detector": ""}, "`detector` must be a non-empty text"),
        ({"seed": None}, "give either `seed` and `value`, or"),
        ({"seeds": (1, 2)}, "give either `seed` and `value`, or"),
        ({"mean": 0.5}, "`value` goes with `seed`"),
    ],
)
def test_a_wrong_row_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        row(**changes)


def test_a_wrong_mean_is_refused():
    with pytest.raises(ValueError, match=r"`mean` is 0\.9, but the mean of `values` is 0\.6"):
        seeds(0.5, 0.7, mean=0.9)
    with pytest.raises(ValueError, match=r"`mean` is 0\.5, but the mean of `values` is None"):
        seeds(0.5, None, mean=0.5)
    with pytest.raises(ValueError, match="one of `values` per distinct one of `seeds`"):
        row(seed=None, value=None, seeds=(1, 1), values=(0.5, 0.5), mean=0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"started": "yesterday"}, "`started` must be ISO 8601 with a time zone"),
        ({"started": "2025-01-02T03:04:05"}, "time zone"),
        ({"wall_seconds": float("nan")}, "`wall_seconds`"),
        ({"command": " "}, "`command` must be a non-empty text"),
        ({"details": {"a": [0.0, float("nan")]}}, r"details\.a\[1\] is nan"),
    ],
)
def test_a_wrong_head_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        results(**changes)


def test_reading_names_file_and_row(tmp_path):
    path = tmp_path / "a.json"
    results(row(), row()).write(path)
    good = path.read_text()
    for old, new, message in [
        ('"value": 0.75', '"vlaue": 0.75', r"a\.json .*rows\[0\] has the unknown field 'vlaue'; known: detector,"),
        ('"value": 0.75', '"value": NaN', r"rows\[0\]: .*`value` is nan"),
        ('"detector": "patchguard",', "", r"rows\[0\]: .*detector"),
        ('"commit": "abc",', "", r"a\.json .*commit"),
        ('"commit": "abc",', '"comit": "abc",', "unknown field 'comit'"),
        ("{", "[", "is not a results file"),
    ]:
        assert old in good
        path.write_text(good.replace(old, new, 1))
        with pytest.raises(ValueError, match=message):
            Results.read(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="must be a JSON object, got list"):
        Results.read(path)


def test_aggregate_seeds():
    rows = [
        row(seed=2, value=0.8),
        row(seed=2, value=0.4, metric="AUPRO"),
        row(seed=1, value=0.6, interval=(0.5, 0.7)),
        row(seed=1, value=None, metric="AUPRO", reason="no masks"),
    ]
    auroc, aupro = aggregate_seeds(rows)
    assert (auroc.seeds, auroc.values) == ((1, 2), (0.6, 0.8))
    assert auroc.mean == auroc.number == pytest.approx(0.7)
    assert auroc.spread == pytest.approx(0.02**0.5)
    assert (aupro.values, aupro.mean, aupro.reason, aupro.spread) == ((None, 0.4), None, "no masks", None)


def test_aggregate_refuses_duplicates_and_aggregated_rows():
    with pytest.raises(ValueError, match=r"a seed appears twice in \(0, 0\)"):
        aggregate_seeds([row(), row(value=0.5)])
    with pytest.raises(ValueError, match="aggregated over seeds already"):
        aggregate_seeds([seeds(0.5, mean=0.5)])


def test_select():
    rows = [row(attack="none", epsilon=0, norm="none"), row(), row(attack="square"), row(epsilon=2 / 255)]
    assert select(rows, attack="none") == rows[:1]
    assert select(rows, attack=["pgd", "square"], epsilon=8 / 255 * (1 + 1e-15)) == rows[1:3]
    assert select(rows) == rows
    assert select([seeds(0.1, mean=0.1)], seeds=(0,))[0].number == 0.1
    with pytest.raises(ValueError, match="did you mean 'attack'"):
        select(rows, atack="none")


def test_of_run_fills_in_the_circumstances(monkeypatch):
    started = datetime.now(UTC) - timedelta(seconds=5)
    made = Results.of_run("a", [row()], command="robustad test", started=started)
    assert 5 <= made.wall_seconds < 60
    assert made.commit == current_commit()
    assert "Python" in made.machine
    assert datetime.fromisoformat(made.started).tzinfo is not None


def test_machine_is_one_line():
    text = machine_description()
    assert "\n" not in text
    assert environment()["processor"] in text


def test_commit_inside_and_outside_of_a_checkout(monkeypatch, tmp_path):
    def git(*arguments):
        settings = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *settings, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    module = tmp_path / "machine.py"
    module.write_text("one")
    monkeypatch.setattr(machine, "__file__", str(module))
    assert current_commit().startswith("version ")
    git("init", "-q")
    assert current_commit().startswith("version "), "an untracked file in somebody's repository is not our checkout"
    git("add", "machine.py")
    git("commit", "-qm", "one")
    assert current_commit() == git("rev-parse", "HEAD")
    module.write_text("two")
    assert current_commit() == git("rev-parse", "HEAD") + "+changes"


@pytest.mark.parametrize(
    "radii, middle", [([0.1], 0.1), ([0.0, 0.1, 0.2], 0.2), ([0.3, 0.1, 0.2], 0.2), ([0.1, 0.3, 0.1], 0.3)]
)
def test_what_a_headline_is_about_flatters_less_where_two_radii_are_in_the_middle(radii, middle):
    assert middle_radius(radii) == middle
    with pytest.raises(ValueError, match="no radius"):
        middle_radius([0.0, None])
