"""Geometry of the threat: balls around images, and the steps inside them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

NORMS = ("linf", "l2")


def per_image_norm(x: Tensor) -> Tensor:
    """L2 norm of each image, ``(N, 1, 1, 1)``, never zero."""
    norms: Tensor = x.flatten(1).norm(dim=1).clamp_min(1e-12)
    return norms[:, None, None, None]


def per_image_unit(x: Tensor) -> Tensor:
    """Each image at L2 length 1, whatever its scale: squares of very large or small values are no numbers any more."""
    largest = x.flatten(1).abs().amax(dim=1).clamp_min(torch.finfo(x.dtype).tiny)[:, None, None, None]
    scaled = x / largest
    return scaled / per_image_norm(scaled)


@dataclass(frozen=True)
class Ball:
    """All images within ``epsilon`` of ``centre`` that are images, i.e. lie in [0, 1].

    Attributes:
        centre: Clean images ``(N, 3, H, W)`` in [0, 1].
        epsilon: Radius in pixel units.
        norm: ``linf`` or ``l2``.
        mask: Pixels that may differ from the centre ``(N, 1, H, W)``, bool; None = all.
    """

    centre: Tensor
    epsilon: float
    norm: str = "linf"
    mask: Tensor | None = None

    def part(self, index: Tensor) -> Ball:
        """The ball of some of the images."""
        return Ball(self.centre[index], self.epsilon, self.norm, None if self.mask is None else self.mask[index])

    def clip(self, images: Tensor) -> Tensor:
        """Nearest point of the ball (L2: scaled towards the centre), then clipped to [0, 1]."""
        if self.norm == "linf":
            return torch.clamp(images, *self._edges)
        return (self.centre + self.shortened(images - self.centre)).clamp(0, 1)

    @cached_property
    def _edges(self) -> tuple[Tensor, Tensor]:
        """The darkest and the brightest image of an L-inf ball."""
        reach = self.allowed(torch.full_like(self.centre, self.epsilon))
        return (self.centre - reach).clamp_(0, 1), (self.centre + reach).clamp_(0, 1)

    def shortened(self, offset: Tensor) -> Tensor:
        """The offset, no longer than epsilon and only where something may change."""
        offset = self.allowed(offset)
        if self.norm == "linf":
            return offset.clamp(-self.epsilon, self.epsilon)
        return offset * (self.epsilon / per_image_norm(offset)).clamp_max(1)

    def start(self, noise: Tensor) -> Tensor:
        """A random point of the ball from uniform noise in [-1, 1]."""
        if self.norm == "linf":
            return self.clip(self.centre + self.epsilon * noise)
        noise = self.allowed(noise)
        return self.clip(self.centre + self.epsilon * noise / per_image_norm(noise))

    def direction(self, gradient: Tensor) -> Tensor:
        """Steepest ascent of length 1 in the norm."""
        gradient = self.allowed(gradient)
        return gradient.sign() if self.norm == "linf" else per_image_unit(gradient)

    def shifted(self, sign: int) -> Tensor:
        """The image of the ball with the highest (``sign`` 1) or lowest (-1) mean: every pixel moves alike.

        L2: where a pixel reaches 0 or 1, the others go further (bisection for how far).
        """
        room = self.allowed((1 - self.centre) if sign > 0 else self.centre)
        if self.norm == "linf":
            return self.centre + sign * room.clamp_max(self.epsilon)
        low, high = room.new_zeros(len(room), 1, 1, 1), room.flatten(1).amax(dim=1)[:, None, None, None]
        for _ in range(40):
            middle = (low + high) / 2
            fits = per_image_norm(room.minimum(middle)) <= self.epsilon
            low, high = middle.where(fits, low), high.where(fits, middle)
        return self.centre + sign * room.minimum(low)

    def allowed(self, offset: Tensor) -> Tensor:
        """The offset where something may change, and zero elsewhere."""
        return offset if self.mask is None else offset * self.mask
