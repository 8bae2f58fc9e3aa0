"""The contract of every attack: what is maximised, in which ball, and what the caller can rely on."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from torch import Tensor

from robustad._checks import check_at_least, check_choice, check_epsilon, check_images
from robustad._devices import to_device
from robustad._random import torch_generator
from robustad.attacks.projections import NORMS, Ball

Objective = Callable[[Tensor, Tensor], Tensor]
"""``objective(images, index) -> (n,)``: one value per image, to be maximised; ``index`` says which of the batch."""


@dataclass
class Best:
    """The best image seen so far, per image of the batch.

    Attributes:
        images: ``(N, 3, H, W)``.
        values: ``(N,)``.
        goals: Values ``(N,)`` from which on an image is worked on no more; None = always.
        undefined: Whether a value was NaN ``(N,)``, of whatever image: no comparison would show it.
    """

    images: Tensor
    values: Tensor
    goals: Tensor | None = None
    undefined: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.undefined = self.values.isnan()

    def update(self, images: Tensor, values: Tensor, index: Tensor) -> None:
        """Keep ``images`` where their ``values`` are higher than what is kept of the images ``index``."""
        self.note(values, index)
        if len(index) == len(self.values):  # all of them, in their order: as below, without picking them out
            better = values > self.values
            self.images = torch.where(better[:, None, None, None], images, self.images)
            self.values = torch.where(better, values, self.values)
            return
        better = values > self.values[index]
        self.images[index] = torch.where(better[:, None, None, None], images, self.images[index])
        self.values[index] = torch.where(better, values, self.values[index])

    def note(self, values: Tensor, index: Tensor) -> None:
        """Remember for which of the images ``index`` a value was NaN."""
        self.undefined[index] |= values.isnan()

    def check(self) -> None:
        """Refuse what nothing can be said about.

        Raises:
            ValueError: If any value was NaN.
        """
        count = int(self.undefined.sum())
        if count:
            raise ValueError(
                f"the detector gave NaN for an attacked image ({count} of {len(self.values)}); correct it, then test "
                "again"
            )

    def unfinished(self, index: Tensor) -> Tensor:
        """Which of the images ``index`` have not reached their goal: bool, as long as ``index``."""
        if self.goals is None:
            return torch.ones_like(index, dtype=torch.bool)
        return self.values[index] < self.goals[index]


class Climb:
    """One run on the images that are still worked on: fewer and fewer, where images have goals.

    Args:
        objective: What is maximised.
        ball: Where to search, for the whole batch.
        best: Keeper of the best iterates.
        index: The images of the batch that this run begins with, ascending.
        start: Where a run begins that does not begin at random ``(N, 3, H, W)``, for the whole batch.
    """

    def __init__(self, objective: Objective, ball: Ball, best: Best, index: Tensor, start: Tensor) -> None:
        self.objective, self.best, self.index = objective, best, index
        self.ball, self.start = ball.part(index), start[index]
        self._ends = start.clone()

    @property
    def clean(self) -> Tensor:
        """The clean images."""
        return self.ball.centre

    def values(self, x: Tensor) -> Tensor:
        """Values ``(n,)`` of iterates ``(n, 3, H, W)``, which are kept where they are the best so far."""
        with torch.no_grad():
            values = self.objective(x, self.index).detach()
        self.best.update(x, values, self.index)
        return values

    def slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`values` and their gradients ``(n, 3, H, W)``."""
        values, gradient = value_and_grad(self.objective, x, self.index)
        self.best.update(x, values, self.index)
        return values, usable(gradient)

    def narrow(self, x: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        """Leave finished images alone from here on; ``x`` and whatever else is kept per image become shorter."""
        if self.best.goals is None:  # and the processor need not wait for the device to say so
            return (x, *others)
        stay = self.best.unfinished(self.index)
        if bool(stay.all()):
            return (x, *others)
        self._ends[self.index[~stay]] = x[~stay]
        self.index, self.ball = self.index[stay], self.ball.part(stay)
        return tuple(part[stay] for part in (x, *others))

    def ended(self, x: Tensor) -> Tensor:
        """Last iterates of all images ``(N, 3, H, W)``, those included that were finished earlier."""
        self._ends[self.index] = x
        return self._ends


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

    name: ClassVar[str]
    """What tables call it."""
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
    def begins_at_start(self) -> bool:
        """Whether a first run begins by looking at its start itself, so that nobody else has to."""
        return False

    @property
    def effort(self) -> str:
        """What one run costs, in the words of the field."""
        return f"{getattr(self, 'steps', self.passes)} steps"

    @final
    def __call__(
        self,
        objective: Objective,
        images: Tensor,
        *,
        epsilon: float,
        generator: torch.Generator | None = None,
        mask: Tensor | None = None,
        goals: Tensor | None = None,
        start: Tensor | None = None,
    ) -> Tensor:
        """Perturbed images ``(N, 3, H, W)`` in [0, 1].

        Args:
            objective: See `Objective`; differentiable for gradient attacks.
            images: Clean images ``(N, 3, H, W)`` in [0, 1].
            epsilon: Radius of the ball, in pixel units of [0, 1] (8 grey levels are 8/255).
            generator: Source of random starts; the same generator state gives the same result.
            mask: Pixels that may change ``(N, H, W)``, bool; None = all.
            goals: Values ``(N,)`` from which on an image is left alone, which saves its passes; None = none.
            start: Where the first run begins ``(N, 3, H, W)``, unless it begins at random; drawn into the ball if it
                lies outside. ``keep="best"`` never returns less. None = the clean images.

        Raises:
            ValueError: If the arguments do not fit each other, or a value on the way was NaN.
        """
        check_images(images)
        check_epsilon(epsilon, norm=self.norm)
        if mask is not None and mask.shape != (len(images), *images.shape[-2:]):
            raise ValueError(f"`mask` must be {(len(images), *images.shape[-2:])}, got {tuple(mask.shape)}")
        if start is not None and start.shape != images.shape:
            raise ValueError(f"`start` must be {tuple(images.shape)} as the images are, got {tuple(start.shape)}")
        if epsilon == 0 or len(images) == 0:
            return images.detach().clone()
        key = int(torch.randint(2**62, (1,), generator=generator)) if generator is not None else 0
        clean = images.detach()
        ball = Ball(clean, epsilon, self.norm, None if mask is None else mask[:, None])
        every = torch.arange(len(clean), device=clean.device)
        best = Best(clean.clone(), clean.new_full((len(clean),), -torch.inf), goals)
        given = [clean] if start is None else [clean, ball.clip(start.detach())]
        # where images may be done with before the run begins, what it starts from has to be looked at as well
        looked_at = given[:-1] if self.begins_at_start and (start is None or goals is None) else given
        with torch.no_grad():
            for x in looked_at:
                best.update(x, objective(x, every).detach(), every)
        result = start = given[-1]
        for restart in range(self.restarts):
            open_ones = every[best.unfinished(every)]
            if len(open_ones):
                noise = _image_noise(clean[open_ones], key, restart)
                result = self.run(Climb(objective, ball, best, open_ones, start), noise, restart)
        best.check()
        if self.keep == "best" or self.restarts > 1:
            result = best.images
        return ball.clip(result).detach()

    @abstractmethod
    def run(self, climb: Climb, noise: Tensor, restart: int) -> Tensor:
        """One run; returns the last iterates, `Climb.ended`.

        Args:
            climb: The images, the objective, and where to search.
            noise: Standard uniform noise in [-1, 1], one field per image, for a random start.
            restart: Number of this run.
        """


def value_and_grad(objective: Objective, images: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Objective values ``(N,)`` and their gradients ``(N, 3, H, W)``; parameters collect nothing."""
    index = torch.arange(len(images), device=images.device) if index is None else index
    with torch.enable_grad():
        x = images.detach().requires_grad_(True)
        values = objective(x, index)
        # sum, not mean: keeps the gradients of the images independent of each other
        (gradient,) = torch.autograd.grad(values.sum(), x)
    return values.detach(), gradient


def usable(gradient: Tensor) -> Tensor:
    """A gradient whose pixels are all numbers: one that is not would decide, or stop, the step of its whole image.

    NaN stands for no slope, and an infinite slope for the steepest of the others.
    """
    if gradient.device.type == "cpu" and bool(gradient.sum().isfinite()):  # elsewhere asking would stop the device
        return gradient
    steepest = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).abs().amax(dim=(1, 2, 3), keepdim=True)
    return gradient.nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf).clamp(-steepest, steepest)


def image_generators(noise: Tensor) -> list[torch.Generator]:
    """A source of random numbers for each image, which depends on its own noise and on nothing else of the batch."""
    return [torch_generator(content_key(field), "image") for field in noise.detach().cpu()]


def content_key(image: Tensor) -> int:
    """A number for an image's pixels: what is drawn for it depends on nothing else, such as its place in a batch."""
    return zlib.crc32(image.detach().cpu().to(torch.float32).numpy().tobytes())


def _image_noise(images: Tensor, key: int, restart: int) -> Tensor:
    fields = []
    for image in images.cpu():
        generator = torch_generator(key, restart, content_key(image))
        fields.append(torch.rand(image.shape, generator=generator, dtype=torch.float32) * 2 - 1)
    return to_device(torch.stack(fields).to(images.dtype), images.device)
