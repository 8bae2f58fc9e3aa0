"""Keeps pseudo-anomalies that look normal from being learned as anomalous: candidates are drawn until one is unlikely.

A turned zero is a zero. The likelihood of an image is that of its features under one Gaussian, fitted on normal images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from sklearn.covariance import LedoitWolf
from torch import Tensor, nn
from torch.nn import functional as F

from robustad._checks import check_at_least, check_fraction
from robustad._random import derive_seed
from robustad.backbones.embedded import folded_stages

Maker = Callable[[Tensor, Sequence[int]], Tensor]
"""``maker(images, seeds)``: a candidate for each image ``(N, 3, S, S)``, from the seed of each."""
_STAGES = 5  # 112 channels at a sixteenth of the image's side
_SMALLEST = 96  # smaller images are enlarged: the trunk would leave a cell or two of them
_CHUNK = 64
_FOLDS = 5


class PooledTrunk(nn.Module):
    """Mean features ``(N, 112)`` of images ``(N, 3, S, S)`` in [0, 1], from the embedded ImageNet network."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = folded_stages(_STAGES)

    def forward(self, images: Tensor) -> Tensor:
        """Features of images of any size."""
        if min(images.shape[-2:]) < _SMALLEST:
            images = F.interpolate(images, size=(_SMALLEST, _SMALLEST), mode="bilinear", align_corners=False)
        features: Tensor = self.trunk(images)
        return features.mean(dim=(2, 3))


class LikelihoodFilter:
    """Accepts an image as anomalous if it is less likely than all but a small share of the normal images.

    Source: COBRA, the authors' poster: a Gaussian of full covariance on features of a ResNet-18, up to five tries. The
    released code has the test switched off, and it accepts nearly the opposite. Deviates: features are those of the
    embedded EfficientNet-Lite0, since no package ships a ResNet-18's weights; the covariance is shrunk, and the limit
    comes from images that the Gaussian was not fitted on, since normal images may be fewer than features.

    Args:
        normals: Normal images ``(M, 3, S, S)`` in [0, 1], at least five.
        share: Share of the normal images that may be less likely than an accepted image, in (0, 1).
        tries: Candidates per image, at most.
        features: Images to feature vectors ``(N, D)``; by default the embedded network's.

    Raises:
        MissingExtra: If the embedded weights are needed and not installed.
    """

    def __init__(
        self, normals: Tensor, *, share: float, tries: int = 5, features: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        check_fraction("share", share)
        check_at_least("tries", tries, 1)
        if len(normals) < _FOLDS:
            raise ValueError(
                f"the likelihood filter needs at least {_FOLDS} normal images, got {len(normals)}; "
                "add some, or switch it off with `filter_share` 0"
            )
        self.tries = tries
        self.features = features or PooledTrunk().eval().to(normals.device)
        rows = self._rows(normals)
        self.gaussian = _Gaussian.fitted(rows)
        self.limit = float(torch.quantile(_left_out(rows), 1 - share))

    def surprise(self, images: Tensor) -> Tensor:
        """How unlikely images ``(N, 3, S, S)`` are, ``(N,)``: squared Mahalanobis distance of their features.

        Images may lie anywhere; features are computed where those of the normal images were.
        """
        return self.gaussian.surprise(self._rows(images.to(self.gaussian.centre.device))).to(images.device)

    def accepts(self, images: Tensor) -> Tensor:
        """Whether images count as anomalous, ``(N,)`` bool."""
        return self.surprise(images) > self.limit

    def draw(self, make: Maker, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """The first accepted candidate of each image, or its least likely one if none of ``tries`` is accepted.

        The first candidate is ``make(images, seeds)``; what an image becomes depends on itself and its seed only.
        """
        chosen = make(images, seeds)
        surprise = self.surprise(chosen)
        for number in range(1, self.tries):
            open_ = (surprise <= self.limit).nonzero()[:, 0]
            if len(open_) == 0:
                break
            again = make(images[open_], [derive_seed(seeds[i], "try", number) for i in open_.tolist()])
            found = self.surprise(again)
            better = found > surprise[open_]
            chosen[open_[better]] = again[better]
            surprise[open_[better]] = found[better]
        return chosen

    @torch.no_grad()
    def _rows(self, images: Tensor) -> Tensor:
        return torch.cat([self.features(part) for part in torch.split(images, _CHUNK)]).float()


class _Gaussian(NamedTuple):
    """Centre ``(D,)`` and inverse covariance ``(D, D)`` of features."""

    centre: Tensor
    precision: Tensor

    @classmethod
    def fitted(cls, rows: Tensor) -> _Gaussian:
        found = LedoitWolf().fit(rows.double().cpu().numpy())
        return cls(torch.from_numpy(found.location_).to(rows), torch.from_numpy(found.precision_).to(rows))

    def surprise(self, rows: Tensor) -> Tensor:
        away = rows - self.centre
        return ((away @ self.precision) * away).sum(dim=1)


def _left_out(rows: Tensor) -> Tensor:
    """Surprise of each row under the rows of the other folds: under its own, many a feature would fit every row."""
    folds = torch.arange(len(rows), device=rows.device) % min(_FOLDS, len(rows))
    surprise = rows.new_empty(len(rows))
    for number in range(int(folds.max()) + 1):
        mine = folds == number
        surprise[mine] = _Gaussian.fitted(rows[~mine]).surprise(rows[mine])
    return surprise
