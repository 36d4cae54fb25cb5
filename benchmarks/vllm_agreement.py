"""Whether the backends vllm and hf answer published questions alike in float32, and how near a tie is where not.

    python -P benchmarks/vllm_agreement.py [MODEL] [--data DATA] [--python PYTHON] [--each 100] [--shots 1]

``--python`` names the Python of an environment that has vLLM (default: this one). Asked are ``--each`` questions of GSM
and of BBH, whose greedy texts are compared, and of MMLU, whose letters are. For a text that differs it prints the two
tokens at which they part and, by hf, how far apart their logits are; for a ranking of letters the nearest two. Ends
with exit code 1 where less than 99 % agree, a likelihood is off by more than 0.001, or a difference is no near-tie.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch

from evalkit import Backend
from evalkit.load import Choice, Model, Wishes, load
from evalkit.plugins import Plugins
from evalkit_hf import HF
from evalkit_vllm import VLLM

#: Two logits so near are a tie for one that adds in another order.
TIE = 1e-3
#: The farthest that a log-probability may be off.
NEAR = 1e-3


def requests(backend: Backend, name: str, wishes: Wishes) -> list[Any]:
    """A benchmark's requests, as plain prompts."""
    plugins = Plugins()
    choice = Choice(asked=name, benchmark=plugins.benchmark(name)(), options={})
    model = Model(backend_name="hf", name="", options={}, backend=backend)
    return [request for _, _, request in load(choice, model, wishes, open_dataset=plugins.open_dataset).requests()]


def answers(backend: Backend, asked: Sequence[Any]) -> list[Any]:
    """Responses in the order of the requests."""
    answer: Any = backend.likelihood if hasattr(asked[0], "continuations") else backend.generate
    found = dict(answer(enumerate(asked)))
    return [found[place] for place in range(len(asked))]


def parting(hf: HF, request: Any, own: str, other: str) -> tuple[str, float]:
    """The two tokens at which texts part, and the distance of their logits."""
    tokenizer = hf.tokenizer()
    before = tokenizer.prompt_ids(request)
    first, second = (tokenizer.prompt_ids(replace(request, prompt=request.prompt + text)) for text in (own, other))
    place = next((at for at, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]), None)
    if place is None or place < len(before):
        return "one text begins the other", float("inf")
    model, _ = hf._opened()
    ids = torch.tensor([first[:place]])
    logits, _ = model.last_logits(ids, torch.ones_like(ids))
    gap = abs(float(logits[0, -1, first[place]] - logits[0, -1, second[place]]))
    return f"{tokenizer.text_after([], [first[place]])!r} or {tokenizer.text_after([], [second[place]])!r}", gap


def compare_texts(name: str, hf: HF, vllm: VLLM, asked: Sequence[Any]) -> tuple[int, bool]:
    """How many texts agree, and whether all others part at a tie."""
    pairs = zip(asked, answers(hf, asked), answers(vllm, asked), strict=True)
    alike, ties = 0, True
    for request, own, other in pairs:
        if own.texts == other.texts:
            alike += 1
            continue
        tokens, gap = parting(hf, request, own.texts[0].text, other.texts[0].text)
        ties &= gap < TIE
        print(f"{name} {request.id}: {tokens}, logits {gap:.1e} apart")
    print(f"{name}: {alike} of {len(asked)} greedy texts agree", flush=True)
    return alike, ties


def compare_letters(hf: HF, vllm: VLLM, asked: Sequence[Any]) -> tuple[int, float, bool]:
    """How many likeliest letters agree, the largest difference of a log-probability, and whether others are ties."""
    alike, farthest, ties = 0, 0.0, True
    for request, own, other in zip(asked, answers(hf, asked), answers(vllm, asked), strict=True):
        farthest = max(farthest, *(abs(one - two) for one, two in zip(own.logprobs, other.logprobs, strict=True)))
        orders = [sorted(range(4), key=lambda place: -told.logprobs[place]) for told in (own, other)]
        if orders[0] == orders[1]:
            alike += 1
            continue
        ranked = sorted(own.logprobs)
        gap = min(after - before for before, after in pairwise(ranked))
        ties &= gap < TIE
        print(f"mmlu {request.id}: ranked {orders[0]} and {orders[1]}, two of them {gap:.1e} apart")
    print(
        f"mmlu: {alike} of {len(asked)} rankings agree, log-probabilities differ by {farthest:.1e} at most", flush=True
    )
    return alike, farthest, ties


def main() -> int:
    """Compare both backends."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", nargs="?", default=".demo/SmolLM2-135M-Instruct")
    parser.add_argument("--data", default=os.environ.get("EVALKIT_TEST_DATA", "../shared/data"))
    parser.add_argument("--python", help="a Python that has vLLM")
    parser.add_argument("--each", type=int, default=100)
    parser.add_argument("--shots", type=int, default=1, help="of GSM and BBH; what is long takes long without a GPU")
    parser.add_argument("--tokens", type=int, default=64)
    wanted = parser.parse_args()
    hf = HF(wanted.model, dtype="float32")
    vllm = VLLM(wanted.model, python=wanted.python, dtype="float32", enforce_eager=True, max_num_seqs=32)
    try:
        hf.open()
        vllm.open()
        wishes = Wishes(data=wanted.data, limit=wanted.each, chat="off")
        letters, farthest, all_ties = compare_letters(hf, vllm, requests(hf, "mmlu", wishes))
        alike = letters
        for name in ("gsm", "bbh"):
            asked = requests(hf, name, replace(wishes, shots=wanted.shots))
            found, ties = compare_texts(name, hf, vllm, [replace(one, max_tokens=wanted.tokens) for one in asked])
            alike, all_ties = alike + found, all_ties and ties
        print(vllm.account())
    finally:
        vllm.close()
    asked_in_all = 3 * wanted.each
    print(f"{alike} of {asked_in_all} agree ({alike / asked_in_all:.1%}); differences are ties: {all_ties}")
    return 0 if alike >= 0.99 * asked_in_all and farthest <= NEAR and all_ties else 1


if __name__ == "__main__":
    sys.exit(main())
