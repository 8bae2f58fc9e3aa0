"""Our pixel metrics against anomalib's. Run by ``make test-anomalib``."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("anomalib")

from anomalib.metrics.aupro import _AUPRO
from torchmetrics.functional.classification import binary_auroc

from robustad.metrics import aupro, pixel_auroc


def made(levels):
    """Maps in [0, 1] and masks: blocks, a diagonal whose pixels touch at corners, and images without any defect."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(8, 64, 64, dtype=torch.bool)
    masks[0, 5:12, 6:30] = masks[0, 40:44, 40:44] = masks[1, 20:50, 10:14] = True
    masks[2, range(10, 40), range(20, 50)] = True
    masks[3, 60:, :9] = masks[3, 0, 0] = True
    maps = torch.sigmoid(torch.randn(masks.shape, generator=generator) + masks * torch.linspace(0, 2, 8)[:, None, None])
    return (maps * levels).round() / levels if levels else maps, masks


@pytest.mark.parametrize("levels", [0, 255])
@pytest.mark.parametrize("max_fpr", [0.05, 0.3, 1.0])
def test_aupro_is_that_of_anomalib(levels, max_fpr):
    maps, masks = made(levels)
    theirs = _AUPRO(fpr_limit=max_fpr)
    theirs.update(maps, masks.int())
    assert aupro(maps, masks, max_fpr) == pytest.approx(float(theirs.compute()), abs=1e-3)


@pytest.mark.parametrize("levels", [0, 255])
def test_pixel_auroc_is_that_of_torchmetrics(levels):
    maps, masks = made(levels)
    assert pixel_auroc(maps, masks) == pytest.approx(float(binary_auroc(maps.flatten(), masks.flatten())), abs=1e-5)
