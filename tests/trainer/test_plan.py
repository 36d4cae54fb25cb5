"""A plan gives every rank whole examples of the same step, within its budget, whatever the number of ranks."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.cli import trainer
from trainer.errors import DataError
from trainer.planning.balance import least, partition
from trainer.planning.efficiency import cost, summarize
from trainer.planning.length_model import LIMIT, human_and_gpt
from trainer.planning.packing import best_fit
from trainer.planning.plan import Balanced, Examples, Micro, Packed, Padded, Plan, Step, at, order

RANKS = (1, 2, 4, 8, 64)
LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=400).map(np.array)


@pytest.fixture(scope="module")
def model() -> Examples:
    return Examples(lengths=human_and_gpt())


def slots(micros: tuple[Micro, ...]) -> int:
    return sum(micro.slots for micro in micros)


def walk(plan: Plan, epochs: int = 1) -> list[Step]:
    return [plan.step(epoch, step) for epoch in range(epochs) for step in range(plan.steps)]


# ---- the order of an epoch


def test_the_order_is_the_documented_permutation() -> None:
    def mix(value: int) -> int:
        value = (value + 1) * 0x9E3779B97F4A7C15 % 2**64
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
        return value ^ (value >> 31)

    keys = [mix((mix(mix(42) + 3) + one) % 2**64) for one in range(1000)]
    assert order(42, 3, 1000).tolist() == sorted(range(1000), key=keys.__getitem__)


def test_the_order_never_changes_between_versions() -> None:
    assert order(42, 0, 12).tolist() == [10, 3, 7, 4, 8, 6, 1, 5, 0, 9, 2, 11]


def test_seeds_and_epochs_have_orders_of_their_own() -> None:
    found = {tuple(order(seed, epoch, 50).tolist()) for seed in range(-2, 5) for epoch in range(5)}
    assert len(found) == 35


def test_every_place_is_as_likely_for_every_example() -> None:
    places = np.array([np.argsort(order(7, epoch, 16)) for epoch in range(2000)])
    counts = np.array([np.bincount(places[:, one], minlength=16) for one in range(16)])
    # Chi squared with 15 degrees of freedom exceeds 49.5 once in 70,000 times.
    assert ((counts - 125) ** 2 / 125).sum(axis=1).max() < 49.5


# ---- balanced


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, seed=st.integers(-(2**70), 2**70), batch=st.integers(1, 130), tokens=st.integers(300, 2000))
def test_a_step_has_the_recipes_examples_on_any_number_of_ranks(
    lengths: np.ndarray, seed: int, batch: int, tokens: int
) -> None:
    examples = Examples(lengths=lengths, seed=seed, batch=batch)
    recipe = order(seed, 1, len(lengths)).tolist()
    seen: list[int] = []
    for number in range(examples.steps):
        expected = recipe[number * batch : (number + 1) * batch]
        for ranks in RANKS:
            step = Balanced(examples=examples, ranks=ranks, tokens=tokens).step(1, number)
            assert sorted(step.ids) == sorted(expected)
            assert len(step.ranks) == ranks
            assert len({len(micros) for micros in step.ranks}) == 1
            for micro in (micro for micros in step.ranks for micro in micros):
                assert micro.width == int(lengths[micro.ids].sum()) <= tokens
        seen += expected
    assert sorted(seen) == list(range(len(lengths)))


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(100, 300), min_size=1, max_size=100).map(np.array), ranks=st.sampled_from(RANKS))
def test_a_budget_holds_where_the_sum_of_tokens_would_need_fewer_micro_steps(lengths: np.ndarray, ranks: int) -> None:
    step = Balanced(examples=Examples(lengths=lengths, batch=100), ranks=ranks, tokens=300).step(0, 0)
    assert max(micro.width for micros in step.ranks for micro in micros) <= 300


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 300), min_size=64, max_size=200).map(np.array), ranks=st.sampled_from(RANKS))
def test_no_rank_is_idle_while_there_are_examples_enough(lengths: np.ndarray, ranks: int) -> None:
    step = Balanced(examples=Examples(lengths=lengths, batch=200), ranks=ranks, tokens=300).step(0, 0)
    micros = [micro for micros in step.ranks for micro in micros]
    assert [micro for micro in micros if not micro.rows] == [] or len(lengths) < len(micros)


@settings(max_examples=40, deadline=None)
@given(lengths=LENGTHS, start=st.integers(0, 30), ranks=st.sampled_from(RANKS))
def test_to_resume_is_to_go_on_asking(lengths: np.ndarray, start: int, ranks: int) -> None:
    def plan() -> Balanced:
        return Balanced(examples=Examples(lengths=lengths, batch=16), ranks=ranks, tokens=600)

    walked = walk(plan(), epochs=3)
    order.cache_clear()
    assert [at(plan(), number) for number in range(start, len(walked))] == walked[start:]


def test_other_processes_plan_the_same() -> None:
    program = (
        "from trainer.planning.length_model import human_and_gpt\n"
        "from trainer.planning.plan import Balanced, Examples\n"
        "plan = Balanced(examples=Examples(lengths=human_and_gpt()[:5000]), ranks=8, tokens=4096)\n"
        "print(plan.step(1, 38))\n"
    )
    shown = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    plan = Balanced(examples=Examples(lengths=human_and_gpt()[:5000]), ranks=8, tokens=4096)
    assert shown == {f"{plan.step(1, 38)}\n".encode()}


def test_the_last_step_of_an_epoch_is_shorter() -> None:
    plan = Balanced(examples=Examples(lengths=np.full(130, 10)), ranks=8, tokens=100)
    assert plan.steps == 2
    last = plan.step(0, 1)
    assert [len(micros) for micros in last.ranks] == [1] * 8
    assert sorted(len(micros[0].rows) for micros in last.ranks) == [0] * 6 + [1] * 2
    with pytest.raises(IndexError, match="2 steps, so there is no step 2"):
        plan.step(0, 2)


@pytest.mark.parametrize("ranks", [1, 2, 4, 8, 16, 32, 64])
def test_ranks_are_balanced_on_the_length_model(model: Examples, ranks: int) -> None:
    plan = Balanced(examples=model, ranks=ranks, tokens=8192)
    found = summarize(cost(plan.step(0, number), model.lengths) for number in range(0, plan.steps, 40))
    assert found.of_bound[0] >= 0.98
    if ranks <= 16:
        assert found.balance[0] >= 0.98
        assert found.efficiency >= 0.98  # so micro-steps are balanced, too


# ---- sharing out


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=60).map(np.array), bins=st.integers(1, 70))
def test_a_partition_has_each_once_and_is_no_worse_than_largest_first(sizes: np.ndarray, bins: int) -> None:
    found = partition(sizes, bins)
    assert len(found) == bins
    assert sorted(one for part in found for one in part) == list(range(len(sizes)))
    loads = [0] * bins
    for size in sorted(sizes.tolist(), reverse=True):
        loads[loads.index(min(loads))] += size
    assert least(sizes, bins) <= max(int(sizes[part].sum()) for part in found) <= max(loads)


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=7).map(np.array), bins=st.integers(1, 3))
def test_a_partition_is_within_a_third_of_the_best(sizes: np.ndarray, bins: int) -> None:
    ways = product(range(bins), repeat=len(sizes))
    best = min(int(np.bincount(way, weights=sizes, minlength=bins).max()) for way in ways)
    assert max(int(sizes[part].sum()) for part in partition(sizes, bins)) <= best * 4 / 3


def test_a_swap_finds_what_largest_first_misses() -> None:
    # Largest first: 5+3, 4+3 leaves 3 on one of them, 11 against 7; the best is 9 and 9.
    sizes = np.array([5, 4, 3, 3, 3])
    assert sorted(int(sizes[part].sum()) for part in partition(sizes, 2)) == [9, 9]


# ---- the other ways


def test_padded_deals_batches_in_turn_and_pads_to_the_longest() -> None:
    examples = Examples(lengths=np.arange(1, 13), batch=12)
    ids = examples.ids(0, 0).tolist()
    step = Padded(examples=examples, ranks=2, size=3).step(0, 0)
    assert [micro.ids for micro in step.ranks[0]] == [ids[0:3], ids[6:9]]
    assert [micro.ids for micro in step.ranks[1]] == [ids[3:6], ids[9:12]]
    assert step.ranks[0][0].slots == 3 * (max(ids[:3]) + 1)


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS)
def test_packed_rows_hold_each_example_once_and_never_overflow(lengths: np.ndarray) -> None:
    plan = Packed(examples=Examples(lengths=lengths, batch=8), ranks=2, size=2, tokens=300)
    steps = walk(plan)
    assert sorted(one for step in steps for one in step.ids) == list(range(len(lengths)))
    for row in plan.rows:
        assert int(lengths[list(row)].sum()) <= 300
    assert {micro.width for step in steps for micros in step.ranks for micro in micros} == {300}


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS)
def test_packing_is_best_fit_decreasing(lengths: np.ndarray) -> None:
    rooms: list[int] = []
    for length in sorted(lengths.tolist(), reverse=True):
        fitting = [room for room in rooms if room >= length]
        if fitting:
            rooms.remove(min(fitting))
        rooms.append((min(fitting) if fitting else 300) - length)
    found = [300 - int(lengths[row].sum()) for row in best_fit(lengths, 300)]
    assert sorted(found) == sorted(rooms)


def test_a_cost_counts_padding_and_waiting() -> None:
    lengths = np.array([4, 1, 2, 3])
    micros = [Micro(rows=rows, width=width) for rows, width in ((((0,), (1,)), 4), (((2, 3),), 5))]
    found = cost(Step(ranks=((micros[0],), (micros[1],))), lengths)
    assert (found.tokens, found.slots, found.mean, found.most, found.bound) == (10, 16, 6.5, 8, 5)
    assert (found.efficiency, found.balance) == (10 / 16, 6.5 / 8)


# ---- what is refused


def test_an_example_beyond_the_budget_is_refused() -> None:
    examples = Examples(lengths=np.array([5, 2049, 7]))
    with pytest.raises(DataError, match=r"Example 1 has 2,049 tokens and a micro-step holds 2,048: allow 2,049"):
        Balanced(examples=examples, ranks=2, tokens=2048)
    with pytest.raises(DataError, match=r"Example 1 has 2,049 tokens and a row holds 2,048"):
        Packed(examples=examples, ranks=2, size=1, tokens=2048)


@pytest.mark.parametrize("lengths", [[], [[1, 2]], [1.5]])
def test_lengths_are_whole_numbers_in_one_list(lengths: list[float]) -> None:
    with pytest.raises(DataError, match="one list of at least one whole number"):
        Examples(lengths=np.array(lengths))


def test_an_empty_example_is_refused() -> None:
    with pytest.raises(DataError, match="Example 1 has 0 tokens"):
        Examples(lengths=np.array([3, 0]))


def test_no_ranks_are_refused() -> None:
    with pytest.raises(DataError, match=r"at least one of: ranks \(got 0\)"):
        Balanced(examples=Examples(lengths=np.array([3])), ranks=0, tokens=5)


# ---- the command


def test_the_command_compares_ways_on_given_lengths(tmp_path: Path) -> None:
    np.save(tmp_path / "lengths.npy", np.append(human_and_gpt()[::500], LIMIT))
    ran = CliRunner().invoke(trainer, ["data", "plan", str(tmp_path / "lengths.npy"), "--ranks", "4"])
    assert ran.exit_code == 0, ran.output
    assert ran.output.splitlines()[1] == "8 optimizer steps an epoch, the same examples in each for any number of ranks"
    rows = [line.split("  ")[0] for line in ran.output.splitlines() if line[:6] in ("balanc", "padded", "packed")]
    ways = ["balanced", "padded, 2 at a time", "padded, 4 at a time", "padded, 8 at a time", "packed rows of 2,048"]
    assert rows[1:] == ways


def test_the_command_lists_a_step(tmp_path: Path) -> None:
    lengths = np.arange(1, 301)
    (tmp_path / "lengths.txt").write_text("\n".join(map(str, lengths)))
    command = ["data", "plan", str(tmp_path / "lengths.txt"), "--ranks", "2", "--tokens", "9000", "--step", "4"]
    ran = CliRunner().invoke(trainer, [*command, "--json"])
    step = Balanced(examples=Examples(lengths=lengths), ranks=2, tokens=9000).step(1, 1)
    assert json.loads(ran.output) == [[micro.ids for micro in micros] for micros in step.ranks]
    shown = CliRunner().invoke(trainer, command).output.splitlines()
    assert shown[0] == "step 4: step 1 of 3 in epoch 1"
    assert [line.split()[0:2] for line in shown[1:]] == [
        ["rank", str(rank)] for rank in range(2) for _ in step.ranks[rank]
    ]


def test_the_length_model_has_the_mean_that_its_name_promises() -> None:
    lengths = human_and_gpt()
    assert (len(lengths), int(lengths.max())) == (490_694, LIMIT)
    assert 700 < lengths.mean() < 710
