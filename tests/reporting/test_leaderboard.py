"""Who stands above whom, and beside which figures of the baseline."""

from __future__ import annotations

from robustad.evaluation import BASELINE, CERTIFIED, EXACT, STICKER, UNIVERSAL, Row
from robustad.reporting import boards, leaderboard_html, leaderboard_markdown


def row(detector, attack, value, *, epsilon=2 / 255, norm="linf", seed=0):
    return Row(
        detector=detector,
        recipe="none",
        data="made",
        split="all",
        seed=seed,
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


def test_a_worst_case_that_not_all_have_decides_nothing():
    """Doubtful detectors are attacked by more than was asked for; everybody else would have no figure."""
    best, other = [row("best", "pgd", 0.9)], [row("other", "pgd", 0.4)]
    doubtful = [row("doubtful", "pgd", 0.6), row("doubtful", "square", 0.5), row("doubtful", "ensemble", 0.5)]
    for rows in (best + other + doubtful, doubtful + other + best):
        assert names(rows) == ["best", "doubtful", "other"]
        assert "Ranked by the lowest of pgd, 2/255; square, 2/255." in leaderboard_markdown(boards(rows))


def test_what_is_exact_for_each_image_is_not_compared_with_one_perturbation_for_all():
    rows = [row("any", "pgd", 0.5), row("any", UNIVERSAL, 0.7), row(BASELINE, EXACT, 0.4)]
    (board,) = boards(rows)
    baseline = board.standings[-1]
    assert baseline.figures["pgd, 2/255"].value == 0.4
    assert f"{UNIVERSAL}, 2/255" in {column.title for column in board.columns}
    assert f"{UNIVERSAL}, 2/255" not in baseline.figures


def test_a_check_that_could_not_be_run_has_not_passed():
    rows = [row(name, "pgd", 0.5) for name in ("black box", "fails", "passes")]
    checks = {
        ("made", "black box"): {0: {"One": True, "Unbounded": None}},
        ("made", "fails"): {0: {"One": False, "Unbounded": None}},
        ("made", "passes"): {0: {"One": True, "Unbounded": True}},
    }
    found = boards(rows, checks=checks)
    lines = {line.split(" | ")[0].strip("| "): line for line in leaderboard_markdown(found).splitlines()}
    assert "| none failed; not run: seed 0: Unbounded |" in lines["black box"]
    assert "| seed 0: One |" in lines["fails"] and "| all passed |" in lines["passes"]
    page = leaderboard_html(found)
    assert page.count("✓ passed") == 1 and "none failed; not run: seed 0: Unbounded" in page


def test_where_a_check_failed_is_behind_the_others():
    rows = [row("masked", "ensemble", 0.9), row("honest", "ensemble", 0.4), row(BASELINE, EXACT, 0.7)]
    (board,) = boards(rows, checks={("made", "masked"): {0: {"Gradient is there": False}}})
    assert [standing.name for standing in board.standings] == ["honest", "masked", "mean brightness"]
    assert "behind all others where a health check failed" in leaderboard_markdown([board])


def test_missing_seeds_and_cells_are_said():
    rows = [row("all", "pgd", 0.5, seed=seed) for seed in range(3)] + [row("one", "pgd", 0.9, seed=2)]
    text = leaderboard_markdown(boards(rows), failed={"one on made, seed 0": "no space left"})
    assert "| one (1 of 3 seeds) |" in text and "| all |" in text
    assert "## Not measured\n\n- one on made, seed 0: no space left" in text
    assert "(1 of 3 seeds)" in leaderboard_html(boards(rows))


def test_radii_are_written_in_the_unit_that_they_have():
    rows = [
        row("any", STICKER, 0.5, epsilon=0.2, norm="none"),
        row("any", CERTIFIED, 0.6, epsilon=0.4, norm="l2"),
        row("any", "pgd", 0.6, epsilon=0.2, norm="l2"),
        row("any", "pgd", 0.6, epsilon=4 / 255),
    ]
    titles = {column.title for column in boards(rows)[0].columns}
    expected = {f"{STICKER}, 20% of the side", f"{CERTIFIED} at least, 0.4", "pgd, 0.2", "pgd, 4/255"}
    assert titles == expected
