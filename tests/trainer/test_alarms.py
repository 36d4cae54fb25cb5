"""When training stops by itself: for a loss that is no number, a jump, or steps skipped in a row."""

from __future__ import annotations

import math

import pytest
from tests.trainer.watched import entry

from trainer.watching.alarms import DOUBTFUL, ENOUGH, WINDOW, Alarm, Rules, alarm, running_mean, warning
from trainer.watching.watch import Guard

CALM = [entry(step) for step in range(1, ENOUGH + 1)]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_at_once_and_names_its_step(loss: float) -> None:
    told = alarm([entry(7, loss=loss)], Rules(max_skipped=0))
    assert told is not None
    assert told.startswith(
        f"The loss of step 7 is {loss}. Repeating the command goes on from the checkpoint before it, or begins anew"
    )
    assert "learning_rate" in told


def test_a_loss_that_is_no_number_stops_even_if_its_step_was_skipped() -> None:
    assert alarm([entry(7, loss=math.nan, skipped=True)], Rules()) is not None


def test_a_jump_stops_only_above_the_factor_asked_for() -> None:
    rules = Rules(spike=2.0)
    assert alarm([*CALM, entry(11, loss=4.0)], rules) is None
    told = alarm([*CALM, entry(11, loss=4.01)], rules)
    assert told is not None
    assert told.startswith("The loss of step 11 is 4.01, more than 2 times its running mean of 2.")


def test_without_a_factor_a_jump_is_told_and_stops_nothing() -> None:
    jump = [*CALM, entry(11, loss=2 * DOUBTFUL + 0.1)]
    assert alarm(jump, Rules()) is None
    assert warning(jump, Rules()) == "step 11: the loss, 6.1, is 3.0 times its running mean"
    assert warning([*CALM, entry(11, loss=2 * DOUBTFUL)], Rules()) is None


def test_the_first_steps_have_no_running_mean_to_jump_from() -> None:
    assert alarm([*CALM[:-1], entry(10, loss=100.0)], Rules(spike=2.0)) is None


def test_the_running_mean_is_of_the_last_steps_that_were_not_skipped() -> None:
    early = [entry(step, loss=50.0) for step in range(5)]
    late = [entry(step, loss=1.0) for step in range(WINDOW)]
    assert running_mean([*early, *late]) == 1.0
    assert running_mean([*late[:ENOUGH], entry(99, loss=50.0, skipped=True)]) == 1.0
    assert running_mean([*late[: ENOUGH - 1], entry(99, loss=50.0, skipped=True)]) is None


def test_steps_skipped_in_a_row_stop_and_a_good_one_between_them_forgives() -> None:
    skipped = [entry(step, skipped=True, norm=math.inf) for step in range(1, 6)]
    assert alarm(skipped[:4], Rules(max_skipped=5)) is None
    told = alarm(skipped, Rules(max_skipped=5))
    assert told is not None
    assert told.startswith("5 steps in a row were skipped, up to step 5, because their gradients were not finite.")
    assert alarm([*skipped[:4], entry(5), *skipped[4:]], Rules(max_skipped=5)) is None
    assert alarm(skipped * 3, Rules(max_skipped=0)) is None


def test_a_skipped_step_is_told() -> None:
    told = "step 3: skipped, its gradient was not finite; the weights are as before"
    assert warning([entry(3, skipped=True)], Rules()) == told


def test_enough_steps_are_kept_for_every_rule() -> None:
    assert Rules(max_skipped=200).memory == 200
    assert Rules().memory == WINDOW + 1


def test_another_rank_stops_at_the_same_step_with_exit_code_75() -> None:
    guard = Guard(Rules(spike=2.0))
    for one in CALM:
        guard.stepped(one)
    with pytest.raises(Alarm) as stopped:
        guard.stepped(entry(11, loss=9.0))
    assert stopped.value.exit_code == 75
