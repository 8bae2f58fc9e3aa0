"""Options of a test reach the suite, the certificate and the other threats."""

import dataclasses

from robustad.evaluation import CertifyConfig, ThreatConfig
from robustad.workflows.test_config import TestConfig

CONFIG = TestConfig(
    attacks=("square", "pgd"),
    norm="l2",
    steps=3,
    strong_steps=4,
    restarts=5,
    queries=6,
    stop_early=True,
    precision="bfloat16",
    where="background",
    draws=7,
    targets="normal",
    certify=0.2,
    certify_radii=(0.1,),
    certify_samples=8,
    stickers=(0.3,),
    sticker_draws=9,
    universal=(0.5,),
)


def test_the_suite_has_every_option_that_it_shares_with_the_test():
    options = vars(CONFIG)
    for field in (field for field in dataclasses.fields(CONFIG.suite) if field.name in options):
        assert getattr(CONFIG.suite, field.name) == options[field.name] != field.default, field.name


def test_certificates_and_threats_have_their_options():
    assert CONFIG.certificate == CertifyConfig(sigma=0.2, radii=(0.1,), samples=8)
    assert CONFIG.threats == ThreatConfig(stickers=(0.3,), sticker_draws=9, universal=(0.5,), norm="l2", draws=7)
