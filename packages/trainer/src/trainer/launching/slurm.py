"""A job script for Slurm: one task for each rank, which saves before the time limit and queues again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from trainer.launching.launch import PATIENCE, Launch


def script(launch: Launch, *, name: str, options: Sequence[str] = ()) -> str:
    """The script; ``options`` are more of sbatch's, as ``account=project`` or ``time=24:00:00``.

    All hosts have as many ranks.
    """
    head = {
        "job-name": name,
        "nodes": len(launch.hosts),
        "ntasks-per-node": launch.hosts[0].slots,
        "gpus-per-node": launch.hosts[0].slots,
        "output": f"{Path(name).name}-%j.log",
        "open-mode": "append",
        "signal": f"B:USR1@{PATIENCE}",
    }
    given = [option.removeprefix("--") for option in options]
    named = {option.partition("=")[0] for option in given}
    lines = [*(f"{key}={value}" for key, value in head.items() if key not in named), "requeue", *given]
    rank = "RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS"
    run = shlex.quote(f"{rank} exec {shlex.join(('trainer', *launch.train))}")
    return f"""\
#!/bin/bash
{"".join(f"#SBATCH --{line}{chr(10)}" for line in lines)}
export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))

# {PATIENCE} seconds before the limit Slurm sends USR1 here, and srun hands it on: all ranks save and end with 75.
near_limit=
trap 'near_limit=yes; kill -USR1 "$!"' USR1

# One task is one rank. When one has ended the others have as long to end as well.
srun --wait={PATIENCE} bash -c {run} &
run=$!
wait "$run"
code=$?
if [ -n "$near_limit" ]; then
    wait "$run" # the signal ended the first
    code=$?
fi

# Only then: a run that an alarm stopped would stop again.
if [ -n "$near_limit" ] && [ "$code" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""
