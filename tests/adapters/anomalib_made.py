"""Small anomalib models, trained for one epoch on made images."""

from __future__ import annotations

import numpy as np
from anomalib.data import Folder
from anomalib.engine import Engine
from anomalib.models import Cflow, Fastflow, Padim, Patchcore, ReverseDistillation
from anomalib.pre_processing import PreProcessor
from PIL import Image
from torchvision.transforms.v2 import CenterCrop, Compose, Normalize, Resize

from robustad.adapters import embed_weights

SIZE = 64
LITE = {"backbone": "tf_efficientnet_lite0", "layers": ["blocks.1", "blocks.2"], "pre_trained": False}
SMALL = {"backbone": "resnet18", "pre_trained": False}


def halved():
    """Pixels as EfficientNet-Lite0 expects them."""
    return PreProcessor(Compose([Resize((SIZE, SIZE), antialias=True), Normalize([0.5] * 3, [0.5] * 3)]))


def cropped():
    """A centre crop, as PatchCore's paper has it."""
    return PreProcessor(
        Compose([Resize((SIZE, SIZE), antialias=True), CenterCrop((48, 48)), Normalize([0.5] * 3, [0.5] * 3)])
    )


def usual(kind):
    return kind.configure_pre_processor((SIZE, SIZE))


MODELS = {
    "patchcore": lambda: Patchcore(layers=("layer2", "layer3"), pre_processor=usual(Patchcore), **SMALL),
    "padim": lambda: Padim(layers=["layer1", "layer2"], pre_processor=usual(Padim), **SMALL),
    "reversedistillation": lambda: ReverseDistillation(pre_processor=usual(ReverseDistillation), **SMALL),
    "fastflow": lambda: Fastflow(pre_processor=usual(Fastflow), **SMALL),
    "patchcore-lite0": lambda: embed_weights(Patchcore(pre_processor=halved(), **LITE)),
    "padim-lite0": lambda: embed_weights(Padim(pre_processor=halved(), n_features=30, **LITE)),
    "patchcore-cropped": lambda: Patchcore(layers=("layer2",), pre_processor=cropped(), **SMALL),
}
"""Models whose gradients reach the pixels."""
CUT = {"cflow": lambda: Cflow(layers=("layer2", "layer3"), pre_processor=usual(Cflow), **SMALL)}
"""Models whose score path is cut."""


def write_images(base):
    """Grey images, anomalous ones with a dark square, and its mask."""
    rng = np.random.default_rng(0)
    for kind, count in (("masks", 0), ("normal", 16), ("anomalous", 6)):
        (base / kind).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(110, 150, (SIZE, SIZE, 3)).astype(np.uint8)
            if kind == "anomalous":
                mask = np.zeros((SIZE, SIZE), np.uint8)
                mask[10 + 4 * index : 26 + 4 * index, 10:30] = 255
                pixels[mask > 0] //= 2
                Image.fromarray(mask).save(base / "masks" / f"{index:02}.png")
            Image.fromarray(pixels).save(base / kind / f"{index:02}.png")
    return base


def datamodule(base):
    return Folder(
        name="made",
        root=base,
        normal_dir="normal",
        abnormal_dir="anomalous",
        mask_dir="masks",
        num_workers=0,
        train_batch_size=8,
        eval_batch_size=8,
        seed=0,
    )


def engine(base, epochs=1):
    return Engine(
        max_epochs=epochs, default_root_dir=base, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False
    )
