"""Ctrl-C at any moment: what is saved is whole, and what is half done is not saved."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from engine_doubles import Interrupted, config, make, weights

from robustad.training.engine import LOOK_FIGURE


@pytest.fixture
def ctrl_c():
    """SIGINT as in a terminal: what runs in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("moment", ["loss", "after_backward", "update"])
def test_ctrl_c_at_any_moment_is_resumed_exactly(tmp_path, moment, ctrl_c):
    whole = make(tmp_path / "a", config()).run()
    broken, calls = make(tmp_path / "b", config()), []
    owner = broken.average if moment == "update" else broken.method
    usual = getattr(owner, moment)

    def pressed(*args, **kwargs):
        calls.append(1)
        if len(calls) == 4:
            ctrl_c()
        return usual(*args, **kwargs)

    setattr(owner, moment, pressed)
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = make(tmp_path / "b", config(), resume=True)
    assert resumed.state.step == 4
    assert torch.equal(weights(whole), weights(resumed.run()))


def test_a_second_ctrl_c_does_not_wait_and_saves_nothing_half_done(tmp_path, ctrl_c):
    broken = make(tmp_path, config())
    broken.average.update = lambda *_: [ctrl_c() for _ in range(2)]
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    assert broken.state.step == 0 and not (tmp_path / "resume.pt").exists()


@pytest.mark.parametrize("moment", ["loss", "look"])
def test_a_second_ctrl_c_in_the_middle_of_a_step_or_of_its_look_saves_nothing(tmp_path, moment):
    """A loss may move statistics of the network, and a step whose look is missing would never be looked at."""
    engine = make(tmp_path, config(look_every=0.5), look=lambda _: {LOOK_FIGURE: 0.9})
    engine._save()
    before = (tmp_path / "resume.pt").read_bytes()

    def stops(*_):
        raise KeyboardInterrupt

    if moment == "loss":
        engine.method.loss = stops
    else:
        engine.look = stops
    with pytest.raises(KeyboardInterrupt):
        engine.run()
    assert engine.state.step == (0 if moment == "loss" else 4)
    assert (tmp_path / "resume.pt").read_bytes() == before


def test_ctrl_c_after_a_loss_that_is_no_number_keeps_the_last_state(tmp_path):
    engine = make(tmp_path, config())
    engine._save()
    before, honest = (tmp_path / "resume.pt").read_bytes(), engine.method.loss

    def loss(network, batch, context):
        losses = honest(network, batch, context)
        return losses._replace(total=losses.total * float("nan" if context.step == 2 else 1))

    engine.method.loss = loss
    engine.batches = Interrupted(engine.batches, at=3)
    with pytest.raises(KeyboardInterrupt):
        engine.run()
    assert (tmp_path / "resume.pt").read_bytes() == before
