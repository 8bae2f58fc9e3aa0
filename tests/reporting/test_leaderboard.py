"""Who stands above whom, and beside which figures of the baseline."""

from __future__ import annotations

from robustad.evaluation import BASELINE, EXACT, UNIVERSAL, Row
from robustad.reporting import boards, leaderboard_markdown


def row(detector, attack, value, *, epsilon=2 / 255, norm="linf"):
    return Row(
        detector=detector,
        recipe="none",
        data="made",
        split="all",
        seed=0,
        attack=attack,
        norm=norm,
        epsilon=0.0 if attack == "none" else epsilon,
        targets="both",
        metric="image_AUROC",
        value=value,
    )


def names(rows):
    (board,) = boards(rows)
    return [standing.name for standing in board.standings]


def test_without_a_worst_case_the_worst_of_what_was_run_decides():
    weak = [row("weak", "none", 0.9), row("weak", "pgd", 0.2), row("weak", "published-pgd", 0.8)]
    strong = [row("strong", "none", 0.8), row("strong", "pgd", 0.6)]
    assert names(weak + strong) == ["strong", "weak"], "an attack that only one of them allows ranks nobody first"
    doubtful = [row("doubtful", "none", 0.9), row("doubtful", "pgd", 0.7), row("doubtful", "square", 0.5)]
    assert names(weak + strong + doubtful) == ["strong", "doubtful", "weak"]
    text = leaderboard_markdown(boards(weak + strong))
    assert "Ranked by the lowest of pgd, 2/255; published-pgd, 2/255." in text


def test_a_worst_case_has_the_last_word():
    first = [row("first", "pgd", 0.3), row("first", "ensemble", 0.3)]
    second = [row("second", "pgd", 0.9), row("second", "ensemble", 0.2)]
    assert names(first + second) == ["first", "second"]
    assert "Ranked by ensemble, 2/255." in leaderboard_markdown(boards(first + second))


def test_what_is_exact_for_each_image_is_not_compared_with_one_perturbation_for_all():
    rows = [row("any", "pgd", 0.5), row("any", UNIVERSAL, 0.7), row(BASELINE, EXACT, 0.4)]
    (board,) = boards(rows)
    baseline = board.standings[-1]
    assert baseline.figures["pgd, 2/255"].value == 0.4
    assert f"{UNIVERSAL}, 2/255" in {column.title for column in board.columns}
    assert f"{UNIVERSAL}, 2/255" not in baseline.figures
