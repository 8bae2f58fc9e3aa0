"""Pretrain: from procedural images alone to weights that recipes may start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from robustad import __version__
from robustad._checks import check_at_least, check_choice
from robustad._configs import from_plain_nested, to_plain
from robustad._random import derive_seed
from robustad.backbones import BACKBONES, save_start
from robustad.detectors import PatchGuardConfig
from robustad.files import write_json
from robustad.synthesis import PseudoAnomalies, PseudoAnomalyConfig
from robustad.training import Batches, Engine, SceneTasks, Schedule, TaskDetector, TaskLook, TaskMethod, TrainingConfig
from robustad.training.recipes import check_replayed
from robustad.training.runlog import read_log
from robustad.workflows._run import LOG_FILE, claimed, goes_on, read_config

WEIGHTS, FACTS = "weights.safetensors", "weights.json"
_LOOK_TESTS = 8  # images of each task that is looked at: its AUROC has few of them, its mean over tasks has many


def _training() -> TrainingConfig:
    return TrainingConfig(max_time=5400.0, augment=False, look_every=0.05, look_images=12, epsilon_warmup=0.05)


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Everything that decides how weights to start from are made.

    Attributes:
        model: Architecture: one of our small ViTs without pretrained parts.
        training: Engine and adversarial training; ``batch_size`` counts images that anomalies are made from, and
            ``look_images`` processes that early looks are at.
        pseudo: Pseudo-anomalies, of the default generator.
        references: Normal images of each process that the network may compare with.
        tests: Images of each process in a step; divides ``training.batch_size``.
        processes: Procedural processes; each is a new kind of normal.
    """

    model: PatchGuardConfig = field(default_factory=PatchGuardConfig)
    training: TrainingConfig = field(default_factory=_training)
    pseudo: PseudoAnomalyConfig = field(default_factory=PseudoAnomalyConfig)
    references: int = 12
    tests: int = 4
    processes: int = 50_000

    def __post_init__(self) -> None:
        check_choice("backbone", self.model.backbone, [name for name, row in BACKBONES.items() if not row.stages])
        check_choice("weights", self.model.weights, ("none",))
        check_choice("schedule", self.training.schedule, ("cosine",))
        check_at_least("replays", self.training.replays, 2)
        check_replayed(self.training)
        for name in ("references", "tests", "processes"):
            check_at_least(name, getattr(self, name), 1)
        if self.training.batch_size % self.tests:
            raise ValueError(
                f"`batch_size` must be a multiple of `tests` ({self.tests}), got {self.training.batch_size}"
            )
        if self.training.augment:
            raise ValueError("`augment` must be off: the images of a process vary by themselves")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return to_plain(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> PretrainConfig:
        """The inverse of `to_dict`."""
        return from_plain_nested(PretrainConfig, values)


@dataclass(frozen=True)
class PretrainResult:
    """What pretraining leaves behind.

    Attributes:
        weights: File to start from: ``fit(..., model=PatchGuardConfig(weights=...))``; a JSON beside it says how it
            was made.
        steps: Training steps.
        seconds: Wall time of this session.
        scene_share: Share of that time that went into procedural images; 0 if other processes made them.
        figures: Last early look.
    """

    weights: Path
    steps: int
    seconds: float
    scene_share: float
    figures: dict[str, float]


def pretrain(config: PretrainConfig, run_dir: str | Path, *, resume: bool = False) -> PretrainResult:
    """Train on procedural images, and write ``run_dir/weights.safetensors`` with a JSON beside it.

    Args:
        config: See `PretrainConfig`.
        run_dir: Folder of this run; must be new, unless ``resume``.
        resume: Continue the run in ``run_dir``, whose config must be the same.

    Raises:
        ValueError: If the options do not fit each other.
        CheckpointError: If there is nothing to resume, or the folder holds another run.
    """
    run, training = Path(run_dir), config.training
    tasks = _tasks(config, config.processes, config.tests, training.seed)
    with claimed(run, config, resume=resume):
        engine = _engine(config, tasks, run, resume=resume and goes_on(run))
    result = engine.run()
    rows = [row for row in read_log(run / LOG_FILE) if "look_AUROC" in row]
    facts = {
        "robustad": __version__,
        "images": "procedural, from seeds; no photograph and no data set",
        "config": config.to_dict(),
        "steps": result.steps,
        "kept_step": result.kept_step,
        "look": rows[-1] if rows else {},
    }
    save_start(run / WEIGHTS, result.network.state_dict(), facts)
    write_json(run / FACTS, facts)
    share = tasks.seconds / max(result.seconds, 1e-9)
    return PretrainResult(run / WEIGHTS, result.steps, result.seconds, share, rows[-1] if rows else {})


def resume_pretrain_config(run_dir: str | Path) -> PretrainConfig:
    """The config that a run folder was started with."""
    return PretrainConfig.from_dict(read_config(run_dir))


def _tasks(config: PretrainConfig, number: int, tests: int, seed: int) -> SceneTasks:
    size, references = config.model.image_size, config.references
    return SceneTasks(number, size, references=references, tests=tests, seed=seed)


def _engine(config: PretrainConfig, tasks: SceneTasks, run: Path, *, resume: bool) -> Engine:
    training, generator = config.training, PseudoAnomalies(config.pseudo)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        detector = TaskDetector(config.model)
    schedule = Schedule(
        len(tasks), training.batch_size // config.tests, seed=training.seed, replays=training.updates_per_batch
    )
    look = None
    if training.look_every:
        seen = _tasks(config, training.look_images, _LOOK_TESTS, derive_seed(training.seed, "held out"))
        look = TaskLook(seen, generator, epsilon=training.epsilon)
    return Engine(
        TaskMethod(detector, training, generator),
        Batches(tasks, schedule, num_workers=training.num_workers),
        config=training,
        folder=run,
        look=look,
        resume=resume,
    )
