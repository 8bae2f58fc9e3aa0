"""COBRA: contrastive adversarial training of normal against pseudo-anomalous images (ICLR 2025, arXiv 2501.15434).

Official repository: rohban-lab/COBRA, without a licence: built from the paper and from figures, not from its code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from robustad._checks import check_at_least, check_choice, check_fraction
from robustad._devices import device_of, to_device
from robustad._random import derive_seed
from robustad.backbones.resnet import ResNet18
from robustad.detectors._coreset import farthest_points
from robustad.detectors.base import AnomalyDetector, DetectorConfig
from robustad.ops.transforms import TRANSFORMS, transformed
from robustad.ops.views import SCORING_CROP, augmented, flipped
from robustad.types import Prediction

SMALLEST_IMAGE = 32
PROJECTION_DIM = 128
TERMS = ("likeness", "logit")
_EPS = 1e-8


@dataclasses.dataclass(frozen=True, kw_only=True)
class CobraConfig(DetectorConfig):
    """Architecture and scoring of a COBRA detector.

    Attributes:
        backbone: ``resnet18`` for images of about 32 pixels, ``resnet18_imagenet`` for about 224.
        width: Channels of the backbone's first stage (published: 64).
        blocks: One entry per pseudo-anomalous block (K - 1 of them): weights of the transforms it is drawn from.
        crop: Whether views are cropped (published: not on ImageNet, MVTec AD, DAGM).
        mirror: Whether views are mirrored at random (published: always); not where a mirrored object is another one.
        jitter: How far the colours of views go, as a share of what is published; less where lamp and camera are fixed,
            since a detector must not learn to overlook what is dark.
        views: Augmented views that a score averages over (published: 10); 1 = the image as it is.
        scored_blocks: Blocks that enter the score; 0 = all K (published), 1 = the image itself only.
        terms: What a block adds to the score, out of `TERMS` (published: both): ``likeness`` of its projection to the
            nearest normal one, ``logit`` of the block. A term that the loss did not train says nothing.
        max_axes: Training images that scores compare with, at most, for each block: the rest is left out where it is
            most crowded; 0 = all (published).
        num_axes: How many they are; set when the memory is filled.
    """

    image_size: int = 32
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    backbone: str = "resnet18"
    width: int = 64
    blocks: tuple[dict[str, float], ...] = ({"rotation": 1.0},)
    crop: bool = True
    mirror: bool = True
    jitter: float = 1.0
    views: int = 10
    scored_blocks: int = 0
    terms: tuple[str, ...] = TERMS
    max_axes: int = 0
    num_axes: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size < SMALLEST_IMAGE:
            least = f"`image_size` must be at least {SMALLEST_IMAGE}"
            raise ValueError(f"{least} for COBRA, got {self.image_size}; smaller images are enlarged to it")
        check_at_least("views", self.views, 1)
        check_fraction("jitter", self.jitter)
        check_at_least("max_axes", self.max_axes, 0)
        if not self.blocks:
            raise ValueError("`blocks` needs at least one pseudo-anomalous block")
        for weights in self.blocks:
            for name in weights:
                check_choice("blocks", name, TRANSFORMS)
            if not weights or min(weights.values()) < 0 or sum(weights.values()) <= 0:
                raise ValueError(f"each of `blocks` needs at least one positive weight, got {weights}")
        for term in self.terms:
            check_choice("terms", term, TERMS)
        if not self.terms or len(set(self.terms)) < len(self.terms):
            raise ValueError(f"`terms` must name at least one of {', '.join(TERMS)}, each once, got {self.terms}")
        if not 0 <= self.scored_blocks <= self.num_blocks:
            raise ValueError(f"`scored_blocks` must be in [0, {self.num_blocks}], got {self.scored_blocks}")

    @property
    def num_blocks(self) -> int:
        """K: the normal block and the pseudo-anomalous ones."""
        return 1 + len(self.blocks)

    @property
    def num_scored(self) -> int:
        """Blocks that enter the score."""
        return self.scored_blocks or self.num_blocks


class CobraOutput(NamedTuple):
    """What losses and scores read.

    Attributes:
        projections: ``(N, 128)``, not normalised.
        logits: Which block an image belongs to ``(N, K)``.
    """

    projections: Tensor
    logits: Tensor


class Cobra(AnomalyDetector):
    """Scores an image by how its views' projections and block logits resemble those of normal training images.

    Args:
        config: See `CobraConfig`.
    """

    name: ClassVar[str] = "cobra"
    config_class: ClassVar[type[DetectorConfig]] = CobraConfig
    has_maps: ClassVar[bool] = False
    config: CobraConfig
    axes: Tensor
    projection_weights: Tensor
    logit_weights: Tensor

    def __init__(self, config: CobraConfig) -> None:
        super().__init__(config)
        self.backbone = ResNet18(config.backbone, width=config.width)
        dim, blocks = self.backbone.embed_dim, config.num_blocks
        self.projection = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, PROJECTION_DIM))
        self.classifier = nn.Linear(dim, blocks)
        self.register_buffer("axes", torch.zeros(config.num_scored, config.num_axes, PROJECTION_DIM))
        self.register_buffer("projection_weights", torch.ones(config.num_scored))
        self.register_buffer("logit_weights", torch.ones(config.num_scored))

    def features(self, images: Tensor) -> CobraOutput:
        """Projections and block logits of images ``(N, 3, S, S)`` in [0, 1]."""
        hidden = self.backbone(self.normalise(images))
        return CobraOutput(self.projection(hidden), self.classifier(hidden))

    def in_block(self, images: Tensor, block: int, seeds: list[int]) -> tuple[Tensor, Tensor]:
        """Images of a block, and where they were changed: block 0 leaves them as they are."""
        if block == 0:
            return images, torch.zeros(len(images), *images.shape[-2:], dtype=torch.bool, device=images.device)
        return transformed(images, dict(self.config.blocks[block - 1]), seeds)

    def mean_features(self, images: Tensor) -> CobraOutput:
        """Projections ``(N, K, 128)`` and logits ``(N, K, K)`` per scored block, averaged over the views.

        Views are drawn from fixed seeds, the same for every image: a score depends on nothing but its image.
        """
        crop = SCORING_CROP if self.config.crop else None
        projections, logits = [], []
        for block in range(self.config.num_scored):
            outputs = []
            for view in range(self.config.views):
                random = np.random.RandomState(derive_seed(0, "view", view) % 2**32)
                varied = self.config.views > 1
                x = flipped(images, random, alike=True) if varied and self.config.mirror else images
                x, _ = self.in_block(x, block, [derive_seed(0, "block", view, block)] * len(x))
                x = augmented(x, random, crop=crop, jitter=self.config.jitter, alike=True) if varied else x
                outputs.append(self.features(x))
            projections.append(torch.stack([output.projections for output in outputs]).mean(0))
            logits.append(torch.stack([output.logits for output in outputs]).mean(0))
        return CobraOutput(torch.stack(projections, dim=1), torch.stack(logits, dim=1))

    def normality(self, features: CobraOutput) -> Tensor:
        """Normality ``(N,)`` of mean features: likeness to the nearest axis plus block logit, weighed per block.

        Source: COBRA, released ``eval.py``.
        """
        terms = []
        for block in range(features.projections.shape[1]):
            if "likeness" in self.config.terms:
                likeness = (features.projections[:, block] @ self.axes[block].T).amax(dim=1)
                terms.append(likeness * self.projection_weights[block])
            if "logit" in self.config.terms:
                terms.append(features.logits[:, block, block] * self.logit_weights[block])
        return torch.stack(terms).sum(0) / features.projections.shape[1]

    def forward(self, images: Tensor) -> Prediction:
        """Scores of images ``(N, 3, S, S)`` in [0, 1]; no maps."""
        if self.lacking:
            raise ValueError(f"this COBRA detector {self.lacking}")
        return Prediction(-self.normality(self.mean_features(images)), None)

    @property
    def lacking(self) -> str:
        """See `AnomalyDetector.lacking`."""
        if self.config.num_axes:
            return ""
        return (
            "has no memory of normal images yet; import it with `robustad import-official FILE OUT --normal DIR`, "
            "or call `remember` with some"
        )

    @torch.no_grad()
    def remember(self, batches: Iterable[Tensor]) -> Cobra:
        """Fill the memory with the mean features of normal images, batch by batch; see ``max_axes``.

        Raises:
            ValueError: If there is no image.
        """
        self.eval()
        parts = [self.mean_features(to_device(batch, device_of(self))) for batch in batches]
        if not parts:
            raise ValueError("there is no normal image to remember")
        self._set_memory(CobraOutput(*(torch.cat(field) for field in zip(*parts, strict=True))))
        return self

    def complete(self, batches: Iterable[Tensor]) -> None:
        """See `AnomalyDetector.complete`."""
        self.remember(batches)

    def _set_memory(self, features: CobraOutput) -> None:
        count, blocks = features.projections.shape[:2]
        lengths = features.projections.norm(dim=2)  # (N, K)
        axes = features.projections / (lengths[..., None] + _EPS)
        diagonal = features.logits.diagonal(dim1=1, dim2=2)[:, :blocks]
        axes = axes.transpose(0, 1)  # (N, K, 128) -> (K, N, 128)
        if 0 < self.config.max_axes < count:
            axes = torch.stack([rows[farthest_points(rows, self.config.max_axes)] for rows in axes])
        self.config = dataclasses.replace(self.config, num_axes=axes.shape[1])
        self.axes = axes.to(self.axes).contiguous()
        self.projection_weights = 1 / lengths.mean(0).to(self.projection_weights)
        logits = diagonal.mean(0).to(self.logit_weights)
        # a classifier that does not know its own normal images says nothing, and must not turn the score around
        self.logit_weights = torch.where(logits > 0, 1 / logits, 0)
