"""Options of a test."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from robustad._checks import check_at_least, check_choice, check_radii
from robustad.corruptions import choose
from robustad.data.partition import PARTS, Part
from robustad.evaluation import CertifyConfig, Suite, ThreatConfig, check_corruptions

RADII = {"linf": (1 / 255, 2 / 255, 4 / 255), "l2": (0.25, 0.5, 1.0)}
"""Radii of attacks by the norm, in pixel units of [0, 1], unless others are asked for."""

_NEEDED = {
    "certify_radii": "certify",
    "certify_samples": "certify",
    "severities": "corruptions",
    "sticker_draws": "stickers",
}
"""Options that do nothing without another one."""


@dataclass(frozen=True, kw_only=True)
class TestConfig:
    """Options of `test`.

    Attributes:
        attacks: Names out of `robustad.evaluation.SUITE`; None = published and plain PGD, the strongest PGD on the
            score, the worst case over all (``ensemble``) and, where masks exist, PGD on the maps.
        epsilons: Radii in pixel units of [0, 1]; clean images are always scored. None = `RADII` of the norm.
        norm: Of the ball: ``linf`` (every pixel a little) or ``l2`` (how far in total).
        steps: Steps of ``published-pgd`` and ``pgd``.
        strong_steps: Steps of all others and of the members of ``ensemble``.
        restarts: Runs of the strong attacks; further ones start at random.
        queries: Times that an attack without gradient scores each image.
        stop_early: Leave an image alone once it ranks behind all clean images of the other class; see `Suite`.
        precision: ``float32``, ``bfloat16`` or ``auto``: of the passes of long attacks; see `Suite`.
        where: Which pixels may change: ``everywhere``, ``background`` or ``foreground``; see `Suite`.
        draws: Calls whose mean attacks follow, for detectors that draw at random; see `Suite`. None = 1, and 8 where
            the health checks find such a detector.
        corruptions: Names out of `robustad.corruptions.CORRUPTIONS` or ``.GROUPS``; ``all`` = each of them.
        severities: Severities of corruptions, 1 to 5.
        certify: Standard deviation of the noise that the detector is smoothed with to say what is certain in L2; 0 = no
            certificate.
        certify_radii: L2 radii of certificates.
        certify_samples: Noisy copies per image.
        stickers: Sides of stickers, as shares of the image's side; see `robustad.evaluation.ThreatConfig`.
        sticker_draws: Quarter turns and brightnesses that a sticker has to work under.
        universal: Radii of one perturbation for all images, in the norm ``norm``.
        targets: Who is attacked: ``both``, ``anomalous`` (hide a defect) or ``normal`` (stop the line).
        part: Half of the test set: ``all``, ``dev`` (to make choices on) or ``final`` (to publish).
        max_images: Test at most so many images, of both classes in proportion, neither below a quarter.
        seed: Seed of random starts and health checks.
        batch_size: Images per pass.
        transfer: Checkpoint of another detector; its adversarial images are tried on this one, too.
        health: Examine whether the attacked figures can be believed.
        image_size: Side of the images of detectors from elsewhere, for files that leave it open.
        device: ``auto`` or a torch device.
    """

    __test__: ClassVar[bool] = False  # the name looks like a test case to pytest

    attacks: tuple[str, ...] | None = None
    epsilons: tuple[float, ...] | None = None
    norm: str = "linf"
    steps: int = 10
    strong_steps: int = 20
    restarts: int = 2
    queries: int = 1000
    stop_early: bool = False
    precision: str = "float32"
    where: str = "everywhere"
    draws: int | None = None
    corruptions: tuple[str, ...] = ()
    severities: tuple[int, ...] = (1, 3, 5)
    certify: float = 0.0
    certify_radii: tuple[float, ...] = (0.25, 0.5)
    certify_samples: int = 1000
    stickers: tuple[float, ...] = ()
    sticker_draws: int = 1
    universal: tuple[float, ...] = ()
    targets: str = "both"
    part: Part = "all"
    max_images: int | None = None
    seed: int = 0
    batch_size: int = 32
    transfer: Path | None = None
    health: bool = True
    image_size: int | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        check_radii(self.radii, norm=self.norm)
        check_choice("part", self.part, PARTS)
        check_at_least("batch_size", self.batch_size, 1)
        check_corruptions(self.corruption_names, self.severities)
        if self.image_size is not None:
            check_at_least("image_size", self.image_size, 1)
        if self.max_images is not None:
            check_at_least("max_images", self.max_images, 2)
        _ = self.suite, self.certificate, self.threats
        self._check_used()

    def _check_used(self) -> None:
        """An option that would do nothing is an error, before anything is measured."""
        if "transfer" in (self.attacks or ()) and self.transfer is None:
            raise ValueError("attack 'transfer' needs another detector: pass its checkpoint as `transfer`")
        if self.transfer is not None and self.attacks is not None and not {"transfer", "ensemble"} & {*self.attacks}:
            raise ValueError(
                "`transfer` is for the attacks 'transfer' and 'ensemble'; name one of them, or leave it out"
            )
        for name, master in _NEEDED.items():
            given = next(option for option in fields(self) if option.name == name)
            if getattr(self, name) != given.default and not getattr(self, master):
                raise ValueError(f"`{name}` does nothing without `{master}`; give that as well, or leave it out")

    @property
    def radii(self) -> tuple[float, ...]:
        """What ``epsilons`` means."""
        return RADII[check_choice("norm", self.norm, RADII)] if self.epsilons is None else self.epsilons

    @property
    def corruption_names(self) -> tuple[str, ...]:
        """What ``corruptions`` means."""
        return choose(self.corruptions)

    @property
    def certificate(self) -> CertifyConfig | None:
        """What is to be certain; None = nothing."""
        if self.certify == 0:
            return None
        return CertifyConfig(sigma=self.certify, radii=self.certify_radii, samples=self.certify_samples)

    @property
    def threats(self) -> ThreatConfig:
        """Threats beside small perturbations of one image."""
        return ThreatConfig(
            stickers=self.stickers,
            sticker_draws=self.sticker_draws,
            universal=self.universal,
            norm=self.norm,
            draws=1 if self.draws is None else self.draws,
        )

    @property
    def suite(self) -> Suite:
        """The attacks and their effort."""
        return Suite(
            attacks=self.attacks,
            targets=self.targets,
            steps=self.steps,
            strong_steps=self.strong_steps,
            restarts=self.restarts,
            queries=self.queries,
            stop_early=self.stop_early,
            norm=self.norm,
            precision=self.precision,
            where=self.where,
            draws=1 if self.draws is None else self.draws,
        )


def settings(config: TestConfig) -> dict[str, Any]:
    """The options of a test as a results file holds them."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()}
