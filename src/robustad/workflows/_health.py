"""Health checks of a detector on a few images of a data set, kept in the store of a run."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from robustad._progress import Progress
from robustad.data import ImageDataset, Sample
from robustad.evaluation import Store, Verdict, check_health
from robustad.evaluation.health import CHECKS, EDITION
from robustad.workflows._data import thinned

NUM_IMAGES = 32


def examine(
    detector: nn.Module,
    dataset: ImageDataset,
    *,
    epsilon: float,
    seed: int,
    batch_size: int = NUM_IMAGES,
    store: Store | None = None,
) -> list[Verdict]:
    """Whether the attacked figures of ``detector`` can be believed; see `robustad.evaluation.check_health`.

    Args:
        detector: In eval mode.
        dataset: Where images come from; a few of each class are used.
        epsilon: Radius at which attacks are compared.
        seed: Of random directions and of the black box.
        batch_size: Images of a pass, which bounds the memory.
        store: Where finished verdicts are kept.
    """
    key = ("health", EDITION, epsilon, seed, batch_size)
    stored = store.get(*key) if store else None
    if stored is not None:
        return [Verdict(**verdict) for verdict in json.loads(str(stored["verdicts"]))]
    chosen = _mixed(dataset.samples)
    images = torch.stack([dataset[index]["image"] for index in chosen]).float() / 255
    labels = torch.tensor([dataset.samples[index].label for index in chosen])
    with Progress("examining", len(CHECKS), unit="checks") as shown:
        note: Callable[[str], None] = lambda name: shown.move_to(list(CHECKS).index(name), note=name)  # noqa: E731
        verdicts = check_health(
            detector, images, labels, epsilon=epsilon, seed=seed, batch_size=batch_size, on_check=note
        )
    if store:
        text = json.dumps([verdict._asdict() for verdict in verdicts])
        store.put({"verdicts": np.array(text)}, *key)
    return verdicts


def _mixed(samples: Sequence[Sample]) -> list[int]:
    """Indices of a few samples, normal and anomalous ones in turn as long as there are both."""
    few = thinned(samples, NUM_IMAGES)
    index = {id(sample): number for number, sample in enumerate(samples)}
    classes = [thinned([s for s in samples if s.label == label], NUM_IMAGES // 2) for label in (False, True)]
    if not all(classes):
        return [index[id(sample)] for sample in few]
    pairs = itertools.zip_longest(*classes)
    return [index[id(sample)] for pair in pairs for sample in pair if sample is not None]
