"""The training loop of every detector, on Lightning Fabric: visible, deterministic, and exactly resumable."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from robustad._precision import is_bfloat16
from robustad._progress import Progress
from robustad._random import derive_seed
from robustad.errors import TrainingError
from robustad.training.average import WeightAverage
from robustad.training.batches import Batch, Batches
from robustad.training.budget import StepBudget
from robustad.training.config import TrainingConfig
from robustad.training.interrupts import interrupts_wait
from robustad.training.lars import LARS
from robustad.training.runlog import RunLog
from robustad.training.schedules import cobra_cosine, cosine_with_warmup, published_cosine
from robustad.training.state import COLLAPSE, IMAGES, STATE_FILE, TrainingState

LOOKING = 0.15
"""Largest share of a time budget that goes to early looks; there are fewer of them where they take more."""


class StepContext(NamedTuple):
    """What a method may know of the step.

    Attributes:
        step: 0-based.
        total: Steps of the run; None while the budget is being measured.
        epoch: 0-based.
        fabric: For autocast and devices.
    """

    step: int
    total: int | None
    epoch: int
    fabric: Fabric


class Losses(NamedTuple):
    """Result of a step: what is minimised, and figures for the log.

    Attributes:
        total: What is minimised ``()``.
        parts: Figures.
        rest: What else is minimised, asked for once the gradients of ``total`` are there and what they were computed
            from is gone: the parts of a sum need memory one at a time. None = that was all.
    """

    total: Tensor
    parts: dict[str, Tensor]
    rest: Callable[[], Losses] | None = None

    def backward(self, descend: Callable[[Tensor], object] = Tensor.backward) -> Losses:
        """Back-propagate one part after the other; what comes back are the figures of all of them."""
        descend(self.total)
        total, parts = self.total.detach(), self.parts
        if self.rest is not None:
            more = self.rest().backward(descend)
            total, parts = total + more.total, {**parts, **more.parts}
        return Losses(total, parts)


class Method(Protocol):
    """A way to train a network: the loss of one batch, attacks included."""

    @property
    def network(self) -> nn.Module:
        """What is trained."""
        ...

    forward_methods: tuple[str, ...]
    compiled_parts: tuple[str, ...]

    def loss(self, network: Any, batch: Batch, context: StepContext) -> Losses:
        """Loss of a batch, which lies in memory; ``network`` is what to call for the pass that gradients flow through.

        Pseudo-anomalies are made where the images were read, and then all is sent to the device: nothing waits for it.
        """
        ...

    def after_backward(self) -> None:
        """Called once the loss's gradients are there, before the weights move."""
        ...

    def carried(self) -> dict[str, Tensor]:
        """What the method carries from step to step, for the resume state."""
        ...

    def restore(self, carried: dict[str, Tensor]) -> None:
        """Take back what `carried` gave."""
        ...


Look = Callable[[nn.Module], dict[str, float]]
LOOK_FIGURE = "look_attacked_AUROC"


@dataclass(frozen=True)
class RunResult:
    """What training leaves behind.

    Attributes:
        network: With the weights that are kept, in eval mode.
        steps: Steps of the run.
        seconds: Wall time of this session.
        kept_step: Step of the kept weights: the last one, unless an early look was clearly better.
    """

    network: nn.Module
    steps: int
    seconds: float
    kept_step: int


class Engine:
    """Trains one network.

    Args:
        method: Loss of a step.
        batches: Where images come from.
        config: Options.
        folder: Run folder for the log and the resume state.
        look: Early look at held-out pseudo-anomalies; its figure `LOOK_FIGURE` guards against collapse.
        resume: Continue from the folder's resume state.
        images: A name for what is trained on; a run goes on with the same only.
        tensorboard: Also log for TensorBoard.
        fabric: Devices and precision; by default one device and the precision of the config.

    Attributes:
        clock: Seconds that ``max_time`` is counted in: wall time, unless who compares trainings on a busy machine
            replaces it.
    """

    clock = staticmethod(time.perf_counter)

    def __init__(
        self,
        method: Method,
        batches: Batches,
        *,
        config: TrainingConfig,
        folder: Path,
        look: Look | None = None,
        resume: bool = False,
        images: str = "",
        tensorboard: bool = False,
        fabric: Fabric | None = None,
    ) -> None:
        self.method, self.batches, self.config, self.folder, self.look = method, batches, config, folder, look
        self.fabric = fabric or make_fabric(config)
        self.average = WeightAverage(method.network, config.average_decay)
        self.optimizer = make_optimizer(method.network, config)
        self.state = TrainingState(config={**config.to_dict(), IMAGES: images})
        self._torn, self._loss = False, torch.zeros(())
        optimizer = self._restore() if resume else None
        if config.compile:  # after the weight average, which is a copy, and in place: names of tensors stay
            for name in method.compiled_parts:
                getattr(method.network, name).compile()
        self.network, self.optimizer = self.fabric.setup(method.network, self.optimizer)
        if optimizer is not None:  # now that the weights are where they stay: its state goes to them
            self.optimizer.load_state_dict(optimizer)
        self.average.module.to(self.fabric.device)
        for name in method.forward_methods:
            self.network.mark_forward_method(name)
        folder.mkdir(parents=True, exist_ok=True)
        self.log = RunLog(folder, resume_step=self.state.step, tensorboard=tensorboard)

    def run(self) -> RunResult:
        """Train to the end; an interruption (Ctrl-C) saves the resume state first, and so does the end.

        Ctrl-C waits for the update that is being made; a second one does not, and leaves the last saved state.

        Raises:
            TrainingError: If the loss becomes infinite or NaN; the last resume state is left as it was.
        """
        start = time.perf_counter()
        budget = self._budget()
        with Progress("training", self.state.total, initial=self.state.step, enabled=self.fabric.is_global_zero) as bar:
            stream = self.batches.start_at(self.state.step)
            try:
                with interrupts_wait() as asked:
                    self._loop(stream, budget, bar, asked)
            except KeyboardInterrupt:
                if not self._torn and bool(self._loss.isfinite()):
                    self._save()
                raise
        self._save()  # what is left to do to the detector may be interrupted as well
        self.log.close()
        network, kept = self._kept()
        return RunResult(network, self.state.step, time.perf_counter() - start, kept)

    def _budget(self) -> StepBudget | None:
        config, schedule = self.config, self.batches.schedule
        if self.state.total is None:
            if config.max_steps is not None:
                self.state.total = config.max_steps
            elif config.max_epochs is not None:
                self.state.total = config.max_epochs * schedule.steps_per_epoch
        if self.state.total is not None:
            return None
        assert config.max_time is not None
        budget = StepBudget(config.max_time, cycle=schedule.replays, clock=self.clock)
        if self.look is not None and config.look_every:
            began = self.clock()  # one look is timed beforehand; its result does not count
            self.look(self.average.module)
            seconds = self.clock() - began
            affordable = int(LOOKING * config.max_time / seconds)
            if affordable < self._num_looks:  # one look has none to compare with
                self.state.looks = affordable if affordable > 1 else 0
            budget.reserved = seconds * self._num_looks
        return budget

    def _loop(
        self, stream: Iterator[Batch], budget: StepBudget | None, bar: Progress, asked: Callable[[], bool]
    ) -> None:
        state, last_saved, note = self.state, time.perf_counter(), ""
        while state.total is None or state.step < state.total:
            if budget is not None:
                budget.step_begins()
            figures = self._step(next(stream))
            state.step += 1
            self._torn = False
            if budget is not None and state.total is None:
                state.total = budget.step_ends(state.step)
            if state.step % 10 == 0 or state.step == state.total:
                self._check_finite(float(figures["loss"]))
                self.log.write(state.step, {name: float(value) for name, value in figures.items()})
                note = f"loss {float(figures['loss']):.3f}"
            if self._look_is_due():
                self._torn = True  # a step whose look is missing is not done
                self._look()
                self._torn = False
            bar.move_to(state.step, total=state.total, note=note)
            if time.perf_counter() - last_saved > 60 * self.config.checkpoint_minutes:
                self._check_finite(float(figures["loss"]))
                self._save()
                last_saved = time.perf_counter()
            if asked():
                raise KeyboardInterrupt

    def _check_finite(self, loss: float) -> None:
        if math.isfinite(loss):
            return
        saved = "" if not (self.folder / STATE_FILE).exists() else f"; {STATE_FILE} holds an earlier state"
        raise TrainingError(
            f"the loss is {loss} at step {self.state.step} of {self.folder}: start again with a lower "
            f"`learning_rate` (it was {self.config.learning_rate:g}) or `precision` float32{saved}"
        )

    def _step(self, batch: Batch) -> dict[str, Tensor | float]:
        step, config = self.state.step, self.config
        self._torn = True  # from here to its end, what would be saved belongs to two steps
        context = StepContext(step, self.state.total, self.batches.schedule.epoch(step), self.fabric)
        rate = learning_rate(config, context, self.batches.schedule.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        self.optimizer.zero_grad()  # first: nobody needs the last step's gradients while attacks take their memory
        with isolated_randomness(derive_seed(config.seed, "step", step)):
            losses = self.method.loss(self.network, batch, context).backward(self.fabric.backward)
            self.method.after_backward()
        if config.gradient_clip:
            self.fabric.clip_gradients(
                self.network, self.optimizer, max_norm=config.gradient_clip, error_if_nonfinite=False
            )
        self.optimizer.step()
        self.average.update(self.method.network, step)
        self._loss = losses.total
        return {"loss": losses.total, **losses.parts, "learning_rate": rate, "epoch": float(context.epoch)}

    def _look_is_due(self) -> bool:
        state = self.state
        if self.look is None or not self.config.look_every or not state.total or not self._num_looks:
            return False
        return state.step * self._num_looks // state.total > (state.step - 1) * self._num_looks // state.total

    @property
    def _num_looks(self) -> int:
        return max(1, round(1 / self.config.look_every)) if self.state.looks is None else self.state.looks

    def _look(self) -> None:
        assert self.look is not None
        figures = self.look(self.average.module)
        self.log.write(self.state.step, figures)
        attacked = self.state.last_look = figures.get(LOOK_FIGURE)
        if attacked is not None and (self.state.best_look is None or attacked >= self.state.best_look):
            self.state.best_look = attacked
            weights = self.average.module.state_dict()
            self.state.best_weights = {name: value.detach().cpu().clone() for name, value in weights.items()}
            self.state.best_step = self.state.step

    def _kept(self) -> tuple[nn.Module, int]:
        """The averaged weights of the last step, or of the best look if the last one had clearly collapsed."""
        state, network = self.state, self.average.module
        tolerance = getattr(self.look, "tolerance", COLLAPSE)
        if state.best_weights and state.best_step < state.step and state.collapsed(tolerance):
            network.load_state_dict(state.best_weights)
            return network.eval(), state.best_step
        return network.eval(), state.step

    def _save(self) -> None:
        if self.fabric.is_global_zero:
            self.state.save(
                self.folder,
                network=self.method.network.state_dict(),
                average=self.average.module.state_dict(),
                optimizer=self.optimizer.state_dict(),
                carried=self.method.carried(),
            )

    def _restore(self) -> dict[str, Any]:
        """All but the optimiser's state, which is returned."""
        self.state, stored = TrainingState.load(self.folder, self.state.config)
        self.method.network.load_state_dict(stored["network"])
        self.average.module.load_state_dict(stored["average"])
        self.method.restore(stored["carried"])
        optimizer: dict[str, Any] = stored["optimizer"]
        return optimizer


def make_fabric(config: TrainingConfig, **options: Any) -> Fabric:
    """A launched Fabric with the config's precision; ``options`` are Fabric's own (devices, strategy, ...)."""
    fabric = Fabric(**{"accelerator": "auto", "devices": 1, "precision": _precision(config.precision), **options})
    fabric.launch()
    return fabric


def _precision(name: str) -> Any:
    return "bf16-mixed" if is_bfloat16(name) else "32-true"


@contextmanager
def isolated_randomness(seed: int) -> Iterator[None]:
    """Seed what draws from the global generator (dropout) for one step, and put the global state back afterwards."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def learning_rate(config: TrainingConfig, context: StepContext, steps_per_epoch: int) -> float:
    """Learning rate of a step; as long as nobody knows how long the run is, it has just begun."""
    epochs = max(1, -(-(context.total or 1) // steps_per_epoch))
    if config.schedule == "published":
        return config.learning_rate * published_cosine(context.epoch if context.total else 0, epochs)
    if config.schedule == "cobra":
        warmup = min(10.0, epochs / 4) if context.total else 10.0  # a short training would be nothing but warm-up
        step = context.step if context.total else min(context.step, 10 * steps_per_epoch)
        return config.learning_rate * cobra_cosine(step, steps_per_epoch, epochs, warmup=warmup)
    step, total = (context.step, context.total) if context.total else (0, 1)
    share = cosine_with_warmup(step, total, warmup=1)
    return config.learning_rate * share * min(1.0, (context.step + 1) / max(1, config.warmup_steps))


def make_optimizer(network: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """LARS or AdamW; its learning rate is set step by step, see `learning_rate`."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    if config.optimizer == "lars":
        return LARS(parameters, lr=config.learning_rate)
    if config.schedule == "published":
        return torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
