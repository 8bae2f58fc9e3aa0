"""ImageNet-C's fifteen corruptions, written anew from the published formulas and parameters.

Lengths in pixels were published for images of 224 x 224 and follow the image's size here, so that a severity means the
same at any resolution; noise, pixelation and JPEG are per pixel there and here. Results are not rounded to eight bits
and not encoded as JPEG afterwards. Borders repeat or mirror. Each docstring says what else differs.

Source: Hendrycks & Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations", ICLR
2019; elastic transform: Michaelis et al., "Benchmarking robustness in object detection", 2019.
"""

from __future__ import annotations

from robustad.corruptions.blur import defocus_blur, glass_blur, motion_blur, zoom_blur
from robustad.corruptions.digital import contrast, elastic_transform, jpeg_compression, pixelate
from robustad.corruptions.industrial import Corruption
from robustad.corruptions.noise import gaussian_noise, impulse_noise, shot_noise
from robustad.corruptions.weather import brightness, fog, frost, snow

IMAGENET_C: dict[str, Corruption] = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "defocus_blur": defocus_blur,
    "glass_blur": glass_blur,
    "motion_blur": motion_blur,
    "zoom_blur": zoom_blur,
    "snow": snow,
    "frost": frost,
    "fog": fog,
    "brightness": brightness,
    "contrast": contrast,
    "elastic_transform": elastic_transform,
    "pixelate": pixelate,
    "jpeg_compression": jpeg_compression,
}
"""Corruptions by name, in the published order; one row each."""
