"""Token efficiency of ways to batch the Human+GPT mixture on 1 to 64 ranks, and what planning a step costs.

    python benchmarks/plan.py [steps]

Lengths come from `trainer.planning.length_model`: a model made from Table 1 of the paper, not data. Efficiency is
tokens to token slots paid, where every micro-step waits for the slowest rank (ZeRO-3). All but packing and grouping by
length keep the recipe's 128 examples to a step. The first STEPS steps of an epoch are counted (default 400).
transformers is called as installed: `BatchRebalanceSampler._assign`, which its `__iter__` calls once a step, with
128 / ranks / size groups for each rank, and `get_length_grouped_indices`; verl's balance is written here from its
description.
"""

from __future__ import annotations

import heapq
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from trainer.planning.balance import partition
from trainer.planning.efficiency import Summary, cost, summarize
from trainer.planning.length_model import LIMIT, human_and_gpt
from trainer.planning.plan import BATCH, Balanced, Examples, Micro, Packed, Padded, Step

RANKS = (1, 2, 4, 8, 16, 32, 64)
Way = Callable[[int], "Iterator[Step] | None"]


def padded(lengths: NDArray[np.int64], ids: Sequence[int]) -> Micro:
    """Examples, at least one, padded to the longest of them."""
    return Micro(rows=tuple((int(one),) for one in ids), width=int(lengths[ids].max()))


def joined(lengths: NDArray[np.int64], ids: NDArray[np.int64]) -> Micro:
    """Examples one behind the other, without padding."""
    return Micro(rows=(tuple(ids.tolist()),), width=int(lengths[ids].sum()))


def by_balance(examples: Examples, tokens: int, steps: int, ranks: int) -> Iterator[Step]:
    """What trainer does."""
    plan = Balanced(examples=examples, ranks=ranks, tokens=tokens)
    return (plan.step(0, number) for number in range(steps))


def by_packing(examples: Examples, steps: int, ranks: int) -> Iterator[Step]:
    """Rows of the length limit, packed over the whole epoch, 128 rows to a step."""
    plan = Packed(examples=examples, ranks=ranks, size=1 if ranks > 32 else 2, tokens=LIMIT)
    return (plan.step(0, number) for number in range(min(steps, plan.steps)))


def by_padding(examples: Examples, size: int, steps: int, ranks: int) -> Iterator[Step] | None:
    """Random batches of a size; nothing where 128 examples are too few for the ranks."""
    if ranks * size > BATCH:
        return None
    plan = Padded(examples=examples, ranks=ranks, size=size)
    return (plan.step(0, number) for number in range(steps))


def by_rebalance(examples: Examples, size: int, steps: int, ranks: int) -> Iterator[Step] | None:
    """The transformers library's ``train_sampling_strategy="batch_rebalance"``: groups of near-equal padded cost."""
    from transformers.trainer_pt_utils import BatchRebalanceSampler

    if ranks * size > BATCH:
        return None
    lengths = examples.lengths
    sampler = BatchRebalanceSampler([1] * BATCH, BATCH, ranks, BATCH // (ranks * size))

    def step(number: int) -> Step:
        ids = examples.ids(0, number).tolist()
        dealt = sampler._assign(ids, lengths[ids].tolist())
        return Step(ranks=tuple(tuple(padded(lengths, group) for group in micros) for micros in dealt))

    return map(step, range(steps))


def by_length(examples: Examples, size: int, steps: int, ranks: int) -> Iterator[Step] | None:
    """The transformers library's ``group_by_length``: sorted within fifty batches, so a step's examples are alike."""
    import torch
    from transformers.trainer_pt_utils import get_length_grouped_indices

    if ranks * size > BATCH:
        return None
    lengths = examples.lengths
    # As Trainer calls it: the batch size is a rank's, accumulation included.
    grouped = get_length_grouped_indices(lengths.tolist(), BATCH // ranks, generator=torch.Generator().manual_seed(42))
    # The order is not stationary over megabatches of fifty batches, so whole ones are counted.
    batches = [grouped[start : start + size] for start in range(0, 50 * BATCH * max(1, steps // 50), size)]

    def step(number: int) -> Step:
        mine = batches[number * BATCH // size : (number + 1) * BATCH // size]
        return Step(ranks=tuple(tuple(padded(lengths, one) for one in mine[rank::ranks]) for rank in range(ranks)))

    return map(step, range(len(batches) * size // BATCH))


def by_verl(examples: Examples, size: int, steps: int, ranks: int) -> Iterator[Step] | None:
    """The ``balance_batch`` of verl: as many examples for each rank, by differencing; then fixed batches, padded."""
    if ranks * size > BATCH:
        return None
    lengths = examples.lengths

    def step(number: int) -> Step:
        ids = examples.ids(0, number)
        dealt = [ids[part] for part in difference(lengths[ids].tolist(), ranks)]
        cut = [[part[start : start + size] for start in range(0, len(part), size)] for part in dealt]
        return Step(ranks=tuple(tuple(padded(lengths, one) for one in parts) for parts in cut))

    return map(step, range(steps))


def by_verl_unpadded(examples: Examples, tokens: int, steps: int, ranks: int) -> Iterator[Step]:
    """The same with verl's ``use_remove_padding`` and ``use_dynamic_bsz``: tokens decide what a rank takes at once."""
    lengths = examples.lengths

    def step(number: int) -> Step:
        ids = examples.ids(0, number)
        dealt = [ids[part] for part in difference(lengths[ids].tolist(), ranks)]
        # Every rank takes as many micro-steps as the one with most tokens needs; none is held to the limit.
        count = max(-(-int(lengths[part].sum()) // tokens) for part in dealt)
        cut = [[part[one] for one in partition(lengths[part], count)] for part in dealt]
        return Step(ranks=tuple(tuple(joined(lengths, one) for one in parts) for parts in cut))

    return map(step, range(steps))


def difference(sizes: list[int], bins: int) -> list[list[int]]:
    """Karmarkar and Karp's differencing with as many sizes in every bin, as verl has it (``equal_size``)."""
    ranked = sorted(range(len(sizes)), key=lambda one: sizes[one])
    states = []
    for start in range(0, len(sizes), bins):
        group = ranked[start : start + bins]
        states.append([(sizes[one], [one]) for one in reversed(group)])
    heap = [(state[-1][0] - state[0][0], place, state) for place, state in enumerate(states)]
    heapq.heapify(heap)
    count = len(heap)
    while len(heap) > 1:
        first, second = heapq.heappop(heap)[2], heapq.heappop(heap)[2]
        merged = [(a + b, p + q) for (a, p), (b, q) in zip(first, reversed(second), strict=True)]
        merged.sort(key=lambda one: -one[0])
        count += 1
        heapq.heappush(heap, (merged[-1][0] - merged[0][0], count, merged))
    return [sorted(part) for _, part in heap[0][2]]


def show(name: str, way: Way, lengths: NDArray[np.int64]) -> None:
    """Print a way's row: efficiency on each number of ranks, and the time to plan a step on 8."""
    row, spent = f"{name:38}", 0.0
    for ranks in RANKS:
        found = way(ranks)
        if found is None:
            row += f"{'-':>8}"
            continue
        start = time.process_time()
        steps = list(found)
        if ranks == 8:
            spent = (time.process_time() - start) / len(steps)
        row += f"{summarize(cost(step, lengths) for step in steps).efficiency:>8.4f}"
    print(f"{row}{1e3 * spent:>10.2f}", flush=True)


def balances(examples: Examples, tokens: int, steps: int) -> None:
    """Print the balance of our plan, and of the best that whole examples allow."""
    print(f"\nours, {tokens:,} tokens to a micro-step{'':9}balance (mean / most)      of the bound      micro-steps")
    for ranks in RANKS:
        plan = Balanced(examples=examples, ranks=ranks, tokens=tokens)
        found: Summary = summarize(cost(plan.step(0, number), examples.lengths) for number in range(steps))
        mean, least = found.balance
        text = f"{ranks:>4} ranks{'':32}mean {mean:.4f} least {least:.4f}"
        mean, least = found.of_bound
        print(f"{text}  mean {mean:.4f} least {least:.4f}  {found.micros[1]:>6.2f}")


def main() -> None:
    """Measure all ways."""
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    examples = Examples(lengths=human_and_gpt())
    lengths = examples.lengths
    print(f"{len(lengths):,} examples, mean {lengths.mean():.0f} tokens, {steps} of {examples.steps:,} steps counted")
    print(f"\n{'ranks':38}" + "".join(f"{ranks:>8}" for ranks in RANKS) + f"{'ms/step':>10}")
    for size in (2, 4, 8):
        show(f"padded, {size} at a time", partial(by_padding, examples, size, steps), lengths)
    for size in (2, 4, 8):
        show(f"group_by_length, {size} at a time *", partial(by_length, examples, size, steps), lengths)
    for size in (2, 4, 8):
        show(f"batch_rebalance, {size} on the average", partial(by_rebalance, examples, size, steps), lengths)
    for size in (2, 4, 8):
        show(f"verl's balance, {size} at a time", partial(by_verl, examples, size, steps), lengths)
    show("verl's balance, no padding, 8,192", partial(by_verl_unpadded, examples, 8192, steps), lengths)
    show(f"best-fit packing into {LIMIT:,} *", partial(by_packing, examples, steps), lengths)
    for tokens in (4096, 8192, 16384):
        show(f"ours, {tokens:,} tokens at a time", partial(by_balance, examples, tokens, steps), lengths)
    packed = Packed(examples=examples, ranks=1, size=1, tokens=LIMIT).steps
    print(f"* other examples to a step: packing takes {packed:,} optimizer steps an epoch, not {examples.steps:,}")
    balances(examples, 8192, steps)


main()
