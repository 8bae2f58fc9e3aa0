"""What a detector may answer to the evaluation, and what it is told otherwise."""

from __future__ import annotations

import pytest
import torch
from evaluation_doubles import ScoreOnly, made_dataset

from robustad.data import ImageDataset
from robustad.evaluation import Suite, evaluate


def run(dataset, detector, suite):
    return evaluate(detector, dataset, suite, epsilons=[4 / 255], show_progress=False)


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    return made_dataset(tmp_path_factory.mktemp("marked"))


def test_a_score_that_turns_nan_under_attack_is_one_clear_line(marked):
    def fragile(x):
        whole = (255 * x - (255 * x).round()).abs().amax(dim=(1, 2, 3)) < 1e-3  # as clean pixels are
        return torch.where(whole, 1.0, float("nan")) * x.mean(dim=(1, 2, 3))

    for attacks in (("pgd", "ensemble"), ("ensemble",), ("adaptive-pgd",), ("apgd",), ("momentum-pgd",), ("square",)):
        suite = Suite(attacks=attacks, steps=3, strong_steps=3, queries=10)
        with pytest.raises(ValueError, match="NaN for an attacked image"):
            evaluate(ScoreOnly(fragile), marked, suite, epsilons=(1.5 / 255,), show_progress=False)


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (lambda x: x.mean(dim=(1, 2, 3)) * float("nan"), "with nan; correct it"),
        (lambda x: x.mean(dim=(1, 2, 3)) / 0, "with inf; correct it"),
        (lambda x: x.double().mean(dim=(1, 2, 3)) * 1e300, r"with \d.*e\+\d+; correct it"),
        (lambda x: x.mean(dim=(2, 3)), r"one score per image, got \(16, 3\) for 16"),
    ],
)
def test_scores_that_are_none_are_one_clear_line(marked, score, text):
    with pytest.raises(ValueError, match=text):
        run(marked, ScoreOnly(score), Suite(attacks=("pgd",), steps=1))


def test_a_score_that_is_driven_out_of_its_range_is_the_most_wrong_one(marked):
    def unbounded(x):
        whole = (255 * x - (255 * x).round()).abs().amax(dim=(1, 2, 3)) < 1e-3  # as clean pixels are
        means = -x.mean(dim=(1, 2, 3))
        return torch.where(whole, means, means * 1e38 * 1e38)

    suite = Suite(attacks=("pgd", "ensemble"), steps=1, strong_steps=1, restarts=1)
    found = evaluate(ScoreOnly(unbounded), marked, suite, epsilons=(1.5 / 255,), show_progress=False)
    labels = [sample.label for sample in marked.samples]
    for attack in ("pgd", "ensemble"):
        scores = found.cell(attack, 1.5 / 255).scores[labels]
        assert (scores == scores.min()).all() and scores.min() < -1e30 and abs(scores.min()) < float("inf")


class Answers(torch.nn.Module):
    """Whatever a test wants it to say."""

    has_maps = True

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, images):
        return self.answer(images)


def means(x):
    return x.mean(dim=(1, 2, 3))


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (means, r"Prediction\(scores, anomaly_maps\)`, got Tensor; a function that gives scores"),
        (lambda x: (means(x), None, None), "got tuple"),
        (lambda x: {"score": means(x)}, "got dict"),
        (lambda x: None, "got NoneType"),
        (lambda x: "0.5", "got str"),
        (lambda x: (means(x)[:, None], None), r"one score per image, got \(16, 1\) for 16"),
        (lambda x: (means(x), x), r"maps must be \(16, 16, 16\) or None, got \(16, 3, 16, 16\)"),
        (lambda x: (means(x), x[:, 0, :8, :8]), r"or None, got \(16, 8, 8\)"),
        (lambda x: (means(x), x[:, 0].numpy()), "or None, got ndarray"),
        (lambda x: (means(x), x[:, 0] * float("nan")), "gave NaN in an anomaly map"),
    ],
)
def test_answers_that_are_no_prediction_say_so(marked, answer, text):
    with pytest.raises((ValueError, TypeError), match=text):
        run(marked, Answers(answer), Suite(attacks=("square",), queries=1))


def test_two_images_are_not_taken_for_scores_and_maps(marked):
    """A tensor of two rows could be unpacked."""
    with pytest.raises(TypeError, match="got Tensor"):
        run(ImageDataset(marked.samples[:2], 16), Answers(means), Suite(attacks=("square",), queries=1))
