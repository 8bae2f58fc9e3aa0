"""The bench's own table: detectors trained with and without attacks, ours and anomalib's, under everything we have.

Needs anomalib: ``make test-anomalib`` builds the environment, then ``.venv-anomalib/bin/python tools/evidence.py ...``.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from measuring import RUNS, Measured, now, prepared, side_by_side, trained, write_found
from PIL import Image

from robustad.corruptions import choose
from robustad.data import ImageDataset, Sample
from robustad.detectors import load_checkpoint
from robustad.evaluation import (
    ALL,
    BASELINE,
    Doubts,
    Subject,
    Suite,
    corruption_rows,
    evaluate,
    evaluate_corruptions,
    evaluation_details,
    evaluation_rows,
    select,
)
from robustad.evaluation.store import Store
from robustad.images import read_square
from robustad.workflows._data import DataConfig, fingerprint, load_split, thinned
from robustad.workflows._health import examine
from robustad.workflows.fit import fit_config

DATA = {"elpv": DataConfig(data="elpv", category="mono"), "mtd": DataConfig(data="mtd")}
RECIPES = {"elpv": "default", "mtd": "texture"}
GRADIENT = ("published-pgd", "pgd", "ensemble")
RADII = {1 / 255: GRADIENT, 2 / 255: (*GRADIENT, "square"), 4 / 255: GRADIENT}
"""Radii and what is tried at each; queries take most of the time, and are shown at one radius."""
SEVERITIES = (1, 3, 5)
SIZE = 128
FAILED = "failed_checks"
"""Metric of a row that counts failed health checks."""
FLOW_EPOCHS = 8


class Effort(NamedTuple):
    """How much is measured.

    Attributes:
        images: Of each final half, at most.
        queries: Of the black box.
        patchguard: Updates.
        cobra: Updates.
    """

    images: int
    queries: int
    patchguard: int
    cobra: int


FULL, QUICK = Effort(100, 1000, 1500, 600), Effort(40, 100, 400, 150)


def robustness(effort: Effort = FULL, name: str = "robustness") -> None:
    """All detectors on both data sets, on as many processes as there are cores."""
    started = now()
    jobs: dict[str, Callable[[], Measured]] = {}
    for data in DATA:
        for title, build in detector_makers(data, effort).items():
            jobs[f"{data}, {title}"] = partial(_assessed, data, title, build, effort)
    write_found(name, side_by_side(jobs), started)


def detector_makers(data: str, effort: Effort) -> dict[str, Callable[[], Any]]:
    """What makes each detector, by the name of its line."""
    ours = partial(_ours, data)
    return {
        "patchguard": partial(ours, RECIPES[data], {"max_steps": effort.patchguard}),
        "patchguard without attacks": partial(ours, RECIPES[data], {"max_steps": effort.patchguard, "epsilon": 0.0}),
        "cobra": partial(ours, "cobra", {"max_steps": effort.cobra}),
        "anomalib PatchCore": partial(_anomalib, data, "patchcore", 1),
        "anomalib PaDiM": partial(_anomalib, data, "padim", 1),
        "anomalib FastFlow": partial(_anomalib, data, "fastflow", FLOW_EPOCHS),
    }


def _ours(data: str, recipe: str, training: dict[str, Any]) -> Any:
    config = fit_config(recipe, DATA[data].data)
    options = {"max_time": None, "look_every": 0.0, **training}
    config = dataclasses.replace(config, data=DATA[data], training=dataclasses.replace(config.training, **options))
    text = "-".join(f"{key}{value:g}" for key, value in training.items())
    return load_checkpoint(trained(config, f"robustness-{data}-{recipe}-{text}")).detector


def _assessed(data: str, title: str, build: Callable[[], Any], effort: Effort) -> Measured:
    """Everything about one detector on one data set."""
    detector = build()
    samples, dataset, store = images_of(detector, data, effort)
    subject = Subject(detector=title, recipe=title, data=DATA[data].label, split="final", seed=0)
    verdicts = examine(detector, dataset, epsilon=2 / 255, seed=0, store=store)
    rows, details = [], {}
    for epsilon, attacks in RADII.items():
        suite = Suite(attacks=attacks, queries=effort.queries, stop_early=True)
        if Doubts.of(verdicts).no_gradient:
            suite = suite.with_black_box(has_masks=False, white_box=False)
        evaluation = evaluate(detector, dataset, suite, epsilons=[epsilon], seed=0, store=store)
        rows += [row for row in evaluation_rows(evaluation, subject) if row.metric == "image_AUROC"]
        details[f"{255 * epsilon:g}/255"] = evaluation_details(evaluation)
    corrupted = evaluate_corruptions(detector, dataset, choose(["all"]), severities=SEVERITIES, store=store)
    labels = np.array([sample.label for sample in samples], dtype=np.bool_)
    rows += select(corruption_rows(corrupted, labels, subject), attack=ALL)
    failed = [verdict for verdict in verdicts if verdict.passed is False]
    common = next(row for row in rows if row.detector == title and row.attack == "none")
    rows.append(dataclasses.replace(common, metric=FAILED, value=float(len(failed)), interval=None))
    details["health"] = [verdict._asdict() for verdict in verdicts]
    return Measured([row for row in rows if row.detector in (title, BASELINE)], details)


def images_of(detector: Any, data: str, effort: Effort) -> tuple[list[Sample], ImageDataset, Store]:
    """Test images, and where finished pieces of this detector's evaluation on them lie."""
    samples = thinned(load_split(DATA[data], part="final", seed=0).test, effort.images)
    return samples, *prepared(detector, samples, f"{_digest(detector)} {fingerprint(samples)} robustness")


def _digest(detector: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(detector.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _anomalib(data: str, kind: str, epochs: int) -> Any:
    """A detector of anomalib on EfficientNet-Lite0 features, trained by its own engine; kept as a state dict."""
    from anomalib.data import Folder
    from anomalib.engine import Engine

    from robustad.adapters import from_anomalib

    folder = RUNS / f"robustness-{data}-{kind}-{epochs}"
    module, weights = _BUILDERS[kind](), folder / "weights.pt"
    if not weights.exists():
        _write_images(data, folder / "images")
        datamodule = Folder(
            name=data,
            root=folder / "images",
            normal_dir="normal",
            train_batch_size=16,
            num_workers=0,
            test_split_mode="none",
            val_split_mode="from_train",
            val_split_ratio=0.05,
            seed=0,
        )
        engine = Engine(
            max_epochs=epochs, default_root_dir=folder, accelerator="cpu", devices=1, logger=False, barebones=False
        )
        engine.fit(module, datamodule=datamodule)
        torch.save(module.model.state_dict(), weights)
    module.model.load_state_dict(torch.load(weights, weights_only=True))
    return from_anomalib(module, image_size=SIZE)


def _write_images(data: str, folder: Any) -> None:
    """The normal training images as files, as anomalib wants them."""
    target = folder / "normal"
    target.mkdir(parents=True, exist_ok=True)
    for number, sample in enumerate(load_split(DATA[data], seed=0).train):
        # at their size by the bench's own filter, as they are tested: another filter would be another kind of normal
        Image.fromarray(read_square(sample.path, SIZE)).save(target / f"{number:04}.png")


def _pre_processor() -> Any:
    from anomalib.pre_processing import PreProcessor
    from torchvision.transforms.v2 import Compose, Normalize, Resize

    return PreProcessor(Compose([Resize((SIZE, SIZE), antialias=True), Normalize([0.5] * 3, [0.5] * 3)]))


def _lite(*layers: str) -> dict[str, Any]:
    """Strides 4, 8 and 16 are blocks 1, 2 and 4."""
    return {"backbone": "tf_efficientnet_lite0", "layers": list(layers), "pre_trained": False, "evaluator": False}


def _patchcore() -> Any:
    from anomalib.models import Patchcore

    from robustad.adapters import embed_weights

    return embed_weights(
        Patchcore(pre_processor=_pre_processor(), coreset_sampling_ratio=0.01, **_lite("blocks.2", "blocks.4"))
    )


def _padim() -> Any:
    from anomalib.models import Padim

    from robustad.adapters import embed_weights

    return embed_weights(Padim(pre_processor=_pre_processor(), n_features=50, **_lite("blocks.1", "blocks.2")))


def _fastflow() -> Any:
    """FastFlow takes residual networks only: its feature extractor, norms and flows are put on the embedded network."""
    import timm
    from anomalib.models import Fastflow
    from anomalib.models.image.fastflow.torch_model import create_fast_flow_block

    from robustad.backbones.embedded import ARCHITECTURE, load_embedded

    module = Fastflow(backbone="resnet18", pre_trained=False, pre_processor=_pre_processor(), evaluator=False)
    network = timm.create_model(ARCHITECTURE, features_only=True, out_indices=[1, 2, 3], pretrained=False)
    stored = load_embedded().net.state_dict()
    network.load_state_dict({name: stored[name] for name in network.state_dict()})
    shapes = [
        [channels, SIZE // scale, SIZE // scale]
        for channels, scale in zip(network.feature_info.channels(), network.feature_info.reduction(), strict=True)
    ]
    model = module.model
    model.feature_extractor = network.requires_grad_(False)
    model.norms = torch.nn.ModuleList(torch.nn.LayerNorm(shape) for shape in shapes)
    model.fast_flow_blocks = torch.nn.ModuleList(
        create_fast_flow_block(input_dimensions=shape, conv3x3_only=True, hidden_ratio=1.0, flow_steps=8)
        for shape in shapes
    )
    return module


_BUILDERS = {"patchcore": _patchcore, "padim": _padim, "fastflow": _fastflow}
TASKS: dict[str, Callable[[], None]] = {
    "robustness": robustness,
    "robustness-quick": partial(robustness, QUICK, "robustness-quick"),
}
