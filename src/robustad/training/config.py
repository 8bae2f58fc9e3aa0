"""How a detector is trained: one frozen dataclass, the same in Python, YAML and on the command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from robustad._checks import check_at_least, check_choice, check_epsilon, check_fraction
from robustad._configs import from_plain
from robustad._precision import PRECISIONS

SCHEDULES = ("cosine", "published", "cobra")
OPTIMIZERS = ("adamw", "lars")
BALANCES = ("patches", "images")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Options of the training engine and of adversarial training.

    Attributes:
        seed: Everything random derives from it: the same seed gives the same weights (CPU).
        batch_size: Normal images per step; each is joined by one pseudo-anomaly.
        max_time: Wall-clock budget, seconds; becomes a fixed number of steps after the first ones are timed.
        max_steps: Number of steps; overrides ``max_time``.
        max_epochs: Number of passes over the normal images; overrides ``max_time``.
        epoch_images: Images of a pass, at least: smaller sets are gone through several times.
        optimizer: ``adamw``, or ``lars`` (COBRA's: each layer's step is as long as its weights allow).
        learning_rate: Peak learning rate; with schedule ``cobra`` the first one.
        weight_decay: Weight decay of AdamW, on matrices only unless the schedule is ``published``.
        schedule: ``cosine`` (warm-up, then cosine per step to 2 %), ``published`` (PatchGuard's: cosine per epoch to
            1.25 %) or ``cobra`` (COBRA's: ten epochs of warm-up, a quarter if short, to ten times, then cosine).
        warmup_steps: Steps of linear learning-rate warm-up of schedule ``cosine``.
        gradient_clip: Largest gradient norm; 0 = no clipping.
        average_decay: Decay of the weight average that becomes the detector; 0 = the last weights.
        precision: ``auto`` (bfloat16 where it is faster), ``float32`` or ``bfloat16``.
        epsilon: Radius of the training attack, pixel units of [0, 1], L-inf; 0 = no adversarial training.
        epsilon_warmup: Share of the steps over which epsilon grows from a tenth to its full value, in [0, 1].
        replays: Updates that each batch is used for while its perturbation goes on growing: the gradient of an update
            serves weights and perturbation at once ("free" adversarial training, Shafahi et al., NeurIPS 2019).
            1 = off: a fresh attack of ``attack_steps`` for each update. Without attacks each batch is used once.
        attack_steps: Gradient steps of the training attack; only without replays.
        clean_fraction: Share of the loss that unattacked images get, in [0, 1]; only without replays.
        balance: What weighs the same in the default patch loss: all anomalous ``patches``, or all anomalous ``images``
            (where anomalies are of very different sizes).
        augment: Mirror images and vary their light a little.
        look_every: Share of the steps between early looks at held-out pseudo-anomalies, in (0, 1]; 0 = none.
        look_images: Held-out normal images for early looks.
        checkpoint_minutes: Minutes between resume points.
        num_workers: Processes that read images; 0 = in the training process.
        compile: Whether torch compiles the network first; that takes minutes, hence for long trainings.
    """

    seed: int = 0
    batch_size: int = 16
    max_time: float | None = None
    max_steps: int | None = None
    max_epochs: int | None = None
    epoch_images: int = 0
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    schedule: str = "cosine"
    warmup_steps: int = 50
    gradient_clip: float = 1.0
    average_decay: float = 0.995
    precision: str = "auto"
    epsilon: float = 2 / 255
    epsilon_warmup: float = 0.1
    replays: int = 4
    attack_steps: int = 2
    clean_fraction: float = 0.5
    balance: str = "patches"
    augment: bool = True
    look_every: float = 0.25
    look_images: int = 24
    checkpoint_minutes: float = 2.0
    num_workers: int = 0
    compile: bool = False

    def __post_init__(self) -> None:
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("balance", self.balance, BALANCES)
        check_epsilon(self.epsilon)
        for name in ("batch_size", "attack_steps", "replays"):
            check_at_least(name, getattr(self, name), 1)
        for name in ("epsilon_warmup", "clean_fraction", "average_decay", "look_every"):
            check_fraction(name, getattr(self, name))
        for name in (
            "learning_rate",
            "weight_decay",
            "gradient_clip",
            "checkpoint_minutes",
            "num_workers",
            "epoch_images",
        ):
            check_at_least(name, getattr(self, name), 0)
        for name in ("max_steps", "max_epochs"):
            if getattr(self, name) is not None:
                check_at_least(name, getattr(self, name), 1)
        if self.max_time is not None and not self.max_time > 0:
            raise ValueError(f"`max_time` must be some seconds, more than 0, got {self.max_time:g}")
        if self.max_steps is None and self.max_epochs is None and self.max_time is None:
            raise ValueError("one of `max_time`, `max_steps`, `max_epochs` must say how long to train")

    @property
    def updates_per_batch(self) -> int:
        """Updates that each batch is used for: several only while a perturbation grows."""
        return self.replays if self.epsilon else 1

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a config from plain values; an unknown key is an error that lists the known ones."""
        return from_plain(cls, values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)
