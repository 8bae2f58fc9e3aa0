"""A detector whose score is the median over Gaussian noise: slower, and certain within a radius."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustad._checks import check_at_least, check_images
from robustad._progress import Progress
from robustad._random import torch_generator
from robustad.certify.bounds import Certificate, Floats
from robustad.types import Prediction


class SmoothedDetector(nn.Module):
    """Wraps any detector; its score is the median of the detector's scores of noisy copies of the image.

    The noise is drawn from the seed alone, the same for every image, so that a score depends on nothing but its image
    and can be differentiated through. Maps are left out: nothing would be certain about them.

    Args:
        detector: Images ``(N, 3, S, S)`` to a `Prediction`; it sees values outside of [0, 1], unless ``clip``.
        sigma: Standard deviation of the noise, pixel units of [0, 1].
        samples: Noisy copies per image.
        batch_size: Noisy images per pass, which bounds the memory.
        seed: Of the noise.
        clip: Clip noisy images to [0, 1] before the detector sees them; certificates hold all the same.
    """

    has_maps = False
    name = "smoothed"

    def __init__(
        self,
        detector: Any,
        *,
        sigma: float,
        samples: int = 100,
        batch_size: int = 64,
        seed: int = 0,
        clip: bool = True,
    ) -> None:
        super().__init__()
        if not sigma > 0:
            raise ValueError(f"`sigma` must be above 0, got {sigma}")
        check_at_least("samples", samples, 1)
        check_at_least("batch_size", batch_size, 1)
        self.detector, self.sigma, self.samples = detector, sigma, samples
        self.batch_size, self.seed, self.clip = batch_size, seed, clip

    @property
    def image_size(self) -> int:
        """Side of the images that the detector takes."""
        return int(self.detector.image_size)

    def forward(self, images: Tensor) -> Prediction:
        """Medians ``(N,)`` of the noisy scores of images ``(N, 3, S, S)``; no maps."""
        return Prediction(torch.stack([self._noisy(image, self.samples, 0).median() for image in images]), None)

    def noisy_scores(self, images: Tensor, samples: int, *, first: int = 0, show_progress: bool = False) -> Floats:
        """Scores ``(N, samples)`` of fresh noisy copies, other ones than those that `forward` uses.

        Args:
            images: ``(N, 3, S, S)`` in [0, 1].
            samples: Copies per image.
            first: Number of the first image among all that are certified: each has noise of its own.
            show_progress: Show how far it is and how long it will take.
        """
        check_images(images)
        found = np.empty((len(images), samples), dtype=np.float64)
        with torch.no_grad(), Progress("certifying", len(images), unit="images", enabled=show_progress) as shown:
            for number, image in enumerate(images):
                found[number] = self._noisy(image, samples, 1 + first + number).cpu().double().numpy()
                shown.update()
        return found

    def certify(
        self,
        images: Tensor,
        radii: Sequence[float],
        *,
        samples: int = 1000,
        confidence: float = 0.99,
        show_progress: bool = False,
    ) -> Certificate:
        """Intervals that the smoothed score (with endless samples) of no perturbed image leaves.

        Args:
            images: ``(N, 3, S, S)`` in [0, 1].
            radii: L2 radii, pixel units of [0, 1].
            samples: Noisy copies per image, independent from image to image.
            confidence: For all intervals together.
            show_progress: Show how far it is and how long it will take.
        """
        scores = self.noisy_scores(images, samples, show_progress=show_progress)
        return Certificate.of_samples(scores, sigma=self.sigma, radii=radii, confidence=confidence)

    def _noisy(self, image: Tensor, samples: int, stream: int) -> Tensor:
        """Scores ``(samples,)`` of noisy copies of one image."""
        parts = []
        for start in range(0, samples, self.batch_size):
            count = min(self.batch_size, samples - start)
            generator = torch_generator(self.seed, "smoothing", stream, start)
            noise = torch.randn(count, *image.shape, generator=generator, dtype=torch.float32).to(image)
            noisy = image + self.sigma * noise
            parts.append(self.detector(noisy.clamp(0, 1) if self.clip else noisy).scores)
        return torch.cat(parts)
