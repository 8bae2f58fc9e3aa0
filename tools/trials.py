"""What was tried to make a short training more robust, one by one: options of the engine, and what it does not have.

What pays becomes an option or a default of the library; what does not stays here: its figures can be made again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measuring import RUNS, trained
from torch import Tensor, nn

from robustad.backbones import BACKBONES, save_start
from robustad.backbones.cpu import fast_on_cpu
from robustad.detectors import load_checkpoint
from robustad.training.batches import Batch
from robustad.training.engine import Losses, StepContext
from robustad.training.patchguard import PatchGuardMethod, PublishedMethod, ReplayMethod
from robustad.workflows.fit import FitConfig, PatchGuardFit

_FRESH = {"replays": 1}
CHOICES: dict[str, dict[str, Any]] = {
    "the recipe": {},
    "the recipe, second seed": {"training": {"seed": 1}},
    "the recipe, third seed": {"training": {"seed": 2}},
    "no attack": {"training": {**_FRESH, "epsilon": 0.0}},
    "one attack step from a random start": {"training": {**_FRESH, "attack_steps": 1}},
    "two attack steps from a random start": {"training": {**_FRESH, "attack_steps": 2}},
    "three attack steps from a random start": {"training": {**_FRESH, "attack_steps": 3}},
    "attacks reused over 2 updates": {"training": {"replays": 2}},
    "attacks reused over 8 updates": {"training": {"replays": 8}},
    "no epsilon warm-up": {"training": {"epsilon_warmup": 0.0}},
    "epsilon warm-up over half of the training": {"training": {"epsilon_warmup": 0.5}},
    "no weight average": {"training": {"average_decay": 0.0}},
    "slower weight average": {"training": {"average_decay": 0.999}},
    "all anomalies weigh the same": {"training": {"balance": "images"}},
    "anomalies of 36 grey levels at least": {"pseudo": {"min_change": 36 / 255}},
    "up to three anomalies per image": {"pseudo": {"max_regions": 3}},
    "batches of 8": {"training": {"batch_size": 8}},
    "batches of 16": {"training": {"batch_size": 16}},
    "batches of 32": {"training": {"batch_size": 32}},
    "96 pixels": {"model": {"image_size": 96}},
    "160 pixels": {"model": {"image_size": 160}},
    "training radius 2/255": {"training": {"epsilon": 2 / 255}},
    "training radius 4/255": {"training": {"epsilon": 4 / 255}},
    "training radius 8/255": {"training": {"epsilon": 8 / 255}},
    "the score of one patch": {"model": {"top_k": 1}},
    "the score of 3 % of the patches": {"model": {"top_k": 0.03}},
    "float32": {"training": {"precision": "float32"}},
    "compiled by torch": {"training": {"compile": True}},
}
"""What differs from the recipe of the data set: what the training engine has as an option, one by one.

What a recipe does already is no choice there.
"""


def changed(config: FitConfig, changes: Mapping[str, Any]) -> FitConfig:
    """A config with some options of its parts replaced."""
    parts = {
        name: dataclasses.replace(getattr(config, name), **new) if isinstance(new, Mapping) else new
        for name, new in changes.items()
    }
    return dataclasses.replace(config, **parts)


class PartialDepthMethod(ReplayMethod):
    """Free attacks that go on through the first layer alone while the weights wait.

    The gradient at the output of the patch embedding is kept, and the perturbation moves `moves` more times by the
    gradient of the embedding times the kept one, which costs little where the embedding is small.

    Source: Zhang et al., "You Only Propagate Once", NeurIPS 2019.
    """

    moves = 2

    def loss(self, network: Any, batch: Batch, context: StepContext) -> Losses:
        """See `Method.loss`."""
        self._context, self._sources = context, batch.sources
        handle = self._embedding.register_forward_hook(self._catch)
        try:
            return super().loss(network, batch, context)
        finally:
            handle.remove()

    @property
    def _embedding(self) -> nn.Module:
        embedding: nn.Module = self.network.features.vit.patch_embed
        return embedding

    def _catch(self, _module: nn.Module, _inputs: Any, tokens: Tensor) -> None:
        tokens.retain_grad()
        self._tokens = tokens

    def after_backward(self) -> None:
        """Move the perturbation up the loss, and further along the kept gradient."""
        super().after_backward()
        for _ in range(self.moves):
            x = (self._images + self._offset).clamp(0, 1).detach().requires_grad_(True)
            with self._context.fabric.autocast(), self.network.leaving_out(self._sources), fast_on_cpu(x):
                tokens = self._embedding(self.network.normalise(x))
            (gradient,) = torch.autograd.grad(tokens, x, self._tokens.grad.to(tokens.dtype))
            self._offset = (self._offset + self._epsilon * gradient.sign()).clamp(-self._epsilon, self._epsilon)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartialDepthFit(PatchGuardFit):
    """How a detector is trained by `PartialDepthMethod`."""

    def _method_class(self) -> type[PatchGuardMethod]:
        return PartialDepthMethod


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedLossFit(PatchGuardFit):
    """The published loss and attack, and nothing else of the published recipe."""

    def _method_class(self) -> type[PatchGuardMethod]:
        return PublishedMethod


def as_other_fit(config: FitConfig, name: str, *, fit: type[PatchGuardFit], changes: Mapping[str, Any]) -> Path:
    """Checkpoint of a training by another method."""
    config = changed(config, changes)
    options = {option.name: getattr(config, option.name) for option in dataclasses.fields(config)}
    return trained(fit(**options), name)


SMALL_SHARE = 0.75
"""Side of the images of the first half of a training, where it grows."""


def growing(config: FitConfig, name: str) -> Path:
    """Checkpoint of a training whose first half sees smaller images; the second starts from its weights."""
    half = {"training": {"max_time": (config.training.max_time or 0) / 2}}
    size = round(SMALL_SHARE * config.model.image_size)
    small = load_checkpoint(trained(changed(config, {**half, "model": {"image_size": size}}), f"{name}-small")).detector
    weights = RUNS / f"{name}-small.safetensors"
    save_start(weights, small.state_dict(), {"size": size})
    return trained(changed(config, {**half, "model": {"weights": str(weights)}}), name)


def other_trunk(config: FitConfig, name: str, *, stages: int) -> Path:
    """Checkpoint of a training on more or fewer stages of the embedded network."""
    backbone = f"hybrid_{stages}"
    BACKBONES[backbone] = dataclasses.replace(BACKBONES["hybrid"], stages=stages)
    return trained(changed(config, {"model": {"backbone": backbone}}), name)


WAYS = {
    "published loss and attack, 2 steps": (
        ("default", "texture"),
        partial(as_other_fit, fit=PublishedLossFit, changes={"training": {**_FRESH, "attack_steps": 2}}),
    ),
    "attacks through the first layer alone, 2 of 3 moves": (
        ("default", "texture"),
        partial(as_other_fit, fit=PartialDepthFit, changes={}),
    ),
    "half of the time on images of three quarters the side": (("default",), growing),
    "embedded trunk of 2 stages (stride 4)": (("texture",), partial(other_trunk, stages=2)),
    "embedded trunk of 4 stages (stride 16)": (("texture",), partial(other_trunk, stages=4)),
}
"""What is no option: recipes that it is tried with (embedded weights fit one normalisation only), and the training."""
