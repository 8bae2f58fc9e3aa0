"""COBRA against numbers made by running the released functions (``vectors/cobra``)."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
import torch
from tests.conformance._official import SHARED

from robustad.detectors import load_official
from robustad.detectors.cobra import Cobra, CobraConfig, CobraOutput
from robustad.metrics import auroc
from robustad.ops.colour import change_contrast, hsv_to_rgb, jitter_hsv, rgb_to_hsv, to_grey
from robustad.ops.geometry import mirror, quarter_turns, resized_crop, swap_halves
from robustad.ops.views import SCORING_CROP, TRAINING_CROP, crop_boxes
from robustad.training.cobra import CobraMethod, Views, frozen
from robustad.training.config import TrainingConfig
from robustad.training.contrastive import (
    block_loss,
    contrastive_loss,
    opposite_pairs,
    unit,
)
from robustad.training.schedules import cobra_cosine

pytestmark = pytest.mark.skipif(
    not (SHARED / "vectors" / "cobra").is_dir(), reason="the conformance vectors are not on this machine"
)
COBRA = SHARED / "vectors" / "cobra"


def load(name):
    return dict(np.load(COBRA / f"{name}.npz", allow_pickle=False))


def released_pairs(count, groups=2):
    """The released code's opposites: rows half a group apart."""
    place = torch.arange(count)
    return torch.cat([torch.stack([place, place.roll(count // 2)], 1) + g * count for g in range(groups)])


@pytest.mark.parametrize("rows", ["z", "zc"])
@pytest.mark.parametrize("opposite", [False, True])
def test_training_loss_and_gradient(rows, opposite):
    known = load("a_nt_xent_train")
    z = torch.tensor(known[f"{rows}64"], requires_grad=True)
    pairs = opposite_pairs(16, 2) if opposite else None
    loss = contrastive_loss(z, groups=4, opposites=pairs)
    loss.backward()
    name = f"opp{int(opposite)}"
    assert loss.item() == pytest.approx(float(known[f"{rows}_loss_f64_{name}"]), abs=1e-12)
    np.testing.assert_allclose(z.grad, known[f"{rows}_grad_f64_{name}"], atol=1e-12)


def test_training_loss_of_other_group_counts():
    known = load("a_nt_xent_train")
    z = torch.tensor(known["z64"])
    assert contrastive_loss(z, groups=2).item() == pytest.approx(float(known["z_loss_f64_chunk2"]), abs=1e-12)
    assert contrastive_loss(z[:48], groups=3).item() == pytest.approx(
        float(known["z_loss_f64_chunk3_first48"]), abs=1e-12
    )


@pytest.mark.parametrize(("name", "groups"), [("None", 2), ("Rep", 3)])
def test_attack_loss_and_its_gradient_through_the_anchors_only(name, groups):
    known = load("b_nt_xent_attack")
    out = torch.tensor(known[f"out_{name}"], requires_grad=True)
    rows = out / out.norm(dim=1, keepdim=True).clamp_min(1e-8)
    loss = contrastive_loss(rows, groups=groups, detach_columns=True)
    loss.backward()
    assert loss.item() == pytest.approx(float(known[f"loss_{name}_f64"]), abs=1e-7)
    np.testing.assert_allclose(out.grad, known[f"grad_{name}_f64"], atol=1e-8)


def released_value(key, shape):
    """A tensor made from its name."""
    random = np.random.RandomState(zlib.crc32(key.encode()))
    if key.endswith("num_batches_tracked"):
        value = np.zeros(())
    elif key.endswith("running_mean"):
        value = 0.1 * random.standard_normal(shape)
    elif key.endswith("running_var"):
        value = 1 + 0.5 * random.random_sample(shape)
    elif len(shape) >= 2:
        value = random.standard_normal(shape) * np.sqrt(1 / np.prod(shape[1:]))
    elif key.endswith("weight"):
        value = 1 + 0.1 * random.standard_normal(shape)
    else:
        value = 0.1 * random.standard_normal(shape)
    return torch.tensor(np.asarray(value, dtype=np.float32))


def released_state(mode, blocks):
    """A released state dict under its own names."""
    shapes = json.loads((COBRA / "c_models_meta.json").read_text())[mode]["state_dict"]
    shapes |= {"shift_cls_layer.weight": [blocks, 512], "shift_cls_layer.bias": [blocks]}
    return {key: released_value(key, shape) for key, shape in shapes.items()}


def released_detector(mode, blocks, folder):
    """Through a file, as users import it."""
    torch.save(released_state(mode, blocks), folder / "released.pth")
    return load_official(folder / "released.pth").double()


@pytest.mark.parametrize(("mode", "blocks"), [("resnet18", 4), ("resnet18_imagenet", 2)])
def test_networks(mode, blocks, tmp_path):
    known = load(f"c_{mode}")
    detector = released_detector(mode, blocks, tmp_path)
    assert (detector.config.backbone, detector.config.num_blocks, detector.config.width) == (mode, blocks, 64)
    assert detector.image_size == known["x_uint8"].shape[-1] and not detector.training
    x = torch.tensor(known["x_uint8"].astype(np.float32) / np.float32(255)).double()
    for name in ("eval", "train"):
        detector.train(name == "train")
        with torch.no_grad():
            output = detector.features(x)
        np.testing.assert_allclose(output.projections, known[f"crc_{name}_f64_simclr"], atol=1e-9)
        np.testing.assert_allclose(output.logits, known[f"crc_{name}_f64_classification"], atol=1e-9)
    for name in ("mean", "var"):
        found = getattr(detector.backbone.bn1, f"running_{name}")
        np.testing.assert_allclose(found, known[f"crc_train_f64_bn1_running_{name}_after"], atol=1e-9)


def means(values, blocks):
    """k-major views ``(N, K * 10, D)`` to means per block."""
    tensor = torch.tensor(values).double()
    return tensor.view(len(tensor), blocks, 10, -1).mean(2)


@pytest.mark.parametrize("blocks", [2, 4])
def test_scores(blocks):
    known = load(f"d_scores_K{blocks}")
    detector = Cobra(CobraConfig(width=1, blocks=({"rotation": 1.0},) * (blocks - 1))).double()

    def features(name):
        return CobraOutput(means(known[f"{name}_simclr"], blocks), means(known[f"{name}_classification"], blocks))

    detector._set_memory(features("train"))
    np.testing.assert_allclose(detector.axes, known["axis"], atol=1e-7)
    np.testing.assert_allclose(detector.projection_weights, known["weight_sim"], rtol=1e-6)
    np.testing.assert_allclose(detector.logit_weights, known["weight_shi"], rtol=1e-6)
    scores = {name: detector.normality(features(name)) for name in ("id", "ood1", "ood2")}
    for name, score in scores.items():
        np.testing.assert_allclose(score, known[f"score_{name}"], atol=1e-6)
    for name, parts in (("ood1", ["ood1"]), ("ood2", ["ood2"]), ("pooled", ["ood1", "ood2"])):
        others = torch.cat([scores[part] for part in parts])
        labels = torch.arange(len(scores["id"]) + len(others)) >= len(scores["id"])
        assert auroc(-torch.cat([scores["id"], others]), labels) == pytest.approx(float(known[f"auroc_{name}"]))


@pytest.mark.parametrize("blocks", [2, 4])
def test_scores_of_any_memory_and_their_gradients(blocks):
    known = load(f"d_scores_K{blocks}")
    detector = Cobra(CobraConfig(width=1, blocks=({"rotation": 1.0},) * (blocks - 1))).double()
    detector.axes = torch.tensor(known["rnd_axis"]).double()
    detector.projection_weights = torch.tensor(known["rnd_weight_sim"])
    detector.logit_weights = torch.tensor(known["rnd_weight_shi"])
    projections = torch.tensor(known["id_simclr"]).double().requires_grad_(True)
    logits = torch.tensor(known["id_classification"]).double().requires_grad_(True)
    count = len(projections)
    score = detector.normality(
        CobraOutput(
            projections.view(count, blocks, 10, -1).mean(2),
            logits.view(count, blocks, 10, -1).mean(2),
        )
    )
    np.testing.assert_allclose(score.detach(), known["rnd_score_id"], atol=1e-6)
    score.sum().backward()
    np.testing.assert_allclose(projections.grad, known["rnd_diff_grad_simclr"], atol=1e-6)
    np.testing.assert_allclose(logits.grad, known["rnd_diff_grad_classification"], atol=1e-6)


def test_the_three_attacks_of_a_step_in_shared_passes(tmp_path):
    known = load("e_train_attacks")
    epsilon = float(known["eps"])
    detector = released_detector("resnet18", 2, tmp_path)
    config = TrainingConfig(max_steps=1, epsilon=epsilon, attack_steps=int(known["steps"]), replays=1)
    method = CobraMethod(detector, config)
    views = Views(torch.tensor(known["images1"]).double(), torch.tensor(known["images2"]).double())
    detector.train()
    with frozen(detector):
        attacked = method._climb_each(views, epsilon, 1, None)
    assert detector.training
    for found, name in (("positive", "atpt"), ("opposite", "atnt"), ("class", "rtp")):
        np.testing.assert_allclose(attacked[found], known[f"{name}_f64"], atol=1e-6, err_msg=name)


@pytest.mark.parametrize(("epochs", "each"), [(20, 4), (100, 5), (1000, 2)])
def test_learning_rates(epochs, each):
    known = load("f_lr_schedule")[f"lr_used_E{epochs}_it{each}"].ravel()
    ours = np.array([0.1 * cobra_cosine(step, each, epochs) for step in range(len(known))])
    off = np.abs(ours - known) > 1e-9
    assert off.sum() <= 1, "one entry of the released schedule is an artefact of its torch"


def test_turns_swaps_and_mirrors():
    known = {key: torch.tensor(value) for key, value in load("g_augment").items()}
    x, count = known["x"], len(known["x"])
    for kind in range(4):
        kinds = torch.full((count,), kind)
        assert torch.equal(quarter_turns(x, kinds), known[f"rot{kind}"])
        assert torch.equal(swap_halves(x, kinds), known[f"cutperm{kind}"])
    torch.testing.assert_close(mirror(x, known["hflip_seed21_sign"] < 0), known["hflip_seed21"], rtol=0, atol=1e-6)


def test_crops():
    known = {key: torch.tensor(value) for key, value in load("g_augment").items()}
    boxes = known["rrc_whbias"]
    for image, size, out in (("x", 32, "rrc_out_32"), ("x", 24, "rrc_out_24"), ("rrc_in28", 32, "rrc_in28_out32")):
        torch.testing.assert_close(resized_crop(known[image], boxes, size), known[out], rtol=0, atol=1e-5)
    for name, scale in (("train", TRAINING_CROP), ("test", SCORING_CROP)):
        found = crop_boxes(np.random.RandomState(31), 64, 32, scale)
        np.testing.assert_allclose(found, known[f"rrc_latent_{name}_npseed31"], atol=1e-12)


def test_colours():
    known = {key: torch.tensor(value) for key, value in load("g_augment").items()}
    x = known["x"]
    torch.testing.assert_close(rgb_to_hsv(x), known["rgb2hsv"], rtol=0, atol=1e-5)
    torch.testing.assert_close(hsv_to_rgb(rgb_to_hsv(x)), known["hsv2rgb_of_rgb2hsv"], rtol=0, atol=1e-5)
    factors = [known[name].flatten() for name in ("f_h", "f_s", "f_v")]
    jittered = jitter_hsv(x, factors[0] * 255 / 360, factors[1], factors[2])
    torch.testing.assert_close(jittered, known["hsv_jitter"], rtol=0, atol=1e-5)
    contrasted = change_contrast(x, known["contrast_factor_seed41"].flatten())
    torch.testing.assert_close(contrasted, known["contrast_seed41"], rtol=0, atol=1e-6)
    torch.testing.assert_close(to_grey(x), known["gray_all"], rtol=0, atol=1e-6)
    edge = known["hsv_edge_in"]
    torch.testing.assert_close(rgb_to_hsv(edge), known["hsv_edge_out"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("blocks", "images"), [(2, 4), (4, 3)])
def test_loss_of_a_step(blocks, images):
    known = load("i_step_loss")
    raw = torch.tensor(known[f"K{blocks}_simclr_raw"])
    count = blocks * images
    assert len(raw) == 4 * count
    for opposite in (0, 1):
        pairs = released_pairs(count) if opposite else None
        loss = contrastive_loss(unit(raw), groups=4, opposites=pairs)
        assert loss.item() == pytest.approx(float(known[f"K{blocks}_loss_sim_opp{opposite}"]), abs=1e-9)
    logits = torch.cat([torch.tensor(known[f"K{blocks}_cls"])[: 2 * count], torch.tensor(known[f"K{blocks}_cls_adv"])])
    assert block_loss(logits, groups=3).item() == pytest.approx(float(known[f"K{blocks}_loss_cls"]), abs=1e-12)


def test_our_opposites_are_the_released_ones_for_two_blocks():
    ours = {tuple(pair) for pair in opposite_pairs(8, 2).tolist()}
    assert ours == {tuple(pair) for pair in released_pairs(8).tolist()}
    four = {tuple(pair) for pair in opposite_pairs(12, 4).tolist()}
    assert (0, 3) in four and (0, 6) in four and (0, 9) in four and (3, 6) not in four and (12, 15) in four
