"""What is certain of a detector: AUROC that no perturbation up to an L2 radius can push lower."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustad._checks import check_at_least, check_radii
from robustad._devices import device_of, to_device
from robustad._progress import Progress
from robustad.attacks import Ball
from robustad.certify import Certificate, SmoothedDetector, certified_auroc
from robustad.data import ImageDataset
from robustad.evaluation.corrupted import usual_threshold
from robustad.evaluation.figures import BASELINE, EXACT, Subject, defined
from robustad.evaluation.rows import Row
from robustad.evaluation.store import Store
from robustad.evaluation.witness import frozen
from robustad.metrics import auroc

CERTIFIED, SMOOTHED = "certified", "smoothed"
"""Stand as the attacks of rows: a bound for all attacks, and the smoothed detector without attack."""
ABSTENTIONS = "abstention_rate"
CONFIDENCE = 0.99


@dataclass(frozen=True, kw_only=True)
class CertifyConfig:
    """How a detector is smoothed and what is to be certain.

    Attributes:
        sigma: Standard deviation of the noise, pixel units of [0, 1], above 0.
        radii: L2 radii, pixel units of [0, 1], above 0.
        samples: Noisy copies per image.
        confidence: For all images and radii together.
    """

    sigma: float
    radii: tuple[float, ...] = (0.25, 0.5)
    samples: int = 1000
    confidence: float = CONFIDENCE

    def __post_init__(self) -> None:
        check_at_least("samples", self.samples, 1)
        if not 0 < self.sigma < math.inf:
            raise ValueError(f"`sigma` must be above 0 and finite, got {self.sigma}")
        if not check_radii(self.radii, norm="l2", name="radii") or 0.0 in self.radii:
            raise ValueError(f"`radii` of a certificate must be above 0, got {list(self.radii)}")
        if not 0 < self.confidence < 1:
            raise ValueError(f"`confidence` must be in (0, 1), got {self.confidence}")


@dataclass(frozen=True, kw_only=True)
class Certified:
    """What was found out.

    Attributes:
        certificate: Intervals of the smoothed scores.
        labels: ``(N,)`` bool, True = anomalous.
        brightness: For each radius the lowest and highest mean brightness ``(R, 2, N)`` within it.
    """

    certificate: Certificate
    labels: NDArray[np.bool_]
    brightness: NDArray[np.float32]


def evaluate_certified(
    detector: Any,
    dataset: ImageDataset,
    config: CertifyConfig,
    *,
    batch_size: int = 64,
    seed: int = 0,
    store: Store | None = None,
    show_progress: bool = True,
) -> Certified:
    """Certify every image of a data set; finished images are kept in the store.

    Args:
        detector: See `SmoothedDetector`.
        dataset: Test images.
        config: What is certified, and how.
        batch_size: Noisy copies per pass; 1 where a score depends on its company: copies must be independent.
        seed: Of the noise.
        store: Keeps finished images.
        show_progress: Show how far it is and how long it will take.

    Raises:
        ValueError: If there is no image, or the detector answers with NaN.
    """
    if len(dataset) == 0:
        raise ValueError("there is no test image")
    store = store or Store()
    smoothed = SmoothedDetector(detector, sigma=config.sigma, batch_size=batch_size, seed=seed)
    scores, bounds = [], []
    with frozen(detector), Progress("certifying", len(dataset), unit="images", enabled=show_progress) as shown:
        for index in range(len(dataset)):
            key = ("certified", index, config.sigma, config.samples, config.radii, batch_size, seed)
            arrays = store.get(*key)
            if arrays is None:
                image = to_device(dataset[index]["image"][None], device_of(detector)).float() / 255
                balls = [Ball(image, radius, "l2") for radius in config.radii]
                means = [[float(ball.shifted(sign).mean()) for sign in (-1, 1)] for ball in balls]
                noisy = smoothed.noisy_scores(image, config.samples, first=index)
                arrays = {"scores": noisy, "bounds": np.array(means, dtype=np.float32)[..., None]}
                store.put(arrays, *key)
            scores.append(arrays["scores"])
            bounds.append(arrays["bounds"])
            shown.update(1)
    certificate = Certificate.of_samples(
        np.concatenate(scores), sigma=config.sigma, radii=config.radii, confidence=config.confidence
    )
    labels = np.array([sample.label for sample in dataset.samples], dtype=np.bool_)
    return Certified(certificate=certificate, labels=labels, brightness=np.concatenate(bounds, axis=2))


def certified_rows(certified: Certified, subject: Subject) -> list[Row]:
    """AUROC of the smoothed detector, and for each radius what is certain of it; the brightness baseline's is exact.

    `ABSTENTIONS` is the share of images of which a threshold on the smoothed score cannot be said to decide alike in
    the whole ball; the threshold is the one that 5 % of the clean normal images lie above.
    """
    certificate, labels = certified.certificate, certified.labels
    common = subject.fields | {"targets": "both"}
    value, reason = defined(auroc, certificate.medians, labels)
    clean: dict[str, Any] = {"attack": SMOOTHED, "norm": "none", "epsilon": 0.0, "metric": "image_AUROC"}
    rows = [Row(**common, **clean, value=value, reason=reason)]
    threshold = usual_threshold(certificate.medians.astype(np.float32), labels)
    for number, radius in enumerate(certificate.radii):
        within: dict[str, Any] = {"norm": "l2", "epsilon": radius}
        value, reason = defined(lambda r=radius: certified_auroc(certificate, labels)[r])
        rows.append(Row(**common, **within, attack=CERTIFIED, metric="image_AUROC", value=value, reason=reason))
        undecided = None if threshold is None else float((certificate.decisions(threshold, radius) < 0).mean())
        why = "no threshold: there is no normal image" if threshold is None else None
        rows.append(Row(**common, **within, attack=CERTIFIED, metric=ABSTENTIONS, value=undecided, reason=why))
        darkest, brightest = certified.brightness[number]
        value, reason = defined(auroc, -np.where(labels, brightest, darkest), labels)
        baseline = common | {"detector": BASELINE, "recipe": "none"}
        rows.append(Row(**baseline, **within, attack=EXACT, metric="image_AUROC", value=value, reason=reason))
    return rows
