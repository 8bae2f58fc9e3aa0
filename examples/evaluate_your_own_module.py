"""How robust is YOUR detector? Any differentiable module that returns scores can be measured; no training, no registry.

python examples/evaluate_your_own_module.py
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from robustad import ImageDataset, Prediction, load_samples
from robustad.evaluation import Subject, Suite, check_health, evaluate, evaluation_rows


class DistanceToMean(nn.Module):
    """Your detector: here the mean squared distance to the mean normal image, and that distance per pixel as map."""

    def __init__(self, normal: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", normal.mean(dim=0))

    def forward(self, images: Tensor) -> Prediction:
        """Images ``(N, 3, H, W)`` in [0, 1]; normalise inside, so that attacks see pixels."""
        maps = (images - self.mean).square().mean(dim=1)
        return Prediction(scores=maps.flatten(1).mean(dim=1), anomaly_maps=maps)


def main() -> None:
    """Measure it on handwritten digits: one digit is normal, all others are anomalies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder for the digits' image files")
    parser.add_argument("--digit", default="3")
    parser.add_argument("--max-images", type=int, default=400)
    given = parser.parse_args()

    split = load_samples("digits", given.root, category=given.digit)
    train, test = (ImageDataset(samples, 16) for samples in (split.train, split.test[: given.max_images]))
    detector = DistanceToMean(torch.stack([item["image"] for item in train]) / 255)

    suite = Suite(attacks=("pgd", "adaptive-pgd"))
    evaluation = evaluate(detector, test, suite, epsilons=(4 / 255, 16 / 255), show_progress=False)
    subject = Subject(detector="distance-to-mean", recipe="none", data=f"digits:{given.digit}")
    for row in evaluation_rows(evaluation, subject, num_resamples=0):
        if row.metric == "image_AUROC":
            print(f"{row.detector:16} {row.attack:12} {255 * row.epsilon:4.0f}/255  {row.value:.3f}")

    few = [test[i] for i in torch.linspace(0, len(test) - 1, 32).long().tolist()]
    images, labels = torch.stack([i["image"] for i in few]) / 255, torch.tensor([i["label"] for i in few])
    for verdict in check_health(detector, images, labels, epsilon=4 / 255):
        print({True: "passed", False: "FAILED", None: "not run"}[verdict.passed], verdict.name, "-", verdict.why)


if __name__ == "__main__":
    main()
