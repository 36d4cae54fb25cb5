"""What `trainer launch` prints is what each launcher takes, and what it runs ends as its ranks ended."""

from __future__ import annotations

import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.trainer import killing
from tests.trainer.plugin import Cli

from trainer.errors import TrainerError
from trainer.launching import hosts, launch, slurm
from trainer.launching.hosts import Host
from trainer.launching.launch import Launch

#: Seconds after which a job has hung.
PATIENCE = 300
RECIPE = 'model = "base"\ndata = "prepared"\nout = "tuned"\n'


def made(kind: launch.Kind, *slots: int, **given: object) -> Launch:
    named = tuple(Host(name=f"node-{place}", slots=count) for place, count in enumerate(slots))
    return Launch(kind=kind, recipe="r.toml", sets=("epochs=3",), hosts=named, **given)  # type: ignore[arg-type]


def test_one_process_is_the_plain_command() -> None:
    assert launch.script(made("process", 1)) == "trainer train r.toml --set epochs=3\n"


@pytest.mark.torch
def test_torchrun_takes_what_is_printed_for_one_machine() -> None:
    from torch.distributed.run import parse_args

    (words,) = launch.commands(made("torchrun", 4))
    taken = parse_args(list(words[1:]))
    assert (words[0], taken.standalone, taken.nproc_per_node, taken.module) == ("torchrun", True, "4", True)
    assert (taken.training_script, taken.training_script_args) == (
        "trainer",
        ["train", "r.toml", "--set", "epochs=3"],
    )
    assert taken.shutdown_timeout == 600
    assert "SIGUSR1" in taken.signals_to_handle.split(",")


@pytest.mark.torch
def test_torchrun_is_started_on_every_machine_with_its_own_rank_and_slots() -> None:
    from torch.distributed.run import parse_args

    taken = [parse_args(list(words[1:])) for words in launch.commands(made("torchrun", 8, 4, port=1234))]
    told = [(one.nnodes, one.node_rank, one.nproc_per_node, one.master_addr, one.master_port) for one in taken]
    assert told == [("2", 0, "8", "node-0", 1234), ("2", 1, "4", "node-0", 1234)]


def test_deepspeed_reaches_all_machines_from_one_or_is_started_on_each() -> None:
    (words,) = launch.commands(made("deepspeed", 8, 8, hostfile="hosts"))
    assert shlex.join(words) == (
        "deepspeed --hostfile hosts --master_addr node-0 --master_port 29500 --no_local_rank "
        "--module trainer train r.toml --set epochs=3"
    )
    lines = launch.script(made("deepspeed", 8, 8, hostfile="hosts", by_hand=True)).splitlines()
    assert [lines[0], lines[2]] == ["# on node-0", "# on node-1"]
    assert [re.findall(r"--no_ssh --node_rank \d", line) for line in (lines[1], lines[3])] == [
        ["--no_ssh --node_rank 0"],
        ["--no_ssh --node_rank 1"],
    ]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("process", (2,), {}), "2 ranks are several processes: start them with torchrun or deepspeed."),
        (("deepspeed", (1, 1), {}), "DeepSpeed's launcher reads its machines from a file: give --hostfile."),
    ],
)
def test_a_launch_that_cannot_be_is_told(
    given: tuple[launch.Kind, tuple[int, ...], dict[str, object]], says: str
) -> None:
    kind, slots, more = given
    with pytest.raises(TrainerError, match=f"^{re.escape(says)}$"):
        made(kind, *slots, **more)


def test_machines_without_names_need_an_address() -> None:
    nameless = (Host(name="", slots=1),) * 2
    with pytest.raises(TrainerError, match=r"^Several machines meet at one: name it with --master-addr"):
        Launch(kind="torchrun", recipe="r.toml", sets=(), hosts=nameless)
    assert "--master-addr here" in launch.script(
        Launch(kind="torchrun", recipe="r.toml", sets=(), hosts=nameless, address="here")
    )


def test_a_hostfile_is_read_as_deepspeed_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("# ours\nnode-1 slots=8\n\nnode-2   slots=4\n")
    assert hosts.read(file) == (Host(name="node-1", slots=8), Host(name="node-2", slots=4))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("node-1 slots=8\nnode-2\n", ":2: 'node-2' is no host; write it as node-1 slots=8."),
        ("node-1 slots=8\nnode-1 slots=8\n", ":2: node-1 stands there twice; add up its slots."),
        ("# none\n", " names no host; write lines as node-1 slots=8."),
    ],
)
def test_a_hostfile_s_bad_line_is_named(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "hosts"
    file.write_text(text)
    with pytest.raises(TrainerError, match=f"^{re.escape(str(file) + says)}$"):
        hosts.read(file)


def test_the_command_line_prints_without_running(cli: Cli) -> None:
    Path("r.toml").write_text(RECIPE)
    Path("hosts").write_text("a slots=2\nb slots=2\n")
    code, out, err = cli("launch", "r.toml", "--print", "torchrun", "--hostfile", "hosts")
    assert (code, err, out.count("torchrun --nnodes 2 ")) == (0, "", 2)
    assert cli("launch", "r.toml", "--print", "process", "--gpus-per-node", "1")[1] == "trainer train r.toml\n"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--print", "process", "--with", "torchrun"], 2, "--print says how, too"),
        (["--hostfile", "hosts", "--nodes", "2"], 2, "--hostfile says how many machines"),
        (["--print", "slurm"], 2, "Slurm chooses the machines"),
        (
            ["--with", "torchrun", "--nodes", "2", "--gpus-per-node", "1", "--master-addr", "a"],
            2,
            "Say with --node-rank",
        ),
        (["--print", "torchrun", "--gpus-per-node", "129"], 2, "A batch of 128 examples cannot be shared"),
        (["--print", "process", "--gpus-per-node", "1", "--set", "epocs=1"], 2, "did you mean 'epochs'?"),
    ],
)
def test_what_cannot_be_launched_is_told_before_anything_starts(
    cli: Cli, arguments: list[str], code: int, says: str
) -> None:
    Path("r.toml").write_text(RECIPE)
    found, out, err = cli("launch", "r.toml", *arguments)
    assert (found, out, says in err) == (code, "", True), err


def test_the_job_script_asks_slurm_for_what_the_launch_needs() -> None:
    text = slurm.script(made("slurm", 4, 4), name="cot-13b", options=["time=1:00:00", "--account=us", "output=o.log"])
    asked = re.findall(r"^#SBATCH --(\S+)$", text, re.MULTILINE)
    assert asked == [
        *("job-name=cot-13b", "nodes=2", "ntasks-per-node=4", "gpus-per-node=4", "open-mode=append"),
        *("signal=B:USR1@600", "requeue", "time=1:00:00", "account=us", "output=o.log"),
    ]
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


#: Fakes of Slurm's programs: srun starts its tasks here and hands USR1 on to them, scontrol notes what it is told.
FAKES = {
    "srun": """
        import os, signal, subprocess, sys
        tasks = [
            subprocess.Popen(sys.argv[2:], env=os.environ | {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i % 2)})
            for i in range(int(os.environ["SLURM_NTASKS"]))
        ]
        signal.signal(signal.SIGUSR1, lambda *_: [task.send_signal(signal.SIGUSR1) for task in tasks])
        open("listening", "w").close()
        sys.exit(max(task.wait() for task in tasks))
    """,
    "scontrol": """
        import sys
        if sys.argv[1] == "show":
            print("node-7\\nnode-8")
        else:
            open("requeued", "a").write(" ".join(sys.argv[1:]))
    """,
    "trainer": """
        import os, pathlib, signal, sys, time
        def save(*_):
            sys.exit(75)
        signal.signal(signal.SIGUSR1, save)
        names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
        told = [os.environ[name] for name in names] + sys.argv[1:]
        pathlib.Path("rank-" + os.environ["RANK"]).write_text(" ".join(told))
        time.sleep(float(os.environ["FAKE_SECONDS"]))
        sys.exit(int(os.environ["FAKE_CODE"]))
    """,
}


@contextmanager
def job(folder: Path, *, seconds: float, code: int) -> Iterator[subprocess.Popen[bytes]]:
    """The printed job script as Slurm would start it, with fakes of Slurm's programs and of the training itself.

    It is killed at the latest when the context ends, and its ranks with it.
    """
    for name, text in FAKES.items():
        (folder / name).write_text(f"#!{sys.executable}\n{textwrap.dedent(text)}")
        (folder / name).chmod(0o755)
    (folder / "job.sh").write_text(slurm.script(made("slurm", 2, 2), name="x"))
    given = {"SLURM_JOB_ID": "41", "SLURM_JOB_NODELIST": "node-[7-8]", "SLURM_NTASKS": "4"}
    fake = {"FAKE_SECONDS": f"{seconds}", "FAKE_CODE": f"{code}", "PATH": f"{folder}:{os.environ['PATH']}"}
    environment = {**os.environ, **given, **fake}
    with subprocess.Popen(["bash", "job.sh"], cwd=folder, env=environment, start_new_session=True) as started:
        try:
            yield started
        finally:
            with suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)


def test_a_job_starts_every_rank_with_its_numbers(tmp_path: Path) -> None:
    with job(tmp_path, seconds=0, code=0) as started:
        assert started.wait(PATIENCE) == 0
    told = [(tmp_path / f"rank-{rank}").read_text() for rank in range(4)]
    assert told == [f"{rank} {rank % 2} 4 node-7 20041 train r.toml --set epochs=3" for rank in range(4)]
    assert not (tmp_path / "requeued").exists()


def test_a_job_that_nears_its_limit_saves_and_queues_again(tmp_path: Path) -> None:
    ready = [tmp_path / name for name in ("listening", *(f"rank-{rank}" for rank in range(4)))]
    with job(tmp_path, seconds=600, code=0) as started:
        assert killing.until(lambda: all(one.exists() for one in ready), [started.poll])
        started.send_signal(signal.SIGUSR1)
        assert (started.wait(PATIENCE), (tmp_path / "requeued").read_text()) == (75, "requeue 41")


@pytest.mark.parametrize("code", [1, 75])
def test_a_job_that_ends_by_itself_is_not_queued_again(tmp_path: Path, code: int) -> None:
    with job(tmp_path, seconds=0, code=code) as started:
        assert started.wait(PATIENCE) == code
    assert not (tmp_path / "requeued").exists()


@pytest.mark.torch
@pytest.mark.parametrize(("code", "error"), [(75, SystemExit), (3, TrainerError)])
def test_torchrun_ends_as_its_ranks_ended(
    handlers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type[BaseException]
) -> None:
    # In the place of the trainer: a module of its name that only ends.
    (tmp_path / "trainer.py").write_text(f"import sys; sys.exit({code})")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(error) as told:
        launch.run(made("torchrun", 1))
    assert str(told.value) == ("75" if code == 75 else "Rank 0 ended first, with exit code 3.")
    # What it says of signals that it hands on is nothing that a user has to know.
    assert not logging.getLogger("torch.distributed.elastic.agent.server.api").isEnabledFor(logging.WARNING)
