"""The evidence about training time: what is varied, what is kept of a training, and when a mark counts as reached."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import json
import re
import subprocess
import sys
import time
import types
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

from robustad.detectors import Brightness, PatchGuard, PatchGuardConfig, load_checkpoint
from robustad.detectors.base import DetectorConfig
from robustad.evaluation import Results, Row
from robustad.synthesis import PseudoAnomalies
from robustad.training import Batch, Engine, StepContext, TrainingConfig
from robustad.workflows._data import DataConfig
from robustad.workflows.fit import fit_config

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
SPEED = importlib.import_module("evidence_speed")
TABLES = importlib.import_module("result_tables")
TRIALS = importlib.import_module("trials")
PICTURES = importlib.import_module("make_pictures")
sys.path.remove(str(ROOT / "tools"))
MEASURING = importlib.import_module("measuring")
MEASURED = MEASURING.Measured


@pytest.mark.parametrize("recipe", ["default", "texture"])
def test_each_choice_is_another_training(recipe):
    made = [SPEED.changed(fit_config(recipe), changes) for changes in TRIALS.CHOICES.values()]
    plain = [config.to_dict() for config in made]
    same = {title for title, config in zip(TRIALS.CHOICES, plain, strict=True) if config == plain[0]}
    already = {
        "default": {"training radius 2/255", "batches of 16", "the score of 3 % of the patches"},
        "texture": {
            "training radius 4/255",
            "all anomalies weigh the same",
            "batches of 8",
            "the score of one patch",
        },
    }
    assert same == {"the recipe"} | already[recipe]


def test_what_a_recipe_does_already_is_not_trained_again(monkeypatch):
    jobs, files = [], []
    monkeypatch.setattr(SPEED, "side_by_side", lambda made: jobs.extend(made) or {})
    monkeypatch.setattr(SPEED, "write_found", lambda name, *_args: files.append(name))
    for key in ("elpv", "mtd"):
        SPEED.TASKS[f"training-choices-{key}"]()
    assert files == ["training-choices-elpv", "training-choices-mtd"]
    names = {key: [job for job in jobs if job.endswith(f"-{key}-4")] for key in ("elpv", "mtd")}
    assert len(set(jobs)) == len(jobs) == len(names["elpv"]) + len(names["mtd"])
    assert "choice-the-recipe-mtd-4" in jobs and "choice-training-radius-8-255-mtd-4" in jobs
    assert "choice-training-radius-4-255-mtd-4" not in jobs and "choice-training-radius-2-255-elpv-4" not in jobs
    assert "choice-all-anomalies-weigh-the-same-mtd-4" not in jobs


def partial_depth(moves):
    """A method that has made one step, and the perturbation before its last move."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = PatchGuardConfig(image_size=32, backbone="test_vit", discriminator_hidden=32, dropout=0.0)
        detector = PatchGuard(config).train()
    training = TrainingConfig(max_steps=8, epsilon=4 / 255, epsilon_warmup=0.0, precision="float32")
    method = TRIALS.PartialDepthMethod(detector, training, PseudoAnomalies())
    method.moves = moves
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    batch = Batch(images, torch.ones(2, 32, 32, dtype=torch.bool), [5, 6])
    context = StepContext(0, 8, 0, Fabric(accelerator="cpu", devices=1, precision="32-true"))
    losses = method.loss(detector, batch, context)
    losses.total.backward()
    method.after_backward()
    return method


def test_attacks_through_the_first_layer_follow_its_gradient_and_stay_in_the_ball():
    once, more = partial_depth(0), partial_depth(1)
    start, epsilon = once._offset, once._epsilon
    # by hand: the gradient of the embedding at the moved images times the one that the loss had at its output
    x = (once._images + start).clamp(0, 1).requires_grad_(True)
    tokens = once.network.features.vit.patch_embed(once.network.normalise(x))
    (gradient,) = torch.autograd.grad((tokens * once._tokens.grad).sum(), x)
    torch.testing.assert_close(more._offset, (start + epsilon * gradient.sign()).clamp(-epsilon, epsilon))
    assert not torch.equal(more._offset, start) and more._offset.abs().max() <= epsilon


def fake_engine(step=0, total=64):
    state = types.SimpleNamespace(step=step, total=total)
    return types.SimpleNamespace(state=state, clock=MEASURING.cpu_seconds)


def test_a_keeper_keeps_early_times_densely_and_goes_on_after_an_interruption(tmp_path):
    detector, engine = Brightness(DetectorConfig(image_size=8)), fake_engine()
    keeper = SPEED.Keeper(engine, tmp_path, MEASURING.cpu_seconds())
    for engine.state.step in range(0, 40, 2):  # looks come at every 32nd of the steps
        keeper(detector)
    assert [int(kept.checkpoint.name) for kept in SPEED.kept_in(tmp_path)] == [2, 4, 8, 16, 32]
    later = SPEED.Keeper(fake_engine(step=36), tmp_path, MEASURING.cpu_seconds())
    assert later.due == [32]
    assert later.before == pytest.approx(SPEED.kept_in(tmp_path)[-1].minutes * 60 * 36 / 32)
    later.engine.state.step = 64
    later(detector)
    last = SPEED.kept_in(tmp_path)[-1]
    assert load_checkpoint(last.checkpoint).info["steps"] == 64
    times = [kept.minutes for kept in SPEED.kept_in(tmp_path)]
    assert times == sorted(times)


def test_a_keeper_waits_until_it_is_known_how_long_the_training_is(tmp_path):
    engine, began = fake_engine(step=20, total=None), MEASURING.cpu_seconds() - 90
    keeper = SPEED.Keeper(engine, tmp_path, began)
    keeper(Brightness(DetectorConfig(image_size=8)))
    assert SPEED.kept_in(tmp_path) == []
    engine.state.total = 640
    keeper(Brightness(DetectorConfig(image_size=8)))
    (kept,) = SPEED.kept_in(tmp_path)
    assert int(kept.checkpoint.name) == 20 and kept.minutes > 1.5, "preparation counts"


def found(courses, brightness=0.70):
    """Jobs as `time_to_robustness` has them, from curves of (minutes, value)."""
    jobs, times = {}, {}
    common = {"data": "made", "norm": "linf", "epsilon": SPEED.EPSILON, "targets": "both", "metric": "image_AUROC"}
    for title, curve in courses.items():
        for minutes, value in curve:
            job, seed = f"{title} {minutes}", {"split": "dev", "seed": 0}
            own = Row(detector="patchguard", recipe=job, attack="ensemble", value=value, **common, **seed)
            base = Row(detector="brightness", recipe="none", attack="exact", value=brightness, **common, **seed)
            kind = dataclasses.replace(own, against="crack", value=value / 2)  # of some anomalies: not what is asked
            jobs[job] = MEASURED([own, base, kind], {})
            times[job] = ("made", title, minutes)
    return jobs, times


def facts(literal, ours):
    return SPEED._facts("made", *found({SPEED.LITERAL: literal, "ours": [(1.0, 1.0)], SPEED.OURS: ours}))


def test_the_mark_is_the_best_of_the_published_recipe_or_clearly_above_brightness():
    weak = facts([(30.0, 0.2), (60.0, 0.3)], [(2.0, 0.5), (8.0, 0.74), (60.0, 0.8)])
    assert weak["mark"] == pytest.approx(0.73)
    assert weak["reached"][SPEED.OURS] == 8.0 and weak["reached"][SPEED.LITERAL] is None
    (row,) = SPEED._comparison("made", weak)
    assert (row.baseline, row.ours, row.ratio) == (None, 8.0, None), "no ratio to what is not reached"
    strong = facts([(30.0, 0.2), (60.0, 0.76)], [(2.0, 0.5), (8.0, 0.75), (12.0, 0.8)])
    assert facts([(30.0, 0.1)], [(2.0, 0.2)])["mark"] >= 0.53, "a constant score has a half under any attack"
    assert strong["mark"] == pytest.approx(0.76) and strong["reached"][SPEED.OURS] == 12.0
    assert SPEED._comparison("made", strong)[0].ratio == pytest.approx(2.5), "the hour of ours does not count"
    at_once = facts([(30.0, 0.76)], [(2.0, 0.8)])
    assert SPEED._comparison("made", at_once)[0].ratio == 0, "before its first moment nobody looked"


def test_the_baseline_stands_once_whatever_size_the_images_of_a_choice_have():
    jobs, _ = found({"any": [(1.0, 0.9)]})
    (result,) = jobs.values()
    jobs = ("choice-the-recipe-elpv-4", "choice-96-pixels-elpv-4", "choice-the-recipe-second-seed-elpv-4")
    kept = SPEED._one_baseline(dict.fromkeys(jobs, result))
    names = [[row.detector for row in job.rows] for job in kept.values()]
    assert names == [["patchguard", "brightness", "patchguard"], ["patchguard", "patchguard"], ["patchguard"] * 2]


def test_trainings_are_timed_and_watched(tmp_path, monkeypatch):
    monkeypatch.setattr(SPEED, "RUNS", tmp_path)
    changes = {"model": {"image_size": 32, "backbone": "vit_plain"}, "training": {"max_time": None, "max_steps": 2}}
    config = SPEED.configured(DataConfig(data="digits", category="3"), "default", seed=0, minutes=1, changes=changes)
    assert SPEED._steps_within(config, "digits", 60.0) >= 1
    once = SPEED.changed(config, {"training": {"look_every": 1.0}})
    assert [SPEED._step(kept.checkpoint) for kept in SPEED.watched(once, "seen")] == [2]


def test_finished_trainings_are_used_for_the_same_options_only(tmp_path):
    config = fit_config("default")
    run = tmp_path / "run"
    MEASURING.check_same(run, config)
    stored = config.to_dict()
    del stored["training"]["compile"]  # an option that came later
    run.mkdir()
    (run / "config.json").write_text(json.dumps(stored))
    MEASURING.check_same(run, config)
    other = SPEED.changed(config, {"training": {"epsilon": 3 / 255}, "model": {"image_size": 96}})
    with pytest.raises(SystemExit, match=r"run was trained with other options \(model.image_size, training.epsilon\)"):
        MEASURING.check_same(run, other)


def test_the_table_says_not_reached_and_the_plot_is_drawn(tmp_path):
    weak = facts([(30.0, 0.2), (60.0, 0.3)], [(2.0, 0.5), (8.0, 0.74)])
    path = tmp_path / "results" / "time-to-robustness.json"
    assert "Not measured yet" in TABLES.times_to_robustness(path.parent)
    Results(
        name=path.stem,
        command="python",
        commit="c",
        machine="m",
        started="2026-01-01T00:00:00+00:00",
        wall_seconds=1.0,
        details={"courses": {"made": weak}},
    ).write(path)
    table = TABLES.times_to_robustness(path.parent)
    assert f"| made, {SPEED.LITERAL} | 0.730 | 0.300 | not reached |" in table
    assert f"| made, {SPEED.OURS} | 0.730 | 0.740 | 8.0 min |" in table and "![" not in table
    pictures = tmp_path / "docs" / "pictures"
    pictures.mkdir(parents=True)
    PICTURES.draw_times(path, pictures)
    assert (pictures / "time-to-robustness.svg").read_bytes().startswith(b"<?xml")
    assert "(pictures/time-to-robustness.svg)" in TABLES.times_to_robustness(path.parent)


def spent(seconds):
    """CPU seconds of a worker while it sleeps, while it works, and while it waits for a child that works."""
    busy = f"import time; e = time.process_time() + {seconds}\nwhile time.process_time() < e: pass"
    marks = [MEASURING.cpu_seconds()]
    time.sleep(seconds)
    marks.append(MEASURING.cpu_seconds())
    exec(busy)  # noqa: S102
    marks.append(MEASURING.cpu_seconds())
    subprocess.run([sys.executable, "-S", "-c", busy], check=True)
    marks.append(MEASURING.cpu_seconds())
    return [after - before for before, after in itertools.pairwise(marks)]


def test_cpu_seconds_are_those_of_work_and_not_of_waiting():
    asleep, working, child = spent(0.3)
    assert asleep < 0.1 and 0.25 < working < 0.5 and child > 0.25


def test_trainings_side_by_side_are_timed_in_cpu_seconds(monkeypatch):
    monkeypatch.setattr(Engine, "clock", Engine.clock)  # what is changed in the test's own process comes back
    for module, name in ((MEASURING.torch, "set_num_threads"), (MEASURING, "keep_freed_memory")):
        monkeypatch.setattr(module, name, lambda *_: None)
    MEASURING._single_thread()
    assert Engine.clock is MEASURING.cpu_seconds


def works(text):
    return text


def fails():
    raise ValueError("no such thing")


def test_a_job_that_fails_keeps_no_other_from_its_end(monkeypatch, capsys):
    class Inline(ThreadPoolExecutor):
        def __init__(self, count, **_options):
            super().__init__(1)

    monkeypatch.setattr(MEASURING, "ProcessPoolExecutor", Inline)
    done = []
    jobs = {"a": partial(works, "a"), "b": fails, "c": lambda: done.append("c")}
    with pytest.raises(SystemExit, match="1 of 3 jobs failed: b; what is finished is kept"):
        MEASURING.side_by_side(jobs)
    told = capsys.readouterr().err
    assert done == ["c"] and re.search(r"\d of 3 FAILED: b", told) and "no such thing" in told
    assert MEASURING.side_by_side({"b": partial(works, "b"), "a": partial(works, "a")}) == {"b": "b", "a": "a"}
