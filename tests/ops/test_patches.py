"""Patches of images and masks against slicing by hand."""

import pytest
import torch

from robustad.ops.patches import patch_labels, patchify


def test_patches_are_slices_row_by_row():
    images = torch.rand(2, 3, 9, 13)
    patches = patchify(images, 4)
    assert patches.shape == (2, 6, 3, 4, 4)
    for row in range(2):
        for column in range(3):
            expected = images[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            assert torch.equal(patches[:, 3 * row + column], expected)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
def test_one_pixel_makes_its_patch_anomalous_and_trailing_pixels_none(dtype):
    masks = torch.zeros(3, 9, 13, dtype=dtype)
    masks[0, 7, 11] = 1
    masks[1, 8, 0] = 1  # below the last full row of patches
    masks[1, 0, 12] = 1  # right of the last full column
    labels = patch_labels(masks, 4)
    assert labels.dtype == torch.bool
    assert labels.nonzero().tolist() == [[0, 5]]


def test_negative_values_are_normal_and_tiny_ones_are_not():
    masks = torch.tensor([[[-1.0, 1e-30]]])
    assert patch_labels(masks, 1).tolist() == [[False, True]]


def test_errors():
    with pytest.raises(ValueError, match=r"\(N, C, H, W\)"):
        patchify(torch.zeros(3, 8, 8), 4)
    with pytest.raises(ValueError, match=r"\(N, H, W\)"):
        patch_labels(torch.zeros(1, 1, 8, 8), 4)
    with pytest.raises(ValueError, match="must not exceed the image"):
        patchify(torch.zeros(1, 3, 8, 8), 9)
    with pytest.raises(ValueError, match="`patch_size` must be at least 1"):
        patchify(torch.zeros(1, 3, 8, 8), 0)
