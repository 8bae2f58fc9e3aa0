"""What PyTorch computes slowly on a CPU, as plain matrix products: the same mathematics, several times faster.

Two operations of a Vision Transformer are far from the speed of its matrix products there: the gradient of the patch
convolution with respect to its input, and fused attention in bfloat16, whose backward is slower than in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


def fast_on_cpu(images: Tensor) -> AbstractContextManager[Any]:
    """A block in which both operations are replaced, if ``images`` lie on a CPU and nothing is being compiled."""
    if images.device.type != "cpu" or torch.compiler.is_compiling():
        return nullcontext()
    return _Replacing()


class _Replacing(TorchFunctionMode):
    """Replaces functions of PyTorch wherever the modules of a network call them, so that no module is changed."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        replacement = _REPLACEMENTS.get(func)
        result = None if replacement is None else replacement(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {})) if result is None else result


def patch_products(images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution whose kernels lie side by side, as one matrix product.

    Args:
        images: ``(N, C, H, W)``; H and W are multiples of the kernel's side p.
        weight: ``(D, C, p, p)``.
        bias: ``(D,)`` or None.

    Returns:
        ``(N, D, H / p, W / p)``, as ``F.conv2d`` with stride p gives it.
    """
    count, channels, height, width = images.shape
    depth, _, _, side = weight.shape
    rows, columns = height // side, width // side
    cut = images.reshape(count, channels, rows, side, columns, side)  # (N,C,H,W) -> (N,C,h,p,w,p)
    patches = cut.permute(0, 2, 4, 1, 3, 5).reshape(count, rows * columns, -1)  # -> (N,h*w,C*p*p)
    products = F.linear(patches, weight.flatten(1), bias)
    return products.transpose(1, 2).reshape(count, depth, rows, columns)  # (N,h*w,D) -> (N,D,h,w)


def bfloat16_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention ``(N, heads, T, d)`` in bfloat16; its maps are computed again in the backward pass, never kept."""
    attended: Tensor = _Attention.apply(*(x.to(torch.bfloat16) for x in (queries, keys, values)))
    return attended


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        q, k, v = (x.flatten(0, 1) for x in (queries, keys, values))  # (N,heads,T,d) -> (N*heads,T,d)
        ctx.save_for_backward(q, k, v)
        ctx.shape = queries.shape
        return (_maps(q, k) @ v).view(ctx.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = ctx.saved_tensors
        gradient = gradient.flatten(0, 1)
        maps = _maps(q, k)
        of_values = maps.transpose(1, 2) @ gradient
        of_maps = torch.ops.aten._softmax_backward_data(gradient @ v.transpose(1, 2), maps, -1, maps.dtype)
        scale = q.shape[-1] ** -0.5
        return (
            (of_maps @ k).mul_(scale).view(ctx.shape),
            (of_maps.transpose(1, 2) @ q).mul_(scale).view(ctx.shape),
            of_values.view(ctx.shape),
        )


def _maps(q: Tensor, k: Tensor) -> Tensor:
    """Softmax of scaled products; the scale is applied inside of the product, before anything is rounded."""
    nothing = q.new_zeros(1, 1, 1)
    return torch.baddbmm(nothing, q, k.transpose(1, 2), beta=0, alpha=q.shape[-1] ** -0.5).softmax(-1)


def _convolved(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """A call of ``F.conv2d`` if it takes square patches that lie side by side and fill the images, otherwise None."""
    side = weight.shape[-1]
    given = [(x, x) if isinstance(x, int) else tuple(x) for x in (stride, padding, dilation)]
    fills = input.ndim == 4 and input.shape[2] % side == input.shape[3] % side == 0
    if side == 1 or weight.shape[2] != side or groups != 1 or not fills or given != [(side, side), (0, 0), (1, 1)]:
        return None
    return patch_products(input, weight, bias)


def _attended(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **more: Any,
) -> Tensor | None:
    """A call of fused attention, None if `bfloat16_attention` cannot answer it; ``more``: scale, grouped heads."""
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    plain = attn_mask is None and not (dropout_p or is_causal or any(more.values()))
    alike = query.ndim == 4 and query.shape == key.shape == value.shape
    if not (plain and alike and (autocast or query.dtype == torch.bfloat16)):
        return None
    return bfloat16_attention(query, key, value)


_REPLACEMENTS: dict[Callable[..., Any], Callable[..., Tensor | None]] = {
    F.conv2d: _convolved,
    F.scaled_dot_product_attention: _attended,
}
