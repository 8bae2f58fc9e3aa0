"""The training loop: exact resume after an interruption or a kill, same seed same weights, global state untouched."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from engine_doubles import Interrupted, config, make, weights
from lightning_fabric import Fabric

from robustad.errors import CheckpointError, TrainingError
from robustad.training import Engine, StepContext, learning_rate
from robustad.training.runlog import read_log
from robustad.training.state import TrainingState


def test_interrupted_and_resumed_equals_uninterrupted(tmp_path):
    training = config()
    before = torch.random.get_rng_state()
    straight = make(tmp_path / "a", training)
    after_setup = torch.random.get_rng_state()
    whole = straight.run()
    assert torch.equal(after_setup, torch.random.get_rng_state())
    torch.random.set_rng_state(before)

    broken = make(tmp_path / "b", training)
    broken.batches = Interrupted(broken.batches, at=5)
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    resumed = make(tmp_path / "b", training, resume=True)
    assert resumed.state.step == 5
    result = resumed.run()
    assert torch.equal(weights(whole), weights(result))
    assert result.steps == 8


def test_another_seed_gives_other_weights(tmp_path):
    first, again, other = (make(tmp_path / str(i), config(seed=s, max_steps=3)).run() for i, s in enumerate((0, 0, 1)))
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(other))


def test_each_update_has_the_rate_of_its_step_and_a_clipped_gradient(tmp_path):
    training = config(warmup_steps=4, gradient_clip=0.01)
    engine, rates, norms = make(tmp_path, training), [], []

    def about_to_update(optimizer, *_):
        rates.append({group["lr"] for group in optimizer.param_groups})
        gradients = [weight.grad.flatten() for group in optimizer.param_groups for weight in group["params"]]
        norms.append(torch.cat(gradients).norm().item())

    engine.optimizer.optimizer.register_step_pre_hook(about_to_update)
    engine.run()
    contexts = [StepContext(step, 8, step // 5, engine.fabric) for step in range(8)]
    assert rates == [{learning_rate(training, context, 5)} for context in contexts]
    assert norms == pytest.approx([0.01] * 8, rel=1e-3)


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # from inside of torch
def test_a_compiled_network_learns_the_same_and_keeps_its_names(tmp_path, monkeypatch):
    """Traced as for any backend, but run without the minutes that code for this machine takes."""
    compiled, plain_compile = [], torch.nn.Module.compile

    def compile_(module):
        compiled.append(type(module).__name__)
        plain_compile(module, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", compile_)
    training = config(max_steps=3, precision="float32")
    plain = make(tmp_path / "plain", training).run()
    assert compiled == []
    made = make(tmp_path / "compiled", dataclasses.replace(training, compile=True)).run()
    assert compiled == ["ViTFeatureExtractor", "AttentionDiscriminator"]
    assert made.network.state_dict().keys() == plain.network.state_dict().keys()
    torch.testing.assert_close(weights(made), weights(plain), rtol=1e-3, atol=1e-4)


SCRIPT = """
import sys; sys.path.insert(0, {folder!r})
from pathlib import Path
import torch; torch.set_num_threads(1)
from engine_doubles import *
training = config(max_steps=40, checkpoint_minutes=0.0)
engine = make(Path({run!r}), training, resume={resume})
print("started", flush=True)
result = engine.run()
torch.save(weights(result), {out!r})
"""


def _script(tmp_path, run, *, resume):
    return SCRIPT.format(
        folder=str(Path(__file__).parent), run=str(tmp_path / run), resume=resume, out=str(tmp_path / f"{run}.pt")
    )


def test_kill_9_and_resume_is_bit_identical(tmp_path):
    subprocess.run([sys.executable, "-c", _script(tmp_path, "whole", resume=False)], check=True, capture_output=True)
    process = subprocess.Popen(
        [sys.executable, "-c", _script(tmp_path, "killed", resume=False)], stdout=subprocess.PIPE, text=True
    )
    state = tmp_path / "killed" / "resume.pt"
    deadline = time.monotonic() + 60
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert state.exists() and not (tmp_path / "killed.pt").exists(), "it was to be killed in the middle"
    subprocess.run([sys.executable, "-c", _script(tmp_path, "killed", resume=True)], check=True, capture_output=True)
    assert torch.equal(torch.load(tmp_path / "whole.pt"), torch.load(tmp_path / "killed.pt"))
    steps = [row["step"] for row in read_log(tmp_path / "killed" / "log.jsonl")]
    assert steps == sorted(set(steps)), "no record is logged twice"


def test_resume_with_other_options_is_refused(tmp_path):
    engine = make(tmp_path, config())
    engine._save()
    with pytest.raises(CheckpointError, match="attack_steps"):
        make(tmp_path, config(attack_steps=2), resume=True)
    with pytest.raises(CheckpointError, match=r"no resume\.pt"):
        make(tmp_path / "nowhere", config(), resume=True)


def test_time_budget_becomes_a_stored_number_of_steps(tmp_path):
    training = config(max_steps=None, max_time=3.0)
    start = time.perf_counter()
    result = make(tmp_path, training).run()
    assert result.steps >= 1
    assert time.perf_counter() - start < 12
    engine = make(tmp_path / "c", training)
    engine.state.total = 4
    assert engine.run().steps == 4


def test_a_number_of_steps_that_was_found_outlives_an_interruption(tmp_path, monkeypatch):
    training = config(max_steps=None, max_time=40.0)

    def made(folder, **options):
        ticks = iter(range(10**6))
        monkeypatch.setattr(Engine, "clock", staticmethod(lambda: float(next(ticks))))
        return make(tmp_path / folder, training, **options)

    whole = made("whole").run()
    broken = made("broken")
    broken.batches = Interrupted(broken.batches, at=10)
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    resumed = made("broken", resume=True)
    assert (resumed.state.step, resumed.state.total) == (10, whole.steps) and whole.steps > 12
    assert torch.equal(weights(whole), weights(resumed.run()))


def test_a_run_goes_on_with_the_same_images_only(tmp_path):
    make(tmp_path, config(), images="these")._save()
    make(tmp_path, config(), images="these", resume=True)
    with pytest.raises(CheckpointError, match="other options: training images differ"):
        make(tmp_path, config(), images="those", resume=True)
    stored = torch.load(tmp_path / "resume.pt", weights_only=True)
    del stored["state"]["config"]["training images"]  # as an earlier version left it
    torch.save(stored, tmp_path / "resume.pt")
    make(tmp_path, config(), images="those", resume=True)


def test_the_optimisers_state_follows_the_weights(tmp_path):
    """As to a GPU: Fabric moves weights, not what an optimiser keeps of them."""

    class Doubling(Fabric):
        def setup(self, module, *optimizers, **options):
            return super().setup(module.double(), *optimizers, **options)

    make(tmp_path, config(max_steps=2)).run()
    engine = make(tmp_path, config(max_steps=2), resume=True, fabric=Doubling(accelerator="cpu"))
    state = engine.optimizer.state_dict()["state"].values()
    assert {part["exp_avg"].dtype for part in state} == {torch.float64}


def test_full_disk_keeps_the_last_state(tmp_path, monkeypatch):
    engine = make(tmp_path, config())
    engine._save()
    before = (tmp_path / "resume.pt").read_bytes()

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    engine.state.step = 3
    with pytest.raises(OSError, match="No space"):
        engine._save()
    assert (tmp_path / "resume.pt").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".part"] == []


def test_the_end_of_a_short_run_can_be_resumed(tmp_path):
    whole = make(tmp_path, config()).run()
    again = make(tmp_path, config(), resume=True)
    assert again.state.step == 8
    assert torch.equal(weights(whole), weights(again.run()))


def test_training_stops_at_a_loss_that_is_no_number(tmp_path):
    training = config(max_steps=30)
    engine = make(tmp_path, training)
    engine._save()
    before = (tmp_path / "resume.pt").read_bytes()
    broken = make(tmp_path, training)
    honest = broken.method.loss

    def loss(network, batch, context):
        losses = honest(network, batch, context)
        return losses._replace(total=losses.total / (context.step < 5))

    broken.method.loss = loss
    with pytest.raises(TrainingError, match=r"the loss is (inf|nan) at step 10 .*learning_rate.*resume\.pt holds"):
        broken.run()
    assert (tmp_path / "resume.pt").read_bytes() == before


def test_a_cut_off_log_line_is_ignored(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"step": 1, "loss": 1.0}) + '\n{"step": 2, "lo')
    assert read_log(path) == [{"step": 1, "loss": 1.0}]


def test_unreadable_state_is_one_clear_error(tmp_path):
    (tmp_path / "resume.pt").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="cannot resume from"):
        TrainingState.load(tmp_path, {})


def test_a_budget_of_time_is_counted_on_the_engines_clock(tmp_path, monkeypatch):
    ticks = iter(range(10**6))
    monkeypatch.setattr(Engine, "clock", staticmethod(lambda: float(next(ticks))))
    engine = make(tmp_path, config(max_steps=None, max_time=60.0))
    engine.run()
    # a step takes one second and what lies between two another one: 16 of them for the 8 that are timed, then 42 fit
    assert engine.state.step == 50
