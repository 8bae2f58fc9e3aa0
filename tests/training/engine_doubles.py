"""A small training for tests of the engine."""

from __future__ import annotations

from pathlib import Path

import torch

from robustad.detectors import PatchGuard, PatchGuardConfig
from robustad.synthesis import PseudoAnomalies
from robustad.training import Batches, DefaultMethod, Engine, Schedule, TrainingConfig


class Images(torch.utils.data.Dataset):
    """Smooth made images."""

    def __len__(self):
        return 20

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        coarse = torch.rand(1, 3, 4, 4, generator=generator)
        image = torch.nn.functional.interpolate(coarse, size=32, mode="bilinear")[0]
        return {"image": (image * 255).to(torch.uint8), "foreground": torch.ones(32, 32, dtype=torch.bool)}


def config(**options):
    return TrainingConfig(**{"max_steps": 8, "batch_size": 4, "attack_steps": 1, "look_every": 0.0, **options})


def make(folder: Path, training: TrainingConfig, **options) -> Engine:
    torch.manual_seed(7)
    model = PatchGuardConfig(image_size=32, backbone="test_vit", discriminator_hidden=32, dropout=0.1)
    method = DefaultMethod(PatchGuard(model), training, PseudoAnomalies())
    return Engine(method, batches(training), config=training, folder=folder, **options)


def batches(training: TrainingConfig) -> Batches:
    schedule = Schedule(20, training.batch_size, seed=training.seed)
    return Batches(Images(), schedule, augment=training.augment)


def weights(engine_result) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in engine_result.network.parameters()])


class Interrupted(Batches):
    """Raises Ctrl-C before a step."""

    def __init__(self, inner: Batches, at: int):
        super().__init__(inner.dataset, inner.schedule, augment=inner.augment)
        self.at = at

    def start_at(self, step):
        for number, batch in enumerate(super().start_at(step), start=step):
            if number == self.at:
                raise KeyboardInterrupt
            yield batch
