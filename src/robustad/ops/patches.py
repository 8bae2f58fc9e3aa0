"""Square patches of images and masks, row by row, trailing pixels that fill no patch left out."""

from __future__ import annotations

from torch import Tensor

from robustad._checks import check_at_least


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut images into non-overlapping square patches.

    Args:
        images: ``(N, C, H, W)``, any dtype, with H and W at least ``patch_size``.
        patch_size: Side of a patch in pixels.

    Returns:
        Patches ``(N, h*w, C, patch_size, patch_size)``, row-major, ``h = H // patch_size``, ``w = W // patch_size``.

    Raises:
        ValueError: If ``images`` is not four-dimensional or smaller than one patch.
    """
    if images.ndim != 4:
        raise ValueError(f"`images` must be (N, C, H, W), got {tuple(images.shape)}")
    check_at_least("patch_size", patch_size, 1)
    rows, columns = images.shape[2] // patch_size, images.shape[3] // patch_size
    if rows == 0 or columns == 0:
        raise ValueError(f"`patch_size` must not exceed the image, got {patch_size} for {tuple(images.shape)}")
    images = images[:, :, : rows * patch_size, : columns * patch_size]
    shape = (*images.shape[:2], rows, patch_size, columns, patch_size)
    blocks = images.reshape(shape)  # (N,C,H,W) -> (N,C,h,p,w,p)
    return blocks.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # (N,h,w,C,p,p) -> (N,h*w,C,p,p)


def patch_labels(masks: Tensor, patch_size: int) -> Tensor:
    """Which patches are anomalous: those in which any mask pixel is above 0.

    Args:
        masks: ``(N, H, W)``, bool or numbers.
        patch_size: Side of a patch in pixels.

    Returns:
        Bool ``(N, h*w)``, row-major. Trailing pixels that fill no patch are ignored.

    Raises:
        ValueError: If ``masks`` is not three-dimensional or smaller than one patch.
    """
    if masks.ndim != 3:
        raise ValueError(f"`masks` must be (N, H, W), got {tuple(masks.shape)}")
    return patchify((masks > 0)[:, None], patch_size).flatten(2).any(dim=2)  # (N,h*w,p*p) -> (N,h*w)
