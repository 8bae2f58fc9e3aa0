"""Attacks: each maximises an objective in a ball around the images, under one contract (`Attack`)."""

from robustad.attacks.apgd import APGD
from robustad.attacks.base import Attack, Objective, value_and_grad
from robustad.attacks.estimated import EstimatedPGD
from robustad.attacks.momentum import MomentumPGD
from robustad.attacks.objectives import (
    ExpectedObjective,
    ImageObjective,
    MapObjective,
    PublishedObjective,
    RegionObjective,
    ScoreObjective,
)
from robustad.attacks.patch import AdversarialPatch
from robustad.attacks.pgd import FGSM, PGD
from robustad.attacks.projections import NORMS, Ball
from robustad.attacks.square import Square
from robustad.attacks.universal import universal_perturbation

ATTACKS: dict[str, type[Attack]] = {
    attack.name: attack for attack in (FGSM, PGD, MomentumPGD, APGD, Square, EstimatedPGD)
}

__all__ = [
    "APGD",
    "ATTACKS",
    "FGSM",
    "NORMS",
    "PGD",
    "AdversarialPatch",
    "Attack",
    "Ball",
    "EstimatedPGD",
    "ExpectedObjective",
    "ImageObjective",
    "MapObjective",
    "MomentumPGD",
    "Objective",
    "PublishedObjective",
    "RegionObjective",
    "ScoreObjective",
    "Square",
    "universal_perturbation",
    "value_and_grad",
]
