"""The contract of every attack: what is maximised, in which ball, and what the caller can rely on."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from robustad._checks import check_at_least, check_choice, check_epsilon, check_images
from robustad._random import torch_generator
from robustad.attacks.projections import NORMS, Ball

Objective = Callable[[Tensor, Tensor], Tensor]
"""``objective(images, index) -> (n,)``: one value per image, to be maximised; ``index`` says which of the batch."""


@dataclass
class Best:
    """The best image seen so far, per image of the batch."""

    images: Tensor
    values: Tensor

    def update(self, images: Tensor, values: Tensor) -> None:
        """Keep ``images`` where their ``values`` are higher than what is kept."""
        better = values > self.values
        self.values = torch.where(better, values, self.values)
        self.images = torch.where(better[:, None, None, None], images, self.images)


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """Maximises an objective over images in a ball around the given ones.

    A subclass writes only `run`. Calling an attack guarantees: results lie in the ball and in [0, 1]; with
    ``keep="best"`` no result is worse than the clean image; epsilon 0 returns the input; the model's mode, its
    gradients and the global random state are as before; random starts depend on the generator and on the image
    itself, never on its place in the batch.

    Attributes:
        norm: ``linf`` or ``l2``.
        restarts: Independent runs; the best result of all counts.
        keep: ``best`` iterate by the objective's own value, or the ``last`` one (published protocol).
    """

    uses_gradient: ClassVar[bool] = True
    """Whether the objective has to be differentiable."""

    norm: str = "linf"
    restarts: int = 1
    keep: str = "best"

    def __post_init__(self) -> None:
        check_choice("norm", self.norm, NORMS)
        check_choice("keep", self.keep, ("best", "last"))
        check_at_least("restarts", self.restarts, 1)

    @property
    @abstractmethod
    def passes(self) -> int:
        """Times that each image goes through the network in one run; a pass with its gradient counts once."""

    @property
    def effort(self) -> str:
        """What one run costs, in the words of the field."""
        return f"{getattr(self, 'steps', self.passes)} steps"

    @final
    def __call__(
        self, objective: Objective, images: Tensor, *, epsilon: float, generator: torch.Generator | None = None
    ) -> Tensor:
        """Perturbed images ``(N, 3, H, W)`` in [0, 1].

        Args:
            objective: See `Objective`; differentiable for gradient attacks.
            images: Clean images ``(N, 3, H, W)`` in [0, 1].
            epsilon: Radius of the ball, in pixel units of [0, 1] (8 grey levels are 8/255).
            generator: Source of random starts; the same generator state gives the same result.
        """
        check_images(images)
        check_epsilon(epsilon, norm=self.norm)
        if epsilon == 0 or len(images) == 0:
            return images.detach().clone()
        key = int(torch.randint(2**62, (1,), generator=generator)) if generator is not None else 0
        clean = images.detach()
        ball = Ball(clean, epsilon, self.norm)
        best = Best(clean.clone(), self._values(objective, clean))
        result = best.images
        for restart in range(self.restarts):
            result = self.run(objective, clean, ball, _image_noise(clean, key, restart), best, restart)
        if self.keep == "best" or self.restarts > 1:
            result = best.images
        return ball.clip(result).detach()

    @abstractmethod
    def run(self, objective: Objective, clean: Tensor, ball: Ball, noise: Tensor, best: Best, restart: int) -> Tensor:
        """One run; returns its last iterate and reports each iterate to ``best``.

        Args:
            objective: What to maximise.
            clean: The images.
            ball: Where to search.
            noise: Standard uniform noise in [-1, 1], one field per image, for a random start.
            best: Keeper of the best iterate.
            restart: Number of this run.
        """

    @staticmethod
    def _values(objective: Objective, images: Tensor) -> Tensor:
        with torch.no_grad():
            return objective(images, torch.arange(len(images), device=images.device)).detach()


def value_and_grad(objective: Objective, images: Tensor) -> tuple[Tensor, Tensor]:
    """Objective values ``(N,)`` and their gradients ``(N, 3, H, W)``; parameters collect nothing."""
    with torch.enable_grad():
        x = images.detach().requires_grad_(True)
        values = objective(x, torch.arange(len(x), device=x.device))
        # sum, not mean: keeps the gradients of the images independent of each other
        (gradient,) = torch.autograd.grad(values.sum(), x)
    return values.detach(), gradient


def image_generators(noise: Tensor) -> list[torch.Generator]:
    """A source of random numbers for each image, which depends on its own noise and on nothing else of the batch."""
    fields = (field.detach().cpu().to(torch.float32).numpy().tobytes() for field in noise)
    return [torch_generator(zlib.crc32(field), "image") for field in fields]


def _image_noise(images: Tensor, key: int, restart: int) -> Tensor:
    fields = []
    for image in images:
        content = zlib.crc32(image.detach().cpu().to(torch.float32).numpy().tobytes())
        generator = torch_generator(key, restart, content)
        fields.append(torch.rand(image.shape, generator=generator, dtype=torch.float32) * 2 - 1)
    return torch.stack(fields).to(images)
