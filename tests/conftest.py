import weakref
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

from robustad.detectors import Brightness, BrightnessConfig, PatchGuard, PatchGuardConfig, save_checkpoint
from robustad.types import Calibration


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Folders of three tiny checkpoints: with maps, with maps and a threshold, without maps."""
    base = tmp_path_factory.mktemp("checkpoints")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = PatchGuard(PatchGuardConfig(image_size=32, backbone="vit_plain", top_k=1))
    calibration = Calibration(threshold=-0.5, max_false_alarm_rate=0.01, num_images=100, method="quantile")
    brightness = Brightness(BrightnessConfig(image_size=32))
    return {
        "maps": save_checkpoint(base / "maps", network),
        "calibrated": save_checkpoint(base / "calibrated", network, calibration=calibration),
        # the score is minus the mean brightness: anomalous = darker than 128
        "brightness": save_checkpoint(base / "brightness", brightness, calibration=calibration),
    }


@pytest.fixture
def kept_for_backward():
    """A block that gives what autograd keeps: a set of entries with a ``tensor``, those still alive at the time."""

    class Entry:
        def __init__(self, tensor):
            self.tensor = tensor

    @contextmanager
    def block():
        alive = weakref.WeakSet()

        def pack(tensor):
            entry = Entry(tensor)
            alive.add(entry)
            return entry

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda entry: entry.tensor):
            yield alive

    return block


@pytest.fixture
def write_image():
    def write(path, level=100, size=(40, 24)):
        """An image with a gradient, ``level`` on average; ``size`` is (width, height)."""
        path.parent.mkdir(parents=True, exist_ok=True)
        ramp = np.linspace(-20, 20, size[0])[None, :, None] + level
        pixels = np.broadcast_to(ramp, (size[1], size[0], 3)).round().clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return write
