"""What speed is measured against: the literal generator and our port of it make the same images, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("cv2")
pytest.importorskip("noise")

from benchmarks.literal_generator import generate

from robustad.synthesis.published import PublishedConfig, PublishedGenerator, PublishedRandom

LOWER = 9


@pytest.mark.parametrize("kind", ["everything", "disc", "diagonal"])
def test_equal_to_our_port(kind):
    count, size = 40, 72
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype(np.uint8)
    rows, columns = np.mgrid[:size, :size]
    area = {
        "everything": np.ones((size, size)),
        "disc": ((rows - 36) ** 2 + (columns - 36) ** 2 < 300) * 1.0,
        "diagonal": np.where(rows == columns, 254 / 255, 0.0),  # vanishes, but for one pixel: hardly a box fits
    }[kind]
    area[size - 1, size - 1] = 1
    foreground = torch.from_numpy(np.tile(area, (count, 1, 1))).float()
    randoms = [[PublishedRandom.from_seed(seed) for seed in range(count)] for _ in range(2)]
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    made, masks = generate(images, foreground[:, None], randoms[0], LOWER)
    wanted, wanted_masks = PublishedGenerator(PublishedConfig(lower=LOWER))(pixels, foreground.numpy(), randoms[1])
    assert torch.equal(made, wanted) and torch.equal(masks[:, 0] > 0, wanted_masks)
    assert masks.flatten(1).any(1).float().mean() > 0.9
    for one, other in zip(*randoms, strict=True):
        assert one.python.getstate() == other.python.getstate()
        assert one.numpy.randint(2**31) == other.numpy.randint(2**31)
        assert torch.equal(one.torch.get_state(), other.torch.get_state())
