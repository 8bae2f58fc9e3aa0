"""What normal images look like, as a second input: the difference to the most similar normal images.

A small ViT that learns from random weights needs most of its time to find out where the parts of a normal object lie.
The training images themselves say so from the first step, and a defect stands out against them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustad._devices import to_device

_CELLS = 32  # images are matched on a grid of this many cells per side, or on their pixels if they have fewer
_SOFTNESS = 2 / 255  # RMS difference, pixel units of [0, 1], that lowers a reference's weight by 1/e
_SMALLEST = 4 / 255  # differences are scaled by their spread among normal images, but never by less than this


class _Bank(NamedTuple):
    """The references in the form in which images are compared with them.

    Attributes:
        mean: Their mean ``(3, s, s)``.
        rows: How each differs from it ``(R, 3 * s * s)``.
        light: The mean of each channel of each ``(R, 3)``.
        coarse: The grids ``(R, D)`` that images are matched on: as they are, and without the means of the channels.
        sources: Number of each ``(R,)``, see `ReferenceStem.fit`.
        repeats: Logarithm of how often each one is kept ``(R,)``: a set that is smaller than what is kept is repeated.
    """

    mean: Tensor
    rows: Tensor
    light: Tensor
    coarse: tuple[Tensor, Tensor]
    sources: Tensor
    repeats: Tensor

    @classmethod
    def of(cls, references: Tensor, sources: Tensor, distinct: int, dtype: torch.dtype) -> _Bank:
        """The bank of references ``(R, 3, s, s)``, its rows in a type of their own: near zero, little is rounded.

        The first ``distinct`` of them are repeated.
        """
        whole, more = divmod(len(references), distinct)
        counts = whole + (torch.arange(distinct, device=references.device) < more)
        references, sources = references[:distinct], sources[:distinct]
        mean, light = references.mean(dim=0), references.mean(dim=(2, 3))
        rows = (references - mean).flatten(1).to(dtype)
        coarse = (_coarse(references), _coarse(_centred(references)))
        return cls(mean, rows, light, coarse, sources, counts.to(references.dtype).log())


class ReferenceStem(nn.Module):
    """Averages ``pool x pool`` pixels and adds the difference to a soft mixture of the nearest normal images.

    Twice: as they are, and without each image's mean per channel, which a drift of the light does not move.

    Args:
        image_size: Side of the images, pixels.
        pool: Average this many pixels, each direction.
        num_references: Normal images to keep, at most; 0 = pooling only.
        detail: Also add the difference of each pixel to its column and to its row, for small defects on grounds that
            vary from image to image: brushed, woven, shaded ones.
    """

    references: Tensor
    sources: Tensor
    pixel_std: Tensor
    gain: Tensor
    detail_gain: Tensor

    def __init__(self, image_size: int, *, pool: int, num_references: int, detail: bool = False) -> None:
        super().__init__()
        if image_size % pool:
            raise ValueError(f"`image_size` must be a multiple of the pooling factor {pool}, got {image_size}")
        self.pool, self.num_references, self.detail = pool, num_references, detail
        self.out_channels = 3 * (1 + 2 * bool(num_references) + 2 * detail)
        side = image_size // pool
        self.register_buffer("references", torch.zeros(num_references, 3, side, side))
        self.register_buffer("sources", torch.full((num_references,), -1))
        self.register_buffer("pixel_std", torch.ones(3))
        self.register_buffer("gain", torch.ones(2))
        self.register_buffer("detail_gain", torch.ones(()))
        self._left_out: Tensor | None = None
        self._distinct = num_references  # the others are repetitions
        self._banks: dict[torch.dtype, _Bank] = {}  # derived from the references, made when first needed
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]

    def _apply(self, *args: Any, **kwargs: Any) -> ReferenceStem:
        """Other device or precision: what was derived is made anew."""
        self._banks.clear()
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        return self

    @contextmanager
    def leaving_out(self, sources: Tensor) -> Iterator[None]:
        """Compare image ``n`` of the batches in this block with all references but those of source ``sources[n]``.

        Batches may be multiples: image ``n + len(sources)`` has source ``sources[n]`` as well. Training needs it: a
        normal image would find itself.
        """
        self._left_out = sources
        try:
            yield
        finally:
            self._left_out = None

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images ``(N, 3, S, S)`` to channels ``(N, out_channels, S / pool, S / pool)``."""
        pooled = F.avg_pool2d(images, self.pool) if self.pool > 1 else images
        parts = [pooled]
        if self.num_references:
            parts += [gain * part for gain, part in zip(self.gain, self.differences(pooled), strict=True)]
        if self.detail:
            parts += [self.detail_gain * part for part in self.line_differences(pooled)]
        return torch.cat(parts, dim=1)

    def line_differences(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Differences ``(N, 3, s, s)`` of each pixel to the mean of its column, and of its row, pixels of [0, 1].

        Means are taken over half the image, around the pixel.
        """
        pixels = pooled * self.pixel_std[:, None, None]
        half = pooled.shape[-1] // 4
        column, row = (
            F.avg_pool2d(pixels, size, stride=1, padding=(size[0] // 2, size[1] // 2), count_include_pad=False)
            for size in ((2 * half + 1, 1), (1, 2 * half + 1))
        )
        return pixels - column, pixels - row

    def differences(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Differences ``(N, 3, s, s)`` of pooled normalised images to their nearest references, pixels of [0, 1].

        The first as they are, the second without each image's mean.
        """
        kind = pooled.device.type
        rounded = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16
        with torch.autocast(kind, enabled=False):  # a grey level is 1/255: bfloat16 rounds it away
            pixels = pooled.to(self.references.dtype) * self.pixel_std[:, None, None]
            bank, light = self._bank(torch.bfloat16 if rounded else pixels.dtype), _centred(pixels)
            weights = [self._weights(x, grid, bank) for x, grid in zip((pixels, light), bank.coarse, strict=True)]
            # one product for both: the rows are most of what has to be read
            mixed = (torch.cat(weights).to(bank.rows.dtype) @ bank.rows).to(pixels.dtype)
            nearest, nearest_light = bank.mean + mixed.view(2, *pixels.shape)
            return pixels - nearest, light - nearest_light + (weights[1] @ bank.light)[:, :, None, None]

    def _bank(self, dtype: torch.dtype) -> _Bank:
        if dtype not in self._banks:
            self._banks[dtype] = _Bank.of(self.references, self.sources, self._distinct, dtype)
        return self._banks[dtype]

    def _weights(self, images: Tensor, grid: Tensor, bank: _Bank) -> Tensor:
        """How much each reference of the bank counts ``(N, R)``, by its likeness to the image; the sum is 1."""
        logits = bank.repeats - _distances(_coarse(images), grid) / _SOFTNESS**2
        if self._left_out is not None:
            same = self._left_out.repeat(len(images) // len(self._left_out))[:, None] == bank.sources
            logits = logits.masked_fill(same & ~same.all(1, keepdim=True), -torch.inf)  # a lone image has no other
        return logits.softmax(dim=1)

    @torch.no_grad()
    def fit(self, images: Tensor, pixel_std: Tensor, sources: Tensor, *, seed: int) -> None:
        """Keep normal images as references, and find the scale of the differences.

        Args:
            images: Normalised normal images ``(M, 3, S, S)``.
            pixel_std: What the images were divided by ``(3,)``.
            sources: Number of each image ``(M,)``, not negative, by which `leaving_out` knows it again.
            seed: Seed of the choice of references among more images than are kept.
        """
        self.pixel_std = pixel_std.flatten().to(self.references)
        pooled = F.avg_pool2d(images, self.pool)
        if self.detail:
            spread = torch.stack(self.line_differences(pooled)).square().mean().sqrt()
            self.detail_gain = 1 / spread.clamp_min(_SMALLEST)
        if not self.num_references:
            return
        pixels = pooled * self.pixel_std[:, None, None]
        chosen = _representatives(_coarse(_centred(pixels)), self.num_references, seed=seed)
        self.references, self.sources = pixels[chosen], sources[chosen].to(self.sources)
        self._distinct = min(len(images), self.num_references)
        self._banks.clear()
        with self.leaving_out(sources):
            parts = self.differences(pooled)
        self.gain = torch.stack([1 / part.square().mean().sqrt().clamp_min(_SMALLEST) for part in parts])


def _representatives(rows: Tensor, count: int, *, seed: int) -> Tensor:
    """Numbers of ``count`` rows that stand for all: of each k-means cluster the row nearest to its centre.

    Fewer rows than ``count`` are repeated.
    """
    if len(rows) <= count:
        return torch.arange(count) % len(rows)
    from sklearn.cluster import KMeans

    found = KMeans(count, n_init=1, max_iter=10, random_state=seed % 2**32).fit(rows.cpu().numpy())
    return _distances(torch.from_numpy(found.cluster_centers_).to(rows), rows).argmin(dim=1)


def _distinct(references: Tensor, sources: Tensor) -> int:
    """How many references there are before they are repeated; all, where they are not."""
    again = (sources == sources[:1]).nonzero()[1:2, 0].tolist()
    count = again[0] if again else len(sources)
    repeated = references[torch.arange(len(sources), device=sources.device) % max(1, count)]
    return count if torch.equal(references, repeated) else len(sources)


def _forget(stem: ReferenceStem, _keys: Any) -> None:
    """Other references: what was derived is made anew."""
    stem._banks.clear()
    stem._distinct = _distinct(stem.references, stem.sources)


def _centred(images: Tensor) -> Tensor:
    return images - images.mean(dim=(2, 3), keepdim=True)


def _coarse(images: Tensor) -> Tensor:
    side = images.shape[-1]
    cells = min(_CELLS, side)
    if side % cells == 0:
        return F.avg_pool2d(images, side // cells).flatten(1)
    # a product, since not every device pools into cells of different sizes
    across = to_device(_cells(side, cells).to(images.dtype), images.device)
    return (across @ images @ across.T).flatten(1)


@cache
def _cells(side: int, cells: int) -> Tensor:
    """Means of ``side`` pixels over ``cells`` that cover them evenly, as a matrix ``(cells, side)``."""
    with torch.inference_mode(False):  # kept: a pass with gradients may be the next to use it
        return F.adaptive_avg_pool1d(torch.eye(side)[None], cells)[0].T.contiguous()


def _distances(images: Tensor, references: Tensor) -> Tensor:
    """Mean squared differences ``(N, R)`` of rows ``(N, D)`` and ``(R, D)``."""
    products = images @ references.T
    squares = images.square().sum(1)[:, None] + references.square().sum(1)[None]
    return (squares - 2 * products).clamp_min(0) / images.shape[1]
