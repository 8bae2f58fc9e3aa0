"""Claims "predict" and "start-up": JPEG files in, a table of scores out, beside anomalib's detectors; and one image.

A rival is timed in two ways, and the faster one counts: anomalib's own `Engine.predict`, which also writes its pictures
as it does by default, and its bare torch model behind our reader, with a table of scores. Nothing is trained, since
weights do not change speed: PatchCore's memory holds 1 % of the patches of 200 images, drawn at random, and PaDiM's
statistics are those of a few images. PatchCore and PaDiM get EfficientNet-Lite0 instead of the larger networks that
they have by default. EfficientAd cannot take less than 256 pixels, and meets our detector there: one batch.

Rivals need anomalib: ``make .venv-anomalib/installed``, then ``.venv-anomalib/bin/python -m benchmarks predict``.
"""

from __future__ import annotations

import csv
import dataclasses
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.pseudo_anomalies import photographs
from benchmarks.timing import alternate, seconds_of
from robustad._quiet import quiet
from robustad.detectors import PatchGuard, PatchGuardConfig, save_checkpoint
from robustad.evaluation import BenchmarkRow
from robustad.evaluation.machine import num_cores
from robustad.inference import Predictor, Source, picture_reader, read_ahead, to_images
from robustad.training import recipe
from robustad.workflows.predict import predict

SIDE, SIZE, BATCH = 400, 128, 16
"""Pixels of a side in the files and in the network, and images per forward pass."""
NORMALS, SHARE = 200, 0.01
"""Normal images that PatchCore would remember, and the share of their patches that it keeps."""
SMALLEST = 256  # of EfficientAd: its autoencoder halves the image five times and then wants eight pixels


def measure(*, quick: bool) -> list[BenchmarkRow]:
    """Start-up, overlap of reading and computing, and images per second beside anomalib's detectors."""
    rounds = 3 if quick else 9
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = _write_images(folder / "images", 128 if quick else 512)
        checkpoint = _write_checkpoint(folder / "checkpoint", SIZE)
        rows = _start_up(checkpoint, images, folder, rounds)
        if num_cores() > 1:  # one alone can do but one of both
            rows.append(_overlap(checkpoint, images, rounds))
        try:
            import anomalib  # noqa: F401
        except ImportError:
            text = "make .venv-anomalib/installed && .venv-anomalib/bin/python -m benchmarks predict"
            print(f"predict: anomalib is not installed, so there are no rivals here; run: {text}", file=sys.stderr)
            return rows
        with quiet():
            for title, (size, build) in _RIVALS.items():
                slow = size == SMALLEST  # most of a second per image, and gigabytes: one batch, one round
                few = _write_images(folder / "few", BATCH) if slow else images
                rows.append(_against(title, size, build(), few, folder, 1 if slow else rounds))
    return rows


def _write_images(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number, pixels in enumerate(photographs(count, SIDE)):
        Image.fromarray(pixels).save(folder / f"{number:04}.jpg", quality=90)
    return folder


def _write_checkpoint(folder: Path, size: int) -> Path:
    """An untrained detector of the default recipe, with its references."""
    config = recipe("default").model
    assert isinstance(config, PatchGuardConfig)
    detector = PatchGuard(dataclasses.replace(config, image_size=size))
    detector.prepare(torch.from_numpy(photographs(BATCH, size)).permute(0, 3, 1, 2).float() / 255)
    return save_checkpoint(folder, detector.eval())


def _start_up(checkpoint: Path, images: Path, folder: Path, rounds: int) -> list[BenchmarkRow]:
    """CPU seconds of whole processes: one image; the same with timm's import, as it was; and torch alone."""
    words = ["predict", str(checkpoint), str(images / "0000.jpg"), "--out", str(folder / "one.csv")]
    code = f"from robustad.cli import main; assert main({words!r}) == 0"
    ours = partial(_process, code)
    cases = {
        "with timm imported, as it was, against without": f"import timm; {code}",
        "the import of torch alone against all of it (what cannot go)": "import torch",
    }
    rows = []
    for title, other in cases.items():
        pair = alternate(partial(_process, other), ours, rounds=rounds, clock=_children)
        claim = f"start-up: robustad predict on one image, {title}"
        baseline, seconds, ratio = (round(figure, 3) for figure in pair)
        rows.append(BenchmarkRow(claim=claim, baseline=baseline, ours=seconds, unit="CPU s", ratio=ratio))
    return rows


def _process(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def _children() -> float:
    """CPU seconds of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _overlap(checkpoint: Path, images: Path, rounds: int) -> BenchmarkRow:
    """Wall seconds, hence for a quiet machine: each batch read before it is computed, against our stream."""
    predictor, files = Predictor(checkpoint, batch_size=BATCH), sorted(images.iterdir())
    read = picture_reader(SIZE)

    def in_turn() -> None:
        for start in range(0, len(files), BATCH):
            predictor(np.stack([read(path).pixels for path in files[start : start + BATCH]]))

    def overlapped() -> None:
        for _ in predictor.stream(files):
            pass

    pair = alternate(in_turn, overlapped, rounds=rounds, clock=time.perf_counter)
    claim = "predict, wall clock: reading, then the model, against both at once"
    return pair.row(claim, per=len(files), unit="images/s")


def _against(title: str, size: int, rival: Any, images: Path, folder: Path, rounds: int) -> BenchmarkRow:
    """The faster way of the rival against `robustad predict`, loading of our checkpoint included."""
    checkpoint, table = _write_checkpoint(folder / f"checkpoint-{size}", size), folder / "scores.csv"
    ways = {
        "Engine": partial(_by_engine, rival, size, images, folder / "engine"),
        "bare model": partial(_by_hand, rival, size, images, folder / "rival.csv"),
    }
    seconds = {name: seconds_of(way) for name, way in ways.items()}
    fastest = min(seconds, key=lambda name: seconds[name])
    pair = alternate(ways[fastest], lambda: predict(checkpoint, images, table), rounds=rounds)
    claim = f"predict at {size} px: anomalib's {title} ({fastest}) against the default detector"
    return pair.row(claim, per=len(list(images.iterdir())), unit="images/s")


def _by_engine(rival: Any, size: int, images: Path, out: Path) -> None:
    from anomalib.data import PredictDataset
    from anomalib.engine import Engine
    from torch.utils.data import DataLoader

    dataset = PredictDataset(images, image_size=size)
    loader = DataLoader(dataset, batch_size=BATCH, collate_fn=dataset.collate_fn)
    options = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False}
    Engine(default_root_dir=out, **options).predict(rival, dataloaders=loader)


@torch.inference_mode()
def _by_hand(rival: Any, size: int, images: Path, out: Path) -> None:
    sources = [Source(path, path.name) for path in sorted(images.iterdir())]
    reads = read_ahead(sources, picture_reader(size), window=2 * BATCH)
    with out.open("w", newline="") as stream:
        writer = csv.writer(stream)
        for _ in range(0, len(sources), BATCH):
            batch = list(islice(reads, BATCH))
            pixels = np.stack([read.value.pixels for read in batch if read.value is not None])
            scores = rival.model(rival.pre_processor(to_images(pixels))).pred_score.flatten().tolist()
            writer.writerows((read.source.path, score) for read, score in zip(batch, scores, strict=True))


def _pre_processor(size: int, *, normalised: bool) -> Any:
    from anomalib.pre_processing import PreProcessor
    from torchvision.transforms.v2 import Compose, Normalize, Resize

    steps = [Resize((size, size), antialias=True)]
    return PreProcessor(Compose([*steps, Normalize([0.5] * 3, [0.5] * 3)] if normalised else steps))


def _lite(*layers: str) -> dict[str, Any]:
    """Strides 4, 8 and 16 are blocks 1, 2 and 4."""
    return {"backbone": "tf_efficientnet_lite0", "layers": list(layers), "pre_trained": False}


@torch.no_grad()
def _patchcore() -> Any:
    from anomalib.models import Patchcore

    layers = _lite("blocks.2", "blocks.4")
    rival = Patchcore(pre_processor=_pre_processor(SIZE, normalised=True), coreset_sampling_ratio=SHARE, **layers)
    rival.model.train()
    patches = rival.model(rival.pre_processor(_normals()))
    kept = torch.randperm(len(patches))[: round(SHARE * NORMALS * len(patches) / BATCH)]
    rival.model.embedding_store.clear()
    rival.model.memory_bank = patches[kept].clone()
    return rival.eval()


@torch.no_grad()
def _padim() -> Any:
    from anomalib.models import Padim

    layers = _lite("blocks.1", "blocks.2")
    rival = Padim(pre_processor=_pre_processor(SIZE, normalised=True), n_features=50, **layers)
    rival.model.train()
    for _ in range(4):
        rival.model(rival.pre_processor(_normals()))
    rival.model.fit()
    return rival.eval()


def _efficient_ad() -> Any:
    from anomalib.models import EfficientAd

    return EfficientAd(pre_processor=_pre_processor(SMALLEST, normalised=False)).eval()


_RIVALS: dict[str, tuple[int, Callable[[], Any]]] = {
    "PatchCore": (SIZE, _patchcore),
    "PaDiM": (SIZE, _padim),
    "EfficientAd": (SMALLEST, _efficient_ad),
}


def _normals() -> torch.Tensor:
    return torch.from_numpy(photographs(BATCH, SIZE)).permute(0, 3, 1, 2).float() / 255  # (N,H,W,3) -> (N,3,H,W)
