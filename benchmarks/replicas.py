"""Whether two replicas, or two shards, are twice as fast as one, and what the driver costs.

    python benchmarks/replicas.py [requests] [rounds]

``EVALKIT_SMOLLM2`` names a checkpoint folder (``nox -s demo`` makes one); without it a model of random weights is made.
Everything computes with one thread. Each round asks the same requests of ``hf``, of ``ray:hf`` with one and with two
replicas, and of two processes with ``--shard 0/2`` and ``1/2``, in turn; only the time from the first to the last kept
response counts, so that neither imports nor loading do. The machine should be idle, with a processor for each replica:
the load average is printed, and how many processors were busy, which should be one for one and two for two. Before that
10,000 requests go to replicas of ``dummy``, which answers at once, and the driver's processor time for each is printed.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

THREADS = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def checkpoint(folder: Path) -> str:
    """The model to measure with."""
    if (named := os.environ.get("EVALKIT_SMOLLM2")) and Path(named, "config.json").exists():
        return named
    import tokenizers
    import torch
    import transformers

    whole = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=None))
    whole.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    whole.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    whole.train_from_iterator(["1 + 2 = 3"], trainer)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=whole, bos_token="<s>", eos_token="</s>")
    fast.save_pretrained(folder)
    torch.manual_seed(7)
    size = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 8, "num_attention_heads": 8}
    config = transformers.LlamaConfig(vocab_size=300, bos_token_id=0, eos_token_id=1, pad_token_id=1, **size)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return str(folder)


def command(model: str, number: int, *more: str) -> list[str]:
    """A run of so many sums, but for where."""
    run = ["run", "-m", model, "-b", "arithmetic", "-B", f"n={number}", "--allow-failures", "--json"]
    return [sys.executable, "-m", "evalkit", *run, *more]


def journals(out: Path) -> list[Path]:
    """The journals of the one run that is there."""
    return sorted(out.glob("*/*/responses*.jsonl"))


def kept(out: Path) -> int:
    """How many responses are there."""
    return sum(path.read_bytes().count(b"\n") for path in journals(out))


def busy() -> float:
    """The seconds that all processors of the machine have worked so far."""
    user, nice, system, *_ = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def watched(commands: list[list[str]], out: Path, number: int) -> tuple[float, float]:
    """Requests a second between the first and the last kept response, and how many processors were busy meanwhile."""
    running = [subprocess.Popen(one, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for one in commands]
    seen: list[tuple[float, float, int]] = []
    while any(one.poll() is None for one in running):
        if (count := kept(out)) and (not seen or count > seen[-1][2]):
            seen.append((time.perf_counter(), busy(), count))
        time.sleep(0.02)
    if (count := kept(out)) != number:
        sys.exit(
            f"{count} of {number} responses: " + " ".join(str(one.stderr and one.stderr.read()) for one in running)
        )
    took = max(seen[-1][0] - seen[0][0], 1e-9)
    return (seen[-1][2] - seen[0][2]) / took, (seen[-1][1] - seen[0][1]) / took


def ways(model: str, number: int) -> Iterator[tuple[str, list[list[str]]]]:
    """Each way to ask, with its commands."""
    precise = ("-M", "dtype=float32")
    yield "hf", [command(f"hf:{model}", number, *precise)]
    for workers in (1, 2):
        yield (
            f"ray:hf workers={workers}",
            [command(f"ray:hf:{model}", number, *precise, "-M", f"workers={workers}")],
        )
    yield (
        "hf --shard 0/2, 1/2",
        [command(f"hf:{model}", number, *precise, "--shard", f"{index}/2") for index in (0, 1)],
    )


def compare(model: str, number: int, rounds: int, place: Path) -> None:
    """Ask in each way in turn and print the speeds; the records must be the same."""
    speeds: dict[str, list[float]] = {}
    records: set[bytes] = set()
    for turn in range(rounds):
        for way, (name, commands) in enumerate(ways(model, number)):
            out = place / f"{turn}-{way}"
            placed = [[*one, "--out", str(out)] for one in commands]
            speed, share = watched(placed, out, number)
            speeds.setdefault(name, []).append(speed)
            if not list(out.glob("*/*/records.jsonl")):  # both shards ended at the same moment
                subprocess.run(placed[0], check=True, capture_output=True)
            records |= {path.read_bytes() for path in out.glob("*/*/records.jsonl")}
            load = os.getloadavg()[0]
            print(f"{name:22} {speed:8.2f} requests/s   {share:4.2f} processors busy   load {load:.2f}", flush=True)
    best = {name: statistics.median(found) for name, found in speeds.items()}
    for name, speed in best.items():
        print(
            f"{name:22} {speed / best['hf']:5.2f} times hf, {speed / best['ray:hf workers=1']:5.2f} times one replica"
        )
    print(f"records of all runs: {len(records)} kind{'' if len(records) == 1 else 's'} (1 = the same byte for byte)")


def overhead(number: int) -> None:
    """Print what each request costs the driver, when answers cost nothing."""
    from evalkit import GenerateRequest
    from evalkit_ray import Ray

    backend = Ray("dummy", workers=2)
    backend.open()
    prompt = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. " * 4
    requests = ((n, GenerateRequest(prompt=f"{n} {prompt}", max_tokens=64)) for n in range(number))
    began, used = time.perf_counter(), time.process_time()
    answered = sum(1 for _ in backend.generate(requests))
    took, spent = time.perf_counter() - began, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"ray:dummy, {answered:,} requests, 2 replicas: {1e6 * spent / answered:.0f} µs of the driver's processor time "
        f"and {1e6 * took / answered:.0f} µs of time for each; driver's peak memory {peak:.0f} MiB"
    )
    print(backend.account())
    backend.close()


def main() -> None:
    """Measure and print."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    os.environ.update(THREADS)
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.2f}; {number} requests, {rounds} rounds", flush=True)
    overhead(10_000)
    with tempfile.TemporaryDirectory() as folder:
        if number:
            compare(checkpoint(Path(folder, "model")), number, rounds, Path(folder))


if __name__ == "__main__":
    main()
