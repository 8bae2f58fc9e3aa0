"""Small detectors and made images for the tests of the evaluation; some detectors are broken on purpose."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from robustad.data import ImageDataset, Sample
from robustad.types import Prediction

SIZE, PATCH = 16, 4


class TinyDetector(nn.Module):
    """One logit per patch from its pixels; score = mean of the three highest."""

    has_maps = True
    patch_size = PATCH

    def __init__(self, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.conv = nn.Conv2d(3, 4, PATCH, stride=PATCH)
        self.head = nn.Conv2d(4, 1, 1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
            self.conv.weight -= 0.3

    def patch_logits(self, images):
        return self.head(torch.tanh(self.conv(images))).flatten(1)

    def image_scores(self, logits):
        return logits.topk(3, dim=1).values.mean(dim=1)

    def forward(self, images):
        logits = self.patch_logits(images)
        side = SIZE // PATCH
        maps = logits.view(-1, 1, side, side).repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)[:, 0]
        return Prediction(self.image_scores(logits), maps)


class ScoreOnly(nn.Module):
    """Any function of images as a detector without maps and patches."""

    has_maps = False

    def __init__(self, score):
        super().__init__()
        self.score = score

    def forward(self, images):
        return Prediction(self.score(images), None)


def made_images(count=16, seed=0):
    """Grey noise; every second image has a dark square, which is its mask."""
    generator = np.random.default_rng(seed)
    images = generator.integers(110, 150, (count, SIZE, SIZE, 3)).astype(np.uint8)
    masks = np.zeros((count, SIZE, SIZE), dtype=bool)
    for index in range(1, count, 2):
        row, column = generator.integers(0, SIZE - 6, 2)
        masks[index, row : row + 6, column : column + 6] = True
        images[index][masks[index]] = images[index][masks[index]] // 2
    return images, masks


def made_samples(folder: Path, count=16, *, masks=True):
    """The made images as files."""
    samples = []
    for index, (image, mask) in enumerate(zip(*made_images(count), strict=True)):
        path = folder / f"{index:03}.png"
        Image.fromarray(image).save(path)
        mask_path = folder / f"{index:03}_mask.png" if masks and mask.any() else None
        if mask_path is not None:
            Image.fromarray(mask.astype(np.uint8) * 255).save(mask_path)
        samples.append(Sample(path, bool(index % 2), mask_path, None, f"group{index // 2}", path.name))
    return samples


def made_dataset(folder: Path, count=16, *, masks=True):
    folder.mkdir(parents=True, exist_ok=True)
    return ImageDataset(made_samples(folder, count, masks=masks), SIZE)


def made_batch(count=16):
    images, masks = made_images(count)
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return tensor, torch.arange(count) % 2 == 1, torch.from_numpy(masks)


def smooth(images):
    """An honest detector: how dark the darkest parts are."""
    return (8 * (0.5 - images)).flatten(1).logsumexp(dim=1)


class NoisyGradient(torch.autograd.Function):
    """Shattered: what comes back is noise."""

    @staticmethod
    def forward(ctx, images):
        return images.clone()

    @staticmethod
    def backward(ctx, gradient):
        return torch.randn(gradient.shape, generator=torch.Generator().manual_seed(0))
