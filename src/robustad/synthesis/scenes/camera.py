"""What lamp and camera make of a pattern: colour, uneven light, blur, noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustad.ops.noise import pixel_grid
from robustad.ops.smoothing import gaussian_smooth
from robustad.synthesis.scenes.canvas import Canvas

GREY = 0.65  # share of processes that a monochrome camera sees


def photographed(canvas: Canvas, brightness: Tensor) -> Tensor:
    """Images ``(N, 3, S, S)`` in [0, 1] of a pattern's brightness ``(N, S, S)``, about 0 to 1."""
    grey = canvas.chance(GREY)
    lit = _blurred(canvas, brightness) * _light(canvas)
    pixels = _toned(canvas, lit) if grey else _coloured(canvas, lit)
    pixels = pixels * (1 + _drift(canvas, 0.08)) + _drift(canvas, 0.03)
    pixels = (pixels + _noise(canvas, pixels)).clamp_(0, 1)
    return pixels.expand(-1, 3, -1, -1).contiguous()


def _drift(canvas: Canvas, most: float) -> Tensor:
    """A little more or less of something from image to image, ``(N, 1, 1, 1)``."""
    amount = canvas.uniform(0, most)
    return canvas.own(-amount, amount)[..., None]


def _toned(canvas: Canvas, brightness: Tensor) -> Tensor:
    """Grey levels ``(N, 1, S, S)``: any contrast, from a few levels to all of them."""
    contrast = canvas.log(0.06, 0.95)
    lowest = canvas.uniform(0.02, 0.98 - contrast)
    brightness = 1 - brightness if canvas.chance(0.4) else brightness
    return (lowest + contrast * brightness)[:, None]


def _coloured(canvas: Canvas, brightness: Tensor) -> Tensor:
    """Between two colours, ``(N, 3, S, S)``; mostly shades of one, and mostly pale: what is made is seldom gaudy."""
    first = _colour(canvas)
    second = _colour(canvas) if canvas.chance(0.4) else (first + canvas.uniform(-0.8, 0.8)).clamp(0, 1)
    first, second = first[:, None, None], second[:, None, None]
    return first + (second - first) * brightness[:, None]


def _colour(canvas: Canvas) -> Tensor:
    colour, pale = canvas.table(3), canvas.uniform(0, 1)
    return colour + pale * (colour.mean() - colour)


def _light(canvas: Canvas) -> Tensor:
    """Gain ``(N, S, S)``: a slope and a fall to the edges, mostly the fixture's, a little the image's own."""
    rows, columns = pixel_grid((canvas.size, canvas.size))
    strength, angle = canvas.log(0.02, 0.5), canvas.uniform(0, 2 * math.pi)
    wobble = 0.3 * strength if canvas.chance(0.5) else strength * canvas.vary
    slope_x = strength * math.cos(angle) + canvas.own(-wobble, wobble)
    slope_y = strength * math.sin(angle) + canvas.own(-wobble, wobble)
    x, y = columns - 0.5, rows - 0.5
    fall = canvas.log(0.02, 0.9) * canvas.chance(0.5)
    return (1 + slope_x * x + slope_y * y - fall * (x.square() + y.square())).clamp_min(0.05)


def _blurred(canvas: Canvas, brightness: Tensor) -> Tensor:
    sigma = canvas.uniform(0.4, 1.6) * canvas.size / 128
    return gaussian_smooth(brightness, sigma=sigma, radius=math.ceil(2 * sigma)) if canvas.chance(0.6) else brightness


def _noise(canvas: Canvas, pixels: Tensor) -> Tensor:
    """Sensor noise like ``pixels``, mostly more of it where there is more light."""
    spread = canvas.log(0.002, 0.03)
    noise = torch.randn(pixels.shape, generator=canvas.generator).mul_(spread)
    return noise.mul_((0.2 + pixels.clamp(0, 1)).sqrt_()) if canvas.chance(0.6) else noise
