"""Threats beside small perturbations of one image: a sticker on it, and one perturbation for all images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustad._checks import check_at_least, check_epsilon
from robustad._devices import device_of
from robustad._progress import Progress
from robustad._random import torch_generator
from robustad.attacks import APGD, AdversarialPatch, Attack, ScoreObjective, Square, universal_perturbation
from robustad.data import ImageDataset
from robustad.evaluation.ensemble import in_range
from robustad.evaluation.figures import Subject, defined
from robustad.evaluation.rows import Row
from robustad.evaluation.store import Store
from robustad.evaluation.witness import Witness, away, frozen, gradient_lack
from robustad.metrics import auroc

STICKER, UNIVERSAL = "sticker", "universal"
MAX_FITTED = 64
"""Images of a class, at most, that a universal perturbation is found on."""
BATCH = 16
"""Images of a step towards a universal perturbation."""
QUERIES = 500
"""Queries for the look of a sticker at each place, where gradients are not there or cannot be believed."""
UNIVERSAL_QUERIES = 200
"""Perturbations that are tried on all fitted images, likewise."""


@dataclass(frozen=True, kw_only=True)
class ThreatConfig:
    """What is tried.

    Attributes:
        stickers: Sides of square stickers, as shares of the image's side, in (0, 1]: each image gets the worst look at
            the worst of four places.
        sticker_draws: Quarter turns and changes of brightness that a sticker has to work under on average, as a printed
            one would; 1 = as it is.
        universal: Radii (pixel units of [0, 1]) of one perturbation for all images of a class. It is found on one half
            of their groups and tried on the other, and the other way round: no object helps to find its own.
        norm: Of ``universal``: ``linf`` or ``l2``.
        steps: Gradient steps for the look of a sticker at each place, and at least for a universal perturbation.
        draws: Calls of the detector whose mean every step follows; see `robustad.evaluation.Suite`.
        white_box: Whether gradients are followed; not where there are none.
        without_gradient: Search without gradients as well, and count what does more harm: where a health check says
            that gradients cannot be believed.
    """

    stickers: tuple[float, ...] = ()
    sticker_draws: int = 1
    universal: tuple[float, ...] = ()
    norm: str = "linf"
    steps: int = 40
    draws: int = 1
    white_box: bool = True
    without_gradient: bool = False

    def __post_init__(self) -> None:
        check_at_least("sticker_draws", self.sticker_draws, 1)
        for side in self.stickers:
            AdversarialPatch(side=side, draws=self.sticker_draws)  # which refuses what makes no sense
        for epsilon in self.universal:
            check_epsilon(epsilon, norm=self.norm, name="universal")
            if epsilon == 0:
                raise ValueError("`universal` must hold radii above 0")
        for name in ("stickers", "universal"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"`{name}` must not hold a value twice, got {list(values)}")


@dataclass(frozen=True, kw_only=True)
class Threat:
    """Scores of all images under one threat.

    Attributes:
        name: `STICKER` or `UNIVERSAL`.
        size: Side of the sticker, or radius.
        scores: ``(N,)``.
        norm: Of the radius; `STICKER` for a side.
    """

    name: str
    size: float
    scores: NDArray[np.float32]
    norm: str


def evaluate_threats(
    detector: Any,
    dataset: ImageDataset,
    config: ThreatConfig,
    *,
    batch_size: int = 32,
    seed: int = 0,
    store: Store | None = None,
    show_progress: bool = True,
) -> list[Threat]:
    """Score a data set under every threat; both normal and anomalous images are attacked through the reported score.

    Raises:
        ValueError: If there is no image.
    """
    if len(dataset) == 0:
        raise ValueError("there is no test image")
    work = _Work(detector, dataset, config, batch_size=batch_size, seed=seed, store=store or Store())
    total = len(dataset) * (len(config.stickers) + len(config.universal))
    with frozen(detector), Progress("threatening", total, unit="images", enabled=show_progress) as shown:
        found = [work.sticker(side, shown) for side in config.stickers]
        return found + [work.universal(epsilon, shown) for epsilon in config.universal]


class _Work:
    def __init__(
        self, detector: Any, dataset: ImageDataset, config: ThreatConfig, *, batch_size: int, seed: int, store: Store
    ) -> None:
        self.detector, self.dataset, self.config = detector, dataset, config
        self.batch_size, self.seed, self.store = batch_size, seed, store
        blind = bool(gradient_lack(detector)) or not config.white_box
        self.climbs, self.queries = not blind, blind or config.without_gradient
        self.labels = torch.tensor([bool(sample.label) for sample in dataset.samples])

    def images(self, index: Sequence[int]) -> Tensor:
        images = torch.stack([self.dataset[i]["image"] for i in index]).float() / 255
        return images.to(device_of(self.detector))

    def objective(self, index: Sequence[int]) -> ScoreObjective:
        witness = Witness(self.detector, draws=self.config.draws)
        return ScoreObjective(witness.scores, self.labels[list(index)].to(device_of(self.detector)))

    def scores(self, images: Tensor, *, draws: int = 1) -> NDArray[np.float32]:
        witness = Witness(self.detector, draws=draws)
        with torch.no_grad():
            found: NDArray[np.float32] = in_range(witness.scores(images)).float().cpu().numpy()
        if np.isnan(found).any():
            raise ValueError("the detector gave NaN for an attacked image; correct it, then test again")
        return found

    def chunks(self, index: Sequence[int]) -> list[Sequence[int]]:
        return [index[i : i + self.batch_size] for i in range(0, len(index), self.batch_size)]

    def sticker(self, side: float, shown: Progress) -> Threat:
        """Every image with the worst sticker that was found for it."""
        looks = [APGD(steps=self.config.steps)] * self.climbs + [Square(queries=QUERIES)] * self.queries
        parts = []
        for chunk in self.chunks(range(len(self.dataset))):
            key = (STICKER, chunk, side, looks, self.config.sticker_draws, self.config.draws, self.seed)
            arrays = self.store.get(*key)
            if arrays is None:
                arrays = {"scores": self._stuck(chunk, side, looks)}
                self.store.put(arrays, *key)
            parts.append(arrays["scores"])
            shown.update(len(chunk), note=f"sticker, {side:.0%} of the side")
        return Threat(name=STICKER, size=side, scores=np.concatenate(parts), norm=STICKER)

    def _stuck(self, chunk: Sequence[int], side: float, looks: Sequence[Attack]) -> NDArray[np.float32]:
        objective, images = self.objective(chunk), self.images(chunk)
        stuck = [images]  # a look that has to work when turned may do good as it is
        for look in looks:
            attack = AdversarialPatch(side=side, attack=look, draws=self.config.sticker_draws)
            stuck.append(attack(objective, images, seed=self.seed))
        found = np.stack([self.scores(candidate, draws=self.config.draws) for candidate in stuck])  # (K, N)
        worst = (found * away(self.labels[list(chunk)]).numpy()).argmax(axis=0)
        if self.config.draws == 1:
            taken: NDArray[np.float32] = np.take_along_axis(found, worst[None], axis=0)[0]
            return taken
        # means chose, and what was chosen is seen once more: the worst of single calls is worse than the next one
        return self.scores(torch.stack([stuck[k][i] for i, k in enumerate(worst)]))

    def universal(self, epsilon: float, shown: Progress) -> Threat:
        """Every image under the perturbation that was found on other images of its class."""
        scores = np.empty(len(self.dataset), dtype=np.float32)
        for label in (False, True):
            halves = self._halves(label)
            for half, tried in enumerate(halves):
                fitted, config = halves[1 - half], self.config
                way = (config.norm, self.climbs, self.queries, config.draws, config.steps, self.batch_size)
                key = (UNIVERSAL, label, half, epsilon, *way, self.seed)
                arrays = self.store.get(*key)
                if arrays is None:
                    arrays = {"scores": self._transferred(fitted, tried, epsilon)}
                    self.store.put(arrays, *key)
                scores[tried] = arrays["scores"]
                shown.update(len(tried), note="one perturbation for all")
        return Threat(name=UNIVERSAL, size=epsilon, scores=scores, norm=self.config.norm)

    def _halves(self, label: bool) -> list[list[int]]:
        """Images of a class, object by object in turn."""
        groups = [self.dataset.samples[i].group for i in range(len(self.labels))]
        members = [i for i, one in enumerate(self.labels.tolist()) if one == label]
        turn = {group: number for number, group in enumerate(dict.fromkeys(groups[i] for i in members))}
        return [[i for i in members if turn[groups[i]] % 2 == half] for half in range(2)]

    def _transferred(self, fitted: Sequence[int], tried: Sequence[int], epsilon: float) -> NDArray[np.float32]:
        """Scores of the tried images under the perturbation that was found on the fitted ones."""
        count = min(MAX_FITTED, len(fitted))
        fitted = [fitted[i * len(fitted) // count] for i in range(count)]
        if tried and not fitted:  # nothing to find it on
            return np.full(len(tried), np.nan, dtype=np.float32)
        delta = self._common(fitted, epsilon) if tried else 0.0
        parts = [self.scores((self.images(chunk) + delta).clamp(0, 1)) for chunk in self.chunks(tried)]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)

    def _common(self, fitted: Sequence[int], epsilon: float) -> Tensor:
        """The perturbation with the highest mean objective over these images."""
        objective, images, norm = self.objective(fitted), self.images(fitted), self.config.norm
        searches = [None] * self.climbs + [Square(queries=UNIVERSAL_QUERIES, norm=norm)] * self.queries
        batch = min(BATCH, self.batch_size)
        found, passes = [], -(-self.config.steps // -(-len(fitted) // batch))
        for search in searches:
            generator = torch_generator(self.seed, UNIVERSAL)
            delta = universal_perturbation(
                objective,
                images,
                epsilon=epsilon,
                norm=norm,
                passes=passes,
                batch_size=batch,
                search=search,
                generator=generator,
            )
            parts = [self.scores((part + delta).clamp(0, 1)) for part in torch.split(images, self.batch_size)]
            wrong = np.concatenate(parts) * away(self.labels[list(fitted)]).numpy()
            found.append((float(wrong.mean()), delta))
        return max(found, key=lambda pair: pair[0])[1]


def threat_rows(threats: Sequence[Threat], labels: NDArray[np.bool_], subject: Subject) -> list[Row]:
    """Image AUROC under each threat; the side of a sticker stands in ``epsilon``, with the norm `STICKER`."""
    rows = []
    for threat in threats:
        value, reason = (
            (None, "found on other objects of the class, and there is one")
            if np.isnan(threat.scores).any()
            else defined(auroc, threat.scores, labels)
        )
        rows.append(
            Row(
                **subject.fields,
                attack=threat.name,
                norm=threat.norm,
                epsilon=threat.size,
                targets="both",
                metric="image_AUROC",
                value=value,
                reason=reason,
            )
        )
    return rows
