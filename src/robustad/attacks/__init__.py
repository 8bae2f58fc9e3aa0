"""Attacks: each maximises an objective in a ball around the images, under one contract (`Attack`)."""

from robustad.attacks.base import Attack, Objective, value_and_grad
from robustad.attacks.objectives import ImageObjective, MapObjective, PublishedObjective, ScoreObjective
from robustad.attacks.pgd import PGD
from robustad.attacks.projections import NORMS, Ball

ATTACKS: dict[str, type[Attack]] = {"pgd": PGD}

__all__ = [
    "ATTACKS",
    "NORMS",
    "PGD",
    "Attack",
    "Ball",
    "ImageObjective",
    "MapObjective",
    "Objective",
    "PublishedObjective",
    "ScoreObjective",
    "value_and_grad",
]
