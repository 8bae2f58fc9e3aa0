"""PatchGuard: a Vision Transformer under a patch-wise attention discriminator (CVPR 2025, arXiv 2506.09237).

Official repository: rohban-lab/PatchGuard. The mathematics of the released code is kept with the published recipe;
deliberate deviations are options of `PatchGuardConfig`, named in ``docs/patchguard.md``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from robustad._checks import check_at_least
from robustad._devices import to_device
from robustad.backbones import (
    DISCRIMINATOR,
    PlainViT,
    ReferenceStem,
    ViTFeatureExtractor,
    build_vit,
    fast_on_cpu,
    part_of,
    read_tensors,
    start_facts,
)
from robustad.detectors.base import AnomalyDetector, DetectorConfig
from robustad.detectors.discriminator import AttentionDiscriminator
from robustad.errors import CheckpointError
from robustad.ops.smoothing import gaussian_smooth
from robustad.types import Prediction

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchGuardConfig(DetectorConfig):
    """Architecture and scoring of a PatchGuard detector; the defaults are our default recipe's.

    Attributes:
        backbone: ``vit_reference``, ``vit_plain``, ``vit_pooled``, ``vit_texture``, ``hybrid``, or any timm ViT.
        weights: Where training starts: ``none``, ``hub``, ``embedded`` (hybrid backbones), or a local file; what
            `robustad pretrain` made starts the discriminator, too.
        feature_layers: 1-based blocks whose normalised patch tokens are concatenated; empty = the last block.
        attention_layers: 1-based blocks whose attention is pulled to uniform; empty = none.
        discriminator_layers: Attention layers of the discriminator.
        discriminator_heads: Heads per layer.
        discriminator_hidden: Width of the discriminator's MLP.
        dropout: Dropout rate of the discriminator.
        position_std: Standard deviation of the discriminator's initial position table.
        top_k: The image score is the mean of the highest patch logits: of this many (an integer >= 1) or of this
            fraction of all patches (below 1).
        sigma: Smoothing of the anomaly map, pixels.
        radius: Half width of the smoothing kernel, pixels.
    """

    backbone: str = "vit_reference"
    weights: str = "none"
    feature_layers: tuple[int, ...] = ()
    attention_layers: tuple[int, ...] = ()
    discriminator_layers: int = 1
    discriminator_heads: int = 2
    discriminator_hidden: int = 256
    dropout: float = 0.0
    position_std: float = 0.02
    top_k: float = 0.03
    sigma: float = 4.0
    radius: int = 8

    @classmethod
    def published(cls, *, image_size: int = 224, weights: str = "none") -> PatchGuardConfig:
        """The released architecture: DINOv2's ViT-S/14 (released code starts it from random weights), top-3 score."""
        return cls(
            image_size=image_size,
            backbone="vit_small_patch14_dinov2.lvd142m",
            weights=weights,
            feature_layers=(12,),
            attention_layers=(6, 9, 12),
            discriminator_heads=4,
            discriminator_hidden=2048,
            dropout=0.2,
            position_std=1.0,
            top_k=3,
            sigma=6.0,
            radius=7,
        )


class PatchOutput(NamedTuple):
    """What the losses of training read.

    Attributes:
        logits: Patch logits ``(N, P)``.
        projections: Queries and keys per attention layer, each ``(N, heads, tokens, d)``; prefix tokens first.
    """

    logits: Tensor
    projections: list[tuple[Tensor, Tensor]]


class PatchGuard(AnomalyDetector):
    """Patch logits from a ViT and an attention discriminator; image score = mean of the highest logits.

    Args:
        config: See `PatchGuardConfig`.
        vit: A built ViT to use instead of the one that the config names.
        load_weights: Read the backbone's starting weights; a checkpoint that fills every tensor itself passes False.
    """

    name: ClassVar[str] = "patchguard"
    config_class: ClassVar[type[DetectorConfig]] = PatchGuardConfig
    config: PatchGuardConfig

    def __init__(
        self, config: PatchGuardConfig, *, vit: PlainViT | VisionTransformer | None = None, load_weights: bool = True
    ) -> None:
        super().__init__(config)
        weights = config.weights if load_weights and vit is None else "none"
        if vit is None:
            vit = build_vit(config.backbone, image_size=config.image_size, weights=weights)
        self.features = ViTFeatureExtractor(
            vit,
            feature_layers=config.feature_layers or (len(vit.blocks),),
            attention_layers=config.attention_layers,
        )
        self.grid_size = self.features.grid_size
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.discriminator = AttentionDiscriminator(
            self.features.embed_dim,
            self.num_patches,
            num_layers=config.discriminator_layers,
            num_heads=config.discriminator_heads,
            hidden_dim=config.discriminator_hidden,
            dropout=config.dropout,
            position_std=config.position_std,
        )
        self.top_k = _count(config.top_k, self.num_patches)
        if start_facts(weights) is not None:
            _start(self.discriminator, Path(weights), self.grid_size)

    @classmethod
    def blank(cls, config: DetectorConfig) -> PatchGuard:
        """See `AnomalyDetector.blank`."""
        assert isinstance(config, PatchGuardConfig)
        return cls(config, load_weights=False)

    def prepare(self, images: Tensor, *, sources: Tensor | None = None, seed: int = 0) -> None:
        """Choose the references of normal images, where the backbone compares with some."""
        if sources is None:
            sources = torch.arange(len(images))
        for stem in self._reference_stems():
            stem.fit(self.normalise(images), self.std, sources, seed=seed)

    @contextmanager
    def leaving_out(self, sources: Sequence[int]) -> Iterator[None]:
        """Compare no training image with itself: image ``n`` of the batches in this block came from ``sources[n]``.

        Batches may be multiples, as in `ReferenceStem.leaving_out`; without sources, nothing is left out.
        """
        with ExitStack() as stack:
            for stem in self._reference_stems() if sources else ():
                stack.enter_context(stem.leaving_out(to_device(torch.tensor(sources), self.mean.device)))
            yield

    def _reference_stems(self) -> list[ReferenceStem]:
        return [module for module in self.features.modules() if isinstance(module, ReferenceStem)]

    @property
    def num_prefix_tokens(self) -> int:
        """CLS and register tokens of the backbone."""
        return self.features.num_prefix_tokens

    @property
    def patch_size(self) -> int:
        """Side of a patch, pixels."""
        return self.image_size // self.grid_size[0]

    def patch_output(self, images: Tensor, *, with_attention: bool = False) -> PatchOutput:
        """Patch logits, and queries and keys if asked for, of images ``(N, 3, S, S)`` in [0, 1]."""
        with fast_on_cpu(images):
            features = self.features(self.normalise(images), with_attention=with_attention)
            return PatchOutput(self.discriminator(features.tokens), features.projections)

    def patch_logits(self, images: Tensor) -> Tensor:
        """Patch logits ``(N, P)``, row-major, higher = more anomalous."""
        return self.patch_output(images).logits

    def image_scores(self, logits: Tensor) -> Tensor:
        """Image scores ``(N,)``: the mean of the highest ``top_k`` patch logits ``(N, P)``."""
        return logits.topk(self.top_k, dim=1).values.mean(dim=1)

    def anomaly_maps(self, logits: Tensor) -> Tensor:
        """Patch logits ``(N, P)`` to smoothed pixel maps ``(N, S, S)``."""
        grid = logits.view(-1, 1, *self.grid_size)  # (N, P) -> (N, 1, h, w)
        size = (self.image_size, self.image_size)
        maps = F.interpolate(grid, size=size, mode="bilinear", align_corners=False)[:, 0]
        return gaussian_smooth(maps, sigma=self.config.sigma, radius=self.config.radius)

    def forward(self, images: Tensor) -> Prediction:
        """Scores and maps of images ``(N, 3, S, S)`` in [0, 1]."""
        logits = self.patch_logits(images).to(torch.promote_types(images.dtype, torch.float32))
        return Prediction(self.image_scores(logits), self.anomaly_maps(logits))


def _count(top_k: float, num_patches: int) -> int:
    """Number of patches that ``top_k`` stands for."""
    check_at_least("top_k", top_k, 1e-6)
    if top_k > 1 and top_k != int(top_k):
        raise ValueError(f"`top_k` must be a whole number of patches or a fraction below 1, got {top_k:g}")
    count = max(1, round(top_k * num_patches)) if top_k < 1 else round(top_k)
    if count > num_patches:
        raise ValueError(f"`top_k` must not exceed the number of patches {num_patches}, got {top_k:g}")
    return count


def _start(discriminator: AttentionDiscriminator, path: Path, grid_size: tuple[int, int]) -> None:
    """Fill a discriminator from what `robustad pretrain` made; its position table is resampled to the grid."""
    tensors = part_of(read_tensors(path), DISCRIMINATOR)
    try:
        table = tensors["positions"]
        side = round(len(table) ** 0.5)
        grid = table.T.reshape(1, -1, side, side)  # (P, C) -> (1, C, side, side)
        if (side, side) != grid_size:
            grid = F.interpolate(grid, size=grid_size, mode="bicubic", align_corners=False)
        discriminator.load_state_dict({**tensors, "positions": grid[0].flatten(1).T})
    except (RuntimeError, LookupError) as error:
        raise CheckpointError(
            f"{path} does not fit this discriminator: {str(error).splitlines()[-1].strip()}"
        ) from error
