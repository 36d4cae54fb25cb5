"""The memory that `trainer plan` estimates against the peak of real training steps, on seven small configurations.

    python benchmarks/memory.py [name ...]

Each configuration runs two optimizer steps of trainer's own learner and engine in fresh processes: a model of random
weights, two micro-steps to a step, rows of several documents. Measured is the process's peak resident memory
(VmHWM, which the kernel counts) less what it had after imports and before the model; a step of a model of some KB ends
the imports, for torch and DeepSpeed load much of their code when it is first used (30 MB, and 90 MB with DeepSpeed).
Two settings make glibc give back what is freed, as a GPU's allocator would let it be used again, and nothing else is
tuned: one arena (MALLOC_ARENA_MAX=1), and blocks above 64 KiB mapped by themselves (MALLOC_MMAP_THRESHOLD_=65536). Of
several ranks the largest peak counts.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from trainer.estimating.memory import Job, peak
from trainer.estimating.shape import read
from trainer.training.settings import Settings

#: Three families, both precisions, with and without checkpointing, long and short micro-steps, one and two ranks; sized
#: so that a few hundred MB are there to be estimated and a step takes seconds.
LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 8,
    "hidden_size": 320,
    "intermediate_size": 864,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 8192,
    "tie_word_embeddings": False,
}
OPT = {
    "model_type": "opt",
    "num_hidden_layers": 8,
    "hidden_size": 384,
    "word_embed_proj_dim": 384,
    "ffn_dim": 1536,
    "num_attention_heads": 8,
    "vocab_size": 8192,
    "dropout": 0.1,
}
GPT_NEOX = {
    "model_type": "gpt_neox",
    "num_hidden_layers": 8,
    "hidden_size": 384,
    "intermediate_size": 1536,
    "num_attention_heads": 8,
    "vocab_size": 8192,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A configuration; the documents fill a micro-step's row, and the share of targets is even over them."""

    config: dict[str, Any]
    precision: str
    documents: tuple[int, ...]
    supervised: float
    checkpointing: bool = False
    ranks: int = 1
    zero: int = 0


CASES = {
    "llama fp32, long": Case(config=LLAMA, precision="fp32", documents=(700, 500, 300), supervised=0.5),
    "llama bf16, checkpointing": Case(
        config=LLAMA | {"hidden_size": 640, "intermediate_size": 1728, "tie_word_embeddings": True},
        precision="bf16",
        documents=(900, 800, 300, 48),
        supervised=0.2,
        checkpointing=True,
    ),
    "opt bf16, long": Case(config=OPT, precision="bf16", documents=(800, 600, 648), supervised=0.1),
    "gpt_neox fp32, short": Case(config=GPT_NEOX, precision="fp32", documents=(100, 80, 76), supervised=0.8),
    **{
        f"llama bf16, ZeRO {stage} on two ranks": Case(
            config=LLAMA | {"hidden_size": 512, "intermediate_size": 1408},
            precision="bf16",
            documents=(600, 424),
            supervised=0.5,
            ranks=2,
            zero=stage,
        )
        for stage in (1, 2, 3)
    },
}
#: How far an estimate may be off.
WITHIN = 0.15
MICROS = 2
STEPS = 2
QUIET = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}


def settings(case: Case) -> Settings:
    """The settings that the case's engine is opened with."""
    return Settings(model="m", data="d", out="o", precision=case.precision, zero=case.zero)  # type: ignore[arg-type]


def job(case: Case) -> Job:
    """What `trainer plan` would estimate the case from."""
    shape = read(case.config)
    tokens = sum(case.documents)
    return Job(
        shape=shape,
        width=2 if case.precision == "bf16" else 4,
        ranks=case.ranks,
        deepspeed=case.ranks > 1,
        zero=case.zero,
        offload="none",
        tokens=tokens,
        targets=int(tokens * case.supervised),
        documents=len(case.documents),
        micros=MICROS,
        attention="documents",
        checkpointing=case.checkpointing,
        logits_bytes=settings(case).logits_bytes,
        gpu=False,
        trained=shape.parameters,
    )


def child(case: Case) -> None:
    """Run the steps and print the bytes that they took at their peak."""
    from trainer.training.engine import leave

    small = {"num_hidden_layers": 1, "vocab_size": 64} | dict.fromkeys(("hidden_size", "word_embed_proj_dim"), 32)
    _train(replace(case, config=case.config | small, documents=(4, 4), supervised=0.5))
    before = _status("VmRSS")
    _train(case)
    leave()
    sys.stdout.write(f"TOOK {_status('VmHWM') - before}\n")


def _train(case: Case) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from trainer.training.engine import open_engine
    from trainer.training.learner import Learner

    def build(**_: Any) -> Learner:
        config = AutoConfig.for_model(**case.config)
        dtype = torch.bfloat16 if case.precision == "bf16" else torch.float32
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        if case.checkpointing:
            enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
            enable({"use_reentrant": False})
        model.train()
        return Learner(model, datasets=1, kind="documents", logits_bytes=settings(case).logits_bytes)

    engine = open_engine(settings(case), build)
    for _ in range(STEPS):
        for _ in range(MICROS):
            engine.micro(_batch(case))
        engine.step(1e-4)
    engine.close()


def _batch(case: Case) -> Any:
    import torch

    from trainer.training.batch import Batch

    tokens = sum(case.documents)
    ids = torch.randint(0, case.config["vocab_size"], (1, tokens))
    positions = torch.cat([torch.arange(length) for length in case.documents])[None]
    places = torch.arange(int(tokens * case.supervised)) * tokens // int(tokens * case.supervised)
    places = places.clamp(max=tokens - 2)
    return Batch(
        ids=ids,
        positions=positions,
        documents=(case.documents,),
        places=places,
        targets=ids[0, places + 1],
        weights=torch.full((len(places),), 1 / len(places) / MICROS),
        datasets=torch.zeros(len(places), dtype=torch.int64),
        most=len(places),
    )


def _status(field: str) -> int:
    """A figure of this process as the kernel has it, in bytes."""
    with Path("/proc/self/status").open() as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field + ":"))


def measure(case: Case) -> int:
    """The largest peak of the case's ranks, in bytes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = json.dumps(asdict(case))
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, "--child", told],
            env=os.environ | QUIET | _rank(rank, case.ranks, port),
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(case.ranks)
    ]
    took = []
    for process in ranks:
        out, _ = process.communicate(timeout=600)
        if process.returncode:
            raise SystemExit(f"a rank ended with {process.returncode}")
        took += [int(line.split()[1]) for line in out.splitlines() if line.startswith("TOOK ")]
    return max(took)


def _rank(rank: int, ranks: int, port: int) -> dict[str, str]:
    if ranks == 1:
        return {}
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_PORT": port}
    return {"MASTER_ADDR": "127.0.0.1"} | {name: str(value) for name, value in names.items()}


def main() -> int:
    """Measure all cases, or those whose names hold a word that is given; 1 where an estimate is further off."""
    if sys.argv[1:2] == ["--child"]:
        told = json.loads(sys.argv[2])
        child(Case(**told | {"documents": tuple(told["documents"])}))
        return 0
    print(f"{'MB':34}{'estimate':>9}{'measured':>9}{'off':>8}   largest at")
    worst = 0.0
    for name, case in CASES.items():
        if sys.argv[1:] and not any(word in name for word in sys.argv[1:]):
            continue
        told = peak(job(case))
        took = measure(case)
        off = told.total / took - 1
        worst = max(worst, abs(off))
        print(f"{name:34}{told.total / 1e6:>9.0f}{took / 1e6:>9.0f}{off:>8.1%}   {told.name}", flush=True)
    print(f"the worst is {worst:.1%} off; {WITHIN:.0%} are allowed")
    return int(worst > WITHIN)


if __name__ == "__main__":
    sys.exit(main())
