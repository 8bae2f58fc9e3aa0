"""What is certain of one detector: COBRA on a class of the digits, smoothed, in L2."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from evidence_cobra import LOSS_STEPS, configured, digit
from measuring import Measured, few_anomalies, now, prepared, side_by_side, trained, write_found

from robustad.detectors import load_checkpoint
from robustad.evaluation import CertifyConfig, Subject, certified_rows, evaluate_certified
from robustad.workflows._data import fingerprint, load_split

CLASS = "3"
SIGMAS, RADII, SAMPLES = (0.12, 0.25), (0.25, 0.5), 2000
PER_KIND = 5


def certified() -> None:
    """Two spreads of noise, all normal images and a few of each other class."""
    started = now()
    jobs: dict[str, Callable[[], Measured]] = {f"noise {sigma:g}": partial(_certified, sigma) for sigma in SIGMAS}
    trained(configured(digit(CLASS), max_steps=LOSS_STEPS), _name())
    write_found("certified", side_by_side(jobs), started)


def _name() -> str:
    return f"digits-{CLASS}-cobra+cls-0-{LOSS_STEPS}"  # the same training as among the losses


def _certified(sigma: float) -> Measured:
    data = digit(CLASS)
    detector = load_checkpoint(trained(configured(data, max_steps=LOSS_STEPS), _name())).detector
    samples = few_anomalies(load_split(data, part="final", seed=0).test, PER_KIND)
    dataset, store = prepared(detector, samples, f"{_name()} {fingerprint(samples)}")
    config = CertifyConfig(sigma=sigma, radii=RADII, samples=SAMPLES)
    found = evaluate_certified(detector, dataset, config, store=store)
    subject = Subject(detector="cobra", recipe=f"cobra, noise {sigma:g}", data=data.label, split="final")
    details = {"confidence": config.confidence, "samples": config.samples, "images": len(samples)}
    return Measured(certified_rows(found, subject), details)


TASKS: dict[str, Callable[[], None]] = {"certified": certified}
