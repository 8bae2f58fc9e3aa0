import pytest
import torch
from evaluation_doubles import NoisyGradient, ScoreOnly, TinyDetector, made_batch, smooth
from torch import nn

from robustad.adapters import from_callable
from robustad.evaluation import Doubts, Verdict, check_health, unbounded
from robustad.evaluation.health import CHECKS
from robustad.evaluation.patient import Patient
from robustad.evaluation.witness import Witness
from robustad.ops.colour import jitter_hsv

EPSILON = 15 / 255


class RoundedPixels(torch.autograd.Function):
    """Eight grey levels forward, a straight line backward: a gradient that is not the slope."""

    @staticmethod
    def forward(ctx, images):
        return (images * 8).round() / 8

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class ShyGradient(torch.autograd.Function):
    """Right for whole grey levels, hence for the first step; the wrong way round once an attack has moved."""

    @staticmethod
    def forward(ctx, images):
        ctx.moved = bool(((images * 255).round() - images * 255).abs().max() > 1e-3)
        return images.clone()

    @staticmethod
    def backward(ctx, gradient):
        return -gradient if ctx.moved else gradient


def wrapped(images):
    """Beyond a certain change the score starts again from below."""
    return torch.remainder(0.6 - images.mean(dim=(1, 2, 3)), 0.2)


class Random(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, images):
        return smooth(images) + torch.randn(len(images), generator=self.generator)


class Sociable(nn.Module):
    """Compares images with the rest of their batch."""

    def forward(self, images):
        scores = smooth(images)
        return scores - scores.mean()


def verdicts(score, names=None, **options):
    images, labels, _ = made_batch(24)
    detector = score if isinstance(score, nn.Module) and hasattr(score, "has_maps") else ScoreOnly(score)
    found = check_health(detector, images, labels, epsilon=EPSILON, **options)
    return {verdict.name: verdict for verdict in found if names is None or verdict.name in names}


def test_honest_detectors_pass_everything():
    for detector in (smooth, TinyDetector()):
        found = verdicts(detector)
        assert list(found) == list(CHECKS)
        assert all(verdict.passed is True for verdict in found.values()), found
        assert all(verdict.why for verdict in found.values())


@pytest.mark.parametrize(
    ("score", "name"),
    [
        (Random(), "Repeatable score"),
        (Sociable(), "Company changes nothing"),
        (lambda x: smooth(x.detach()) + 0 * x.sum(dim=(1, 2, 3)), "Gradient is there"),
        (lambda x: smooth(RoundedPixels.apply(x)), "Gradient is right"),
        (wrapped, "More ε, more harm"),
        (lambda x: smooth(NoisyGradient.apply(x)), "Unbounded attack wins"),
        (lambda x: smooth(NoisyGradient.apply(x)), "Black box not stronger"),
        (lambda x: -ShyGradient.apply(x).mean(dim=(1, 2, 3)), "More steps, more harm"),
    ],
)
def test_each_check_catches_its_defect(score, name):
    assert verdicts(score, {name})[name].passed is False


class NoGradient(torch.autograd.Function):
    """Zero everywhere: there is no way up."""

    @staticmethod
    def forward(ctx, images):
        return images.clone()

    @staticmethod
    def backward(ctx, gradient):
        return torch.zeros_like(gradient)


def one_sided(images):
    """Honest on images that look normal; the gradient of those that look anomalous is noise."""
    honest, noisy = smooth(images), smooth(NoisyGradient.apply(images))
    return torch.where(honest.detach() > ONE_SIDED, noisy, honest)


ONE_SIDED = 6.9
"""Between the scores of normal and of anomalous images."""


def test_a_gradient_that_is_right_of_one_class_does_not_hide_the_other():
    images, labels, _ = made_batch(24)
    scores = smooth(images)
    assert scores[~labels].max() < ONE_SIDED < scores[labels].min()
    found = verdicts(one_sided)
    assert found["Gradient is right"].passed is False, "half of all images, and all of one class"
    assert found["Black box not stronger"].passed is False


@pytest.mark.parametrize("count", [8, 12, 16, 24, 32])
@pytest.mark.parametrize("seed", range(3))
def test_an_unbounded_attack_that_does_not_move_has_not_won(count, seed):
    """Restarts begin at other test images, and one of them scores beyond all others by itself."""
    images, labels, _ = made_batch(count)
    detector = ScoreOnly(lambda x: smooth(NoGradient.apply(x)))
    found = {v.name: v for v in check_health(detector, images, labels, epsilon=EPSILON, seed=seed)}
    assert found["Unbounded attack wins"].passed is False
    assert found["Unbounded attack wins"].figure == 0


def test_a_floor_that_only_one_image_lies_at_need_not_be_reached_to_the_last_bit():
    images, labels, _ = made_batch(24)
    template = images[~labels][0]

    def distance(x):  # no other image can have a lower score
        return (x - template).square().mean(dim=(1, 2, 3)).sqrt()

    detector = ScoreOnly(distance)
    found = {v.name: v for v in check_health(detector, images, labels, epsilon=EPSILON)}["Unbounded attack wins"]
    assert found.passed is True, found


def test_dents_in_the_floor_at_the_normal_images_themselves_need_not_be_found():
    """As those of good detectors: what an attack makes of other images scores like most normal ones, never less."""
    images, labels, _ = made_batch(24)
    normal = images[~labels]
    depth = 0.12 * smooth(images).std()

    def dented(x):
        distances = (x[:, None] - normal[None]).square().mean(dim=(2, 3, 4))
        above = smooth(x) - smooth(normal).max()
        return nn.functional.leaky_relu(above, 1e-3) - depth * (-distances / 1e-6).exp().amax(dim=1)

    found = {v.name: v for v in check_health(ScoreOnly(dented), images, labels, epsilon=EPSILON)}
    assert found["Unbounded attack wins"].passed is True, found


def test_a_gradient_that_is_no_number_is_found_wherever_it_is():
    images, labels, _ = made_batch(24)
    images[20, :, 0, 0] = 0  # the slope of a root at 0

    def rooted(x):
        return smooth(x) + 1e-3 * x[:, :, 0, 0].square().sum(dim=1).sqrt()

    found = {v.name: v for v in check_health(ScoreOnly(rooted), images, labels, epsilon=EPSILON)}
    assert found["Gradient is there"].passed is False


class Scaled(torch.autograd.Function):
    """A slope that is a little too steep for some images of the batch."""

    @staticmethod
    def forward(ctx, images, factors):
        ctx.factors = factors.to(images)[: len(images), None, None, None]
        return images.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.factors, None


@pytest.mark.parametrize(
    ("wrong", "factor", "passed"),
    [
        (range(0, 4, 2), 1.05, False),  # always, for two of the first eight normal images
        (range(1, 3, 2), 1.05, True),  # for one
        (range(1, 16, 2), 1.02, False),
        (range(16), 1.005, True),
    ],
)
def test_where_a_gradient_counts_as_wrong(wrong, factor, passed):
    factors = torch.ones(64)
    factors[list(wrong)] = factor
    found = verdicts(lambda x: smooth(Scaled.apply(x, factors)), {"Gradient is right"})
    assert found["Gradient is right"].passed is passed, found


def test_a_lie_that_is_told_at_some_places_of_every_image_is_found():
    def sometimes(x):
        told = (1000 * x[:, 0, 3, 3]).long() % 5 < 2  # at two places of five
        return smooth(Scaled.apply(x, torch.where(told, 2.0, 1.0)))

    found = verdicts(sometimes, {"Gradient is right"})["Gradient is right"]
    assert found.passed is False and 0.25 < found.figure < 0.7


def test_one_image_without_a_gradient_is_enough():
    factors = torch.ones(64)
    factors[23] = 0
    found = verdicts(lambda x: smooth(Scaled.apply(x, factors)), {"Gradient is there"})
    assert found["Gradient is there"].passed is False and found["Gradient is there"].figure == pytest.approx(23 / 24)


def test_a_detector_that_cannot_compute_in_float64_is_examined_in_float32():
    """As functions do whose network lies in their closure."""
    convolution = nn.Conv2d(3, 4, 5).requires_grad_(False)

    def score(x):
        return 5 * torch.tanh(nn.functional.conv2d(x, convolution.weight.float(), convolution.bias)).flatten(1).mean(1)

    def check(function):
        return verdicts(from_callable(function, image_size=16), {"Gradient is right"})["Gradient is right"]

    honest, crooked = check(score), check(lambda x: score(Scaled.apply(x, torch.full((64,), 1.2))))
    assert honest.passed is True and crooked.passed is False
    assert "in float32, since float64 is not possible" in honest.why


def test_rounding_on_the_way_is_not_a_wrong_gradient():
    """Scores that are cast to float32, at once or at the end, have no differences over short ways."""

    def check(function):
        return verdicts(from_callable(function, image_size=16), {"Gradient is right"})["Gradient is right"]

    for cast in (lambda x: smooth(x.float()), lambda x: smooth(x.float()).to(x.dtype)):
        assert check(cast).passed is True
    assert check(lambda x: smooth(Scaled.apply(x.float(), torch.full((64,), 1.2)))).passed is False
    lost = check(lambda x: smooth(x.float()) + 1e6)
    assert lost.passed is None and "rounding hides the slope" in lost.why


class Floored(nn.Module):
    """Scores that cannot fall below a floor which normal images nearly reach, as those of good detectors."""

    def forward(self, x):
        return nn.functional.softplus(40 * (0.47 - x.mean(dim=(1, 2, 3))))


def test_a_floor_under_the_scores_is_honest():
    assert all(verdict.passed is True for verdict in verdicts(Floored()).values())


def test_restarts_do_not_all_begin_at_one_odd_image():
    """Scores of a good detector: all normal images but one lie near the floor, too near for a start."""
    clean = torch.tensor([-1.25, -1.2, -1.1, -1.08, -1.03, -0.93, -0.57, 4.8, -0.26, 0.2, 2.0, 2.8, 3.4, 5.4, 5.5, 6.5])
    labels = torch.arange(16) >= 8
    images = torch.arange(16.0)[:, None, None, None].expand(16, 3, 4, 4)
    patient = Patient(Witness(ScoreOnly(smooth)), images, labels, clean, EPSILON, 0)
    anomalous = torch.tensor([15])
    goal = (-clean).max().view(1) - unbounded.NEAR * patient.spread
    begun = [int(unbounded._others(patient, anomalous, goal, start)[0, 0, 0, 0]) for start in range(20)]
    assert len(set(begun)) > 2, begun
    assert all(-clean[number] <= goal - unbounded.MIN_WAY * patient.spread for number in begun), "none is there already"


def test_numpy_on_the_way_is_a_verdict_not_a_crash():
    detector = from_callable(lambda x: x.numpy().mean(axis=(1, 2, 3)), image_size=16)
    found = verdicts(detector)
    assert found["Gradient is there"].passed is False and "no gradient" in found["Gradient is there"].why


def test_a_kink_under_grey_images_is_not_a_wrong_gradient():
    """Hue and saturation have no slope at grey, where one channel's change turns the largest into the smallest."""

    def coloured(images):
        factor = torch.full((len(images),), 1.3).to(images)
        turned = jitter_hsv(images, 0.1 * factor, factor, 0.7 * factor)
        return (turned * turned.new_tensor([1.0, -2.0, 0.5])[:, None, None]).flatten(1).sum(1)

    images, labels, _ = made_batch(24)
    grey = images.mean(dim=1, keepdim=True).expand_as(images)
    found = {v.name: v for v in check_health(ScoreOnly(coloured), grey, labels, epsilon=EPSILON)}
    assert found["Gradient is right"].passed is True


def test_a_cut_gradient_is_a_verdict_not_a_crash():
    found = verdicts(lambda x: smooth(x.detach()))
    assert found["Gradient is there"].passed is False
    assert "no gradient" in found["Gradient is there"].why


def test_other_errors_are_not_swallowed():
    def broken(images):
        if torch.is_grad_enabled():
            raise RuntimeError("out of memory")
        return smooth(images)

    with pytest.raises(RuntimeError, match="out of memory"):
        verdicts(broken)


def test_one_class_only_leaves_the_curves_open():
    images, labels, _ = made_batch(24)
    found = {v.name: v for v in check_health(ScoreOnly(smooth), images[~labels], labels[~labels], epsilon=EPSILON)}
    assert found["More ε, more harm"].passed is None and found["More steps, more harm"].passed is None
    assert found["Gradient is right"].passed is True


def test_the_same_seed_gives_the_same_verdicts_and_the_detector_is_left_alone():
    detector = TinyDetector().train()
    assert verdicts(detector, seed=4) == verdicts(detector, seed=4)
    assert detector.training and all(parameter.requires_grad for parameter in detector.parameters())


def test_progress_names_each_check():
    names = []
    verdicts(smooth, on_check=names.append)
    assert names == list(CHECKS)


def test_doubts_are_the_failed_checks_and_whether_there_is_a_gradient_at_all():
    honest = Doubts.of(list(verdicts(smooth).values()))
    assert honest == Doubts((), False)
    shattered = Doubts.of(
        [Verdict("Gradient is right", False, "off by half", 0.5), Verdict("Repeatable score", None, "")]
    )
    assert shattered == Doubts(("Gradient is right: off by half",), False)
    assert Doubts.of(list(verdicts(lambda x: smooth(x).detach()).values())).no_gradient
    assert not Doubts.of([Verdict("Gradient is there", False, "zero for some", 0.5)]).no_gradient
    unknown = Verdict("Gradient is right", None, "rounding hides the slope")
    assert Doubts.of([unknown]).reasons == ("Gradient is right: rounding hides the slope",)
    cut = Verdict("Gradient is there", False, "no gradient")
    assert Doubts.of([cut, unknown]).reasons == ("Gradient is there: no gradient",), "and nothing to compare"


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (lambda x: smooth(x) * float("nan"), "scores 24 images with NaN"),
        (lambda x: smooth(x)[:, None], r"got \(24, 1\)"),
    ],
)
def test_scores_that_nothing_can_be_said_about_are_an_error(score, text):
    with pytest.raises(ValueError, match=text):
        verdicts(score)


def test_small_passes_give_the_same_verdicts():
    largest = 0

    def watched(images):
        nonlocal largest
        largest = max(largest, len(images))
        return smooth(images)

    found = verdicts(watched, batch_size=5)
    assert largest == 5
    assert {name: verdict.passed for name, verdict in found.items()} == dict.fromkeys(CHECKS, True)


def test_one_image_has_none_to_be_compared_with():
    images, labels, _ = made_batch(2)
    found = {v.name: v for v in check_health(ScoreOnly(smooth), images[:1], labels[:1], epsilon=EPSILON)}
    assert found["Unbounded attack wins"].passed is None


def test_too_little_memory_is_no_lack_of_float64():
    def large(images):
        if images.dtype == torch.float64:
            raise torch.OutOfMemoryError("out of memory")
        return smooth(images)

    with pytest.raises(torch.OutOfMemoryError):
        verdicts(large)


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_company_is_asked_for_however_few_images_a_pass_has(batch_size):
    images, labels, _ = made_batch(16)
    found = {v.name: v for v in check_health(ScoreOnly(Sociable()), images, labels, batch_size=batch_size)}
    assert found["Company changes nothing"].passed is False
