"""What normal images look like, as a second input: the difference to the nearest of a few mean normal images.

A small ViT that learns from random weights needs most of its time to find out where the parts of a normal object lie.
A few cluster centres of the training images say so from the first step, and a defect stands out against them: as a
difference of many grey levels over many pixels, which a perturbation of a few levels cannot hide.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_CELLS = 16  # images are matched on a grid of this many cells per side
_SOFTNESS = 0.01  # RMS difference, pixel units of [0, 1], that lowers a centre's weight by 1/e
_SURROUNDINGS = 8  # the surroundings of a pixel are this fraction of the image wide
_SMALLEST = 4 / 255  # differences are scaled by their spread among normal images, but never by less than this


class ReferenceStem(nn.Module):
    """Averages ``pool x pool`` pixels and adds the difference to a soft mixture of the nearest cluster centres.

    Centres are matched and compared without each image's mean per channel, so that a drift of the light is left to
    the image channels themselves.

    Args:
        image_size: Side of the images, pixels.
        pool: Average this many pixels, each direction.
        num_references: Cluster centres; 0 = pooling only.
        detail: Also add the difference of each pixel to its surroundings, for small defects on varying grounds.
    """

    references: Tensor
    pixel_std: Tensor
    gain: Tensor
    detail_gain: Tensor

    def __init__(self, image_size: int, *, pool: int, num_references: int, detail: bool = False) -> None:
        super().__init__()
        if image_size % pool:
            raise ValueError(f"`image_size` must be a multiple of the pooling factor {pool}, got {image_size}")
        self.pool, self.num_references, self.detail = pool, num_references, detail
        self.out_channels = 3 * (1 + bool(num_references) + detail)
        side = image_size // pool
        self.register_buffer("references", torch.zeros(num_references, 3, side, side))
        self.register_buffer("pixel_std", torch.ones(3))
        self.register_buffer("gain", torch.ones(()))
        self.register_buffer("detail_gain", torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images ``(N, 3, S, S)`` to channels ``(N, 3 or 6, S / pool, S / pool)``."""
        pooled = F.avg_pool2d(images, self.pool) if self.pool > 1 else images
        parts = [pooled]
        if self.num_references:
            parts.append(self.gain * self.difference(pooled))
        if self.detail:
            parts.append(self.detail_gain * self.local_difference(pooled))
        return torch.cat(parts, dim=1)

    def local_difference(self, pooled: Tensor) -> Tensor:
        """Difference ``(N, 3, s, s)`` of each pixel to the mean of its surroundings, pixel units of [0, 1]."""
        pixels = pooled * self.pixel_std[:, None, None]
        width = pooled.shape[-1] // _SURROUNDINGS // 2 * 2 + 1
        mean = F.avg_pool2d(pixels, width, stride=1, padding=width // 2, count_include_pad=False)
        return pixels - mean

    def difference(self, pooled: Tensor) -> Tensor:
        """Difference ``(N, 3, s, s)`` of pooled normalised images to their nearest centres, pixel units of [0, 1]."""
        centred = _centred(pooled * self.pixel_std[:, None, None])
        distances = _distances(_coarse(centred), _coarse(self.references))  # (N, K)
        weights = torch.softmax(-distances / _SOFTNESS**2, dim=1).to(centred.dtype)
        mixture = (weights @ self.references.flatten(1)).view_as(centred)
        return centred - mixture

    @torch.no_grad()
    def fit(self, images: Tensor, pixel_std: Tensor, *, seed: int) -> None:
        """Find the centres by k-means, and the scale of the differences.

        Args:
            images: Normalised normal images ``(M, 3, S, S)``.
            pixel_std: What the images were divided by ``(3,)``.
            seed: Seed of the start of k-means.
        """
        self.pixel_std = pixel_std.flatten().to(self.references)
        if self.detail:
            spread = self.local_difference(F.avg_pool2d(images, self.pool)).square().mean().sqrt()
            self.detail_gain = 1 / spread.clamp_min(_SMALLEST)
        if not self.num_references:
            return
        from sklearn.cluster import KMeans

        centred = _centred(F.avg_pool2d(images, self.pool) * self.pixel_std[:, None, None])
        count = min(self.num_references, len(centred))
        labels = KMeans(count, n_init=1, max_iter=30, random_state=seed).fit_predict(_coarse(centred).numpy())
        for number in range(self.num_references):
            members = centred[torch.from_numpy(labels == number % count)]
            if len(members):
                self.references[number] = members.median(dim=0).values  # a median forgets a stray defect
        pooled = F.avg_pool2d(images, self.pool)
        spread = self.difference(pooled).square().mean().sqrt()
        self.gain = 1 / spread.clamp_min(_SMALLEST)


def _centred(images: Tensor) -> Tensor:
    return images - images.mean(dim=(2, 3), keepdim=True)


def _coarse(images: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(images, _CELLS).flatten(1).to(torch.promote_types(images.dtype, torch.float32))


def _distances(images: Tensor, references: Tensor) -> Tensor:
    """Mean squared differences ``(N, K)`` of rows ``(N, D)`` and ``(K, D)``."""
    return (images[:, None] - references[None]).square().mean(dim=2)
