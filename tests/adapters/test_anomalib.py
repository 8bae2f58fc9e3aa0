"""anomalib's models under our attacks, and ours in anomalib's engine. Run by ``make test-anomalib``."""

from __future__ import annotations

import copy
import pickle
import shutil

import numpy as np
import pytest
import torch

pytest.importorskip("anomalib")

from anomalib.deploy import ExportType
from anomalib_made import CUT, MODELS, SIZE, datamodule, engine, write_images
from PIL import Image

from robustad.adapters import as_anomalib, embed_weights, from_anomalib, from_onnx
from robustad.adapters._blur import separate_blurs
from robustad.adapters.anomalib import load_anomalib
from robustad.adapters.anomalib_module import RobustadModule
from robustad.attacks import PGD, ImageObjective, Square, value_and_grad
from robustad.detectors import Brightness, BrightnessConfig, PatchGuard, PatchGuardConfig
from robustad.errors import CheckpointError
from robustad.evaluation import Results, check_health, select
from robustad.evaluation.health import check_finite_differences, check_gradient
from robustad.evaluation.patient import Patient
from robustad.evaluation.witness import Witness
from robustad.workflows._data import DataConfig
from robustad.workflows.test import test
from robustad.workflows.test_config import TestConfig

TINY = {
    "default": {"image_size": 32, "backbone": "vit_plain", "top_k": 1},
    "cobra": {"image_size": 32, "width": 4},
}


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("made") / "data")


@pytest.fixture(scope="session")
def trained(made, tmp_path_factory):
    """Trained modules by name, each with the path of its checkpoint."""
    kept = {}

    def train(name):
        if name not in kept:
            module, base = {**MODELS, **CUT}[name](), tmp_path_factory.mktemp(name)
            runner = engine(base)
            runner.fit(module, datamodule=datamodule(made))
            kept[name] = module, runner.best_model_path
        return kept[name]

    return train


@pytest.fixture(scope="session")
def shown(made):
    """Eight images and their labels, normal and anomalous in turn."""
    files = [made / kind / f"{index:02}.png" for index in range(4) for kind in ("normal", "anomalous")]
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255, torch.tensor([False, True] * 4)


@pytest.mark.parametrize("name", list(MODELS))
def test_the_gradient_is_the_slope_and_attacks_use_it(trained, shown, name):
    module, _ = trained(name)
    images, labels = shown
    detector = from_anomalib(module)
    assert detector.differentiable and detector.no_gradient == "" and detector.image_size == SIZE
    prediction = detector(images)
    assert prediction.scores.shape == (8,) and prediction.anomaly_maps.shape == (8, SIZE, SIZE)
    raw = module.model(module.pre_processor(images)).pred_score.reshape(-1)
    torch.testing.assert_close(prediction.scores, raw)
    patient = Patient(Witness(detector), images[:4], labels[:4], prediction.scores.detach()[:4], 4 / 255, 0)
    for check in (check_gradient, check_finite_differences):
        passed, why, _ = check(patient)
        assert passed is True, why
    attacked = detector(PGD(steps=5)(ImageObjective(detector, labels), images, epsilon=4 / 255)).scores
    assert ((attacked < prediction.scores) == labels).all()
    assert (attacked != prediction.scores).all()


@pytest.mark.parametrize("name", list(MODELS))
def test_without_the_adapter_there_is_no_gradient(trained, shown, name):
    """Why it exists: what anomalib returns is scaled and clamped, and computed without gradients besides."""
    module, _ = trained(name)
    module.eval()
    x = shown[0].clone().requires_grad_(True)
    scores = module(x).pred_score.reshape(-1)
    found = torch.autograd.grad(scores.sum(), x, allow_unused=True)[0] if scores.requires_grad else None
    norms = torch.zeros(len(x)) if found is None else found.flatten(1).norm(dim=1)
    clamped = (scores.detach() <= 0) | (scores.detach() >= 1)
    assert bool(clamped.any()) and bool((norms[clamped] == 0).all())
    if not name.startswith("fastflow"):  # which has one where its score lies inside of the scale
        assert bool((norms == 0).all())
    detector = from_anomalib(module)
    _, through = value_and_grad(lambda images, _: detector(images).scores, shown[0])
    assert bool((through.flatten(1).norm(dim=1) > 0).all())


@pytest.mark.parametrize("name", ["patchcore", "padim-lite0"])
def test_maps_are_blurred_along_one_axis_after_the_other(trained, shown, name):
    """Half of a pass was a blur of 33 x 33; what comes out is the same."""
    module = copy.deepcopy(trained(name)[0]).eval()
    for part in module.modules():
        vars(part).pop("forward", None)  # as it was before any test
    before = module.model(module.pre_processor(shown[0])).anomaly_map
    assert separate_blurs(module) == 1
    after = module.model(module.pre_processor(shown[0])).anomaly_map
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6 * float(before.abs().max()))
    assert not torch.equal(after, before), "nothing was replaced"
    again = pickle.loads(pickle.dumps(module.model))  # noqa: S301  # made in this line
    torch.testing.assert_close(again(module.pre_processor(shown[0])).anomaly_map, after)


def test_a_blur_that_is_no_product_stays_as_it_is(trained):
    module = copy.deepcopy(trained("patchcore")[0])
    (blur,) = (part for part in module.modules() if type(part).__name__ == "GaussianBlur2d")
    blur.kernel = blur.kernel.clone()
    blur.kernel[..., 0, 0] = blur.kernel.amax()
    vars(blur).pop("forward", None)
    assert separate_blurs(module) == 0 and "forward" not in vars(blur)


def test_a_cut_score_path_is_a_black_box(trained, shown):
    module, path = trained("cflow")
    images, labels = shown
    detector = from_anomalib(module)
    assert not detector.differentiable and "Cflow: its score path is cut" in detector.no_gradient
    assert load_anomalib(path).no_gradient == detector.no_gradient
    verdicts = check_health(detector, images, labels)
    failed = {verdict.name: verdict.why for verdict in verdicts if verdict.passed is False}
    assert set(failed) == {"Gradient is there", "Company changes nothing"}
    assert "company changes a score" in failed["Company changes nothing"], (
        "its maps are scaled by the maximum of the batch"
    )
    attacked = Square(queries=20)(ImageObjective(detector, labels), images, epsilon=16 / 255)
    moved = detector(attacked).scores - detector(images).scores
    assert ((moved <= 0) == labels).float().mean() > 0.5 and bool((moved != 0).any())


def test_what_inference_mode_made_is_usable(trained, shown):
    """Lightning validates in inference mode; memory banks come out of it as tensors that autograd refuses."""
    module, _ = trained("patchcore")
    with torch.inference_mode():
        module.model.memory_bank = module.model.memory_bank.clone()
    assert module.model.memory_bank.is_inference()
    detector = from_anomalib(module)
    with torch.inference_mode():
        quiet = detector(shown[0]).scores
    torch.testing.assert_close(quiet.clone(), detector(shown[0]).scores.detach())
    value_and_grad(lambda images, _: detector(images).scores, shown[0])


@pytest.mark.parametrize("name", ["patchcore", "fastflow", "reversedistillation", "padim-lite0"])
def test_a_checkpoint_scores_as_its_module(trained, shown, name, tmp_path):
    """Fastflow is built for its image size, ReverseDistillation stores an enum; no weights are fetched."""
    module, path = trained(name)
    torch.testing.assert_close(load_anomalib(path)(shown[0]).scores, from_anomalib(module)(shown[0]).scores)
    kind = type(module).__name__
    elsewhere = tmp_path / "weights.ckpt"
    shutil.copyfile(path, elsewhere)
    with pytest.raises(CheckpointError, match="does not say which model of anomalib it is; write anomalib:MODEL="):
        load_anomalib(elsewhere)
    assert load_anomalib(elsewhere, model=kind).name == kind.lower()


def test_files_that_are_no_checkpoint(trained, tmp_path):
    with pytest.raises(CheckpointError, match="no anomalib checkpoint"):
        load_anomalib(tmp_path / "Padim.ckpt")
    evil = tmp_path / "Padim.ckpt"
    evil.write_bytes(pickle.dumps(print))
    with pytest.raises(CheckpointError, match=r"Padim\.ckpt cannot be loaded as anomalib's Padim") as caught:
        load_anomalib(evil)
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match=r"anomalib has no model 'Nothing' that takes images; known: .*Patchcore"):
        load_anomalib(evil, model="Nothing")
    with pytest.raises(CheckpointError, match=r"cannot be loaded as anomalib's Padim: .*size mismatch|Padim: Error"):
        load_anomalib(trained("patchcore")[1], model="Padim")
    (tmp_path / "model.pt").touch()
    with pytest.raises(CheckpointError, match="is a pickle"):
        load_anomalib(tmp_path / "model.pt", model="Padim")
    with pytest.raises(TypeError, match="`module` must be an AnomalibModule, got Linear"):
        from_anomalib(torch.nn.Linear(2, 2))


def test_embedded_weights_are_only_for_their_network(trained):
    with pytest.raises(ValueError, match="must be timm's tf_efficientnet_lite0"):
        embed_weights(trained("padim")[0])


def test_the_bench_takes_a_checkpoint(trained, made, tmp_path):
    path = trained("patchcore-lite0")[1]
    data = DataConfig(normal=made / "normal", anomalous=made / "anomalous", masks=made / "masks")
    config = TestConfig(
        epsilons=(2 / 255,), steps=2, strong_steps=2, restarts=1, queries=20, max_images=6, health=False
    )
    result = test(f"anomalib:{path}", data, config, tmp_path)
    found = select(result.rows, detector="patchcore", metric="image_AUROC")
    assert {row.recipe for row in found} == {"anomalib"} and {"pgd", "ensemble", "map-pgd"} <= {r.attack for r in found}
    values = {row.attack: row.value for row in found}
    assert values["ensemble"] <= values["none"]
    black = test(f"anomalib:{trained('cflow')[1]}", data, config, tmp_path / "black")
    assert {row.attack for row in select(black.rows, detector="cflow")} == {"none", "square", "ensemble"}
    assert "score path is cut" in Results.read(black.results).details["attacks"]["pgd"]["skipped"]["score"]


@pytest.mark.parametrize("recipe", ["default", "cobra"])
def test_ours_is_trained_tested_and_exported_by_the_engine(recipe, made, tmp_path):
    module = as_anomalib(recipe, model=TINY[recipe])
    before = {name: value.clone() for name, value in module.trained.state_dict().items()}
    runner = engine(tmp_path, epochs=2)
    runner.fit(module, datamodule=datamodule(made))
    training = module.recipe.training
    assert module.global_step == 2 * 2 * training.replays
    assert any(
        not torch.equal(value, before[name]) for name, value in module.trained.state_dict().items() if name in before
    )
    (figures,) = runner.test(module, datamodule=datamodule(made), verbose=False)
    assert 0 <= figures["image_AUROC"] <= 1 and ("pixel_AUROC" in figures) == (recipe == "default")
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    again = RobustadModule.load_from_checkpoint(runner.best_model_path).eval()
    assert torch.equal(again.detector(images).scores, module.eval().detector(images).scores)
    fresh = as_anomalib(recipe, model=TINY[recipe])
    (restored,) = runner.test(fresh, datamodule=datamodule(made), ckpt_path=runner.best_model_path, verbose=False)
    assert restored == figures
    assert runner.export(module, export_type=ExportType.TORCH, export_root=tmp_path / "torch").is_file()
    file = runner.export(module, export_type=ExportType.ONNX, export_root=tmp_path / "onnx", input_size=(32, 32))
    exported = from_onnx(file)
    torch.testing.assert_close(
        exported(images).scores, module(images).pred_score.reshape(-1).detach(), atol=1e-4, rtol=0
    )
    assert exported.has_maps == (recipe == "default")


def test_the_step_is_adversarial_and_repeatable(made, tmp_path):
    """The recipe's attack is in the step: with radius 0 the same seed gives other weights; with itself the same."""
    runs = []
    for number, training in enumerate([{}, {}, {"epsilon": 0.0}]):
        options = {"replays": 1, "attack_steps": 1, "epsilon_warmup": 0.0, "average_decay": 0.0, **training}
        module = as_anomalib("default", model=TINY["default"], training=options)
        torch.manual_seed(0)  # the order that anomalib's loader draws
        engine(tmp_path / str(number)).fit(module, datamodule=datamodule(made))
        runs.append(torch.cat([value.flatten() for value in module.detector.state_dict().values()]))
    assert torch.equal(runs[0], runs[1])
    assert not torch.allclose(runs[0], runs[2])


def test_a_trained_detector_is_tested_as_it_is(made, tmp_path):
    torch.manual_seed(0)
    detector = PatchGuard(PatchGuardConfig(**TINY["default"])).eval()
    module = as_anomalib(detector)
    images = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(module.detector(images).scores, detector(images).scores)
    adapted = from_anomalib(module)
    assert adapted.differentiable
    torch.testing.assert_close(adapted(images).scores, detector(images).scores)
    torch.testing.assert_close(adapted(images).anomaly_maps, detector(images).anomaly_maps)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"what": "defualt"}, "did you mean 'default'"),
        ({"what": "default", "model": {"sizes": 3}}, "sizes"),
        ({"what": "cobra", "training": {"average_decay": 0.9}}, "`average_decay` must be 0 for cobra"),
        ({"what": Brightness(BrightnessConfig(image_size=32))}, "a brightness detector is not trained"),
    ],
)
def test_options_that_do_not_fit_ours(arguments, text):
    with pytest.raises(ValueError, match=text):
        as_anomalib(**arguments)


@pytest.mark.parametrize("name", ["Dinomaly", "Fuvas", "Uflow"])
def test_nothing_is_fetched_to_read_a_checkpoint(tmp_path, name):
    path = tmp_path / "some.ckpt"
    torch.save({"state_dict": {}, "pytorch-lightning_version": "2.5.0", "hyper_parameters": {}}, path)
    with pytest.raises(CheckpointError, match=r"fetches a network from .* robustad fetches nothing"):
        load_anomalib(path, model=name)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"abc", "is no checkpoint of torch, or is damaged"),
        (b"", "is no checkpoint of torch, or is damaged"),
        ({"layer.weight": torch.zeros(1)}, "has no `state_dict`. Weights alone go into a module"),
        ({"state_dict": {}}, "was not written by Lightning"),
    ],
)
def test_files_that_are_no_checkpoints_say_what_they_are(tmp_path, content, text):
    path = tmp_path / "some.ckpt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(CheckpointError, match=text):
        load_anomalib(path, model="Padim")
