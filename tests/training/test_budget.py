"""From seconds to steps, with a clock of our own."""

from __future__ import annotations

import pytest

from robustad.training.budget import MARGIN, MAX_TIMED, MIN_TIMED, StepBudget


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def measure(durations, *, max_time, reserved=0.0, between=0.0, cycle=1):
    """Run steps of these durations; the total, and the step at which it became known."""
    clock = Clock()
    budget = StepBudget(max_time, clock=clock, reserved=reserved, cycle=cycle)
    for number, duration in enumerate(durations, start=1):
        clock.now += between
        budget.step_begins()
        clock.now += duration
        total = budget.step_ends(number)
        if total is not None:
            return total, number
    return None, None


def test_steady_steps_fill_the_budget():
    total, known = measure([1.0] * 1000, max_time=400)
    assert known == MAX_TIMED
    assert total == known + int(MARGIN * 400 - known)


def test_short_budgets_are_measured_on_fewer_steps():
    total, known = measure([1.0] * 1000, max_time=100)
    assert known == 11  # the first step beyond a tenth of the time
    assert total == 11 + int(MARGIN * 100 - 11)
    assert measure([1.0] * 1000, max_time=20)[1] == MIN_TIMED


def test_slow_first_steps_do_not_count_as_typical():
    total, known = measure([30.0, 10.0] + [1.0] * 1000, max_time=1000)
    assert known == MAX_TIMED
    assert total == known + int(MARGIN * 1000 - (40 + known - 2))
    assert measure([9.0, 9.0, 3.0, 3.0] + [1.0] * 1000, max_time=100) == (8 + int(MARGIN * 100 - 28), 8)


def test_one_stray_step_does_not_matter():
    quiet = measure([1.0] * 1000, max_time=400)[0]
    assert abs(measure([1.0] * 10 + [20.0] + [1.0] * 1000, max_time=400)[0] - (quiet - 19)) <= 1


def test_a_budget_that_is_already_spent_ends_at_once():
    assert measure([50.0] * 10, max_time=20) == (1, 1)
    assert measure([5.0] * 10, max_time=20) == (4, 4)


def test_time_for_looks_is_kept_back():
    free, kept = (measure([1.0] * 1000, max_time=400, reserved=r)[0] for r in (0.0, 100.0))
    assert free - kept == 100


def test_time_between_steps_counts_as_spent():
    total, known = measure([1.0] * 1000, max_time=400, between=1.0)
    assert known == 21  # 21 steps of 1 s and as much between them: beyond a tenth of the time
    assert total == 21 + int(MARGIN * 400 - 42)


@pytest.mark.parametrize("cycle", [2, 4, 8])
@pytest.mark.parametrize("first", [2.0, 5.0])
def test_costs_that_come_once_in_a_cycle_are_counted(cycle, first):
    durations = [first, *[1.0] * (cycle - 1)] * 1000
    total, _ = measure(durations, max_time=2000, cycle=cycle)
    assert 0.96 * 2000 < sum(durations[:total]) <= 2000


def test_a_known_total_is_kept():
    clock = Clock()
    budget = StepBudget(10.0, total=7, clock=clock)
    clock.now += 100
    assert budget.step_ends(1) == 7


def test_a_clock_that_does_not_move_is_no_division_by_zero():
    clock = Clock()
    budget = StepBudget(5.0, clock=clock)
    assert [budget.step_ends(step) for step in range(1, MAX_TIMED)] == [None] * (MAX_TIMED - 1)
    assert budget.step_ends(MAX_TIMED) is not None


@pytest.mark.parametrize("max_time", [30.0, 300.0])
def test_the_run_ends_within_its_time(max_time):
    durations = [2.0, 0.5] + [0.1 + 0.01 * (i % 3) for i in range(10**4)]
    total, _ = measure(durations, max_time=max_time)
    spent = sum(durations[:total])
    assert 0.9 * max_time < spent <= max_time
