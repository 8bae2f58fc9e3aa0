"""``robustad info``: what a checkpoint is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from robustad.cli.output import facts, promise
from robustad.cli.parsing import Parser


def build(words: Sequence[str] = ()) -> Parser:
    """The parser of this command."""
    parser = Parser("info", "Say what a checkpoint is, what it was trained on and what it decides.")
    parser.add_argument("checkpoint", type=str, help="folder of a checkpoint")
    return parser


def run(arguments: Any) -> int:
    """Run it."""
    from robustad.detectors import load_checkpoint

    checkpoint = load_checkpoint(arguments.checkpoint)
    detector, calibration = checkpoint.detector, checkpoint.calibration
    values: dict[str, object] = {
        "checkpoint": checkpoint.path,
        "detector": detector.name,
        "input": f"{detector.image_size} x {detector.image_size} pixels",
        "parameters": f"{sum(parameter.numel() for parameter in detector.parameters()):,}",
        "anomaly maps": "yes" if detector.has_maps else "no",
        "threshold": "none: scores only" if calibration is None else promise(calibration),
    }
    values |= {key: _short(value) for key, value in checkpoint.info.items() if key not in values}
    values |= {f"config.{key}": _short(value) for key, value in detector.config.to_dict().items()}
    facts(values)
    return 0


def _short(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
