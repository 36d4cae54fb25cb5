"""The commands that start a run: in one process, by torchrun, by DeepSpeed's launcher; and who runs them."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn, TypeAlias, get_args

from trainer.errors import TrainerError, UnknownName
from trainer.launching.hosts import Host

Kind: TypeAlias = Literal["process", "torchrun", "deepspeed", "slurm"]
KINDS: tuple[Kind, ...] = get_args(Kind)
#: Seconds that ranks have to save before a launcher that was told to stop kills them.
PATIENCE = 600
#: Signals that torchrun hands on to its ranks; it does so with all but the last without being told.
_SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"
_INTERRUPTED = 75


def kind(name: str) -> Kind:
    """The kind of this name; raises UnknownName."""
    for known in KINDS:
        if name == known:
            return known
    raise UnknownName("way to launch", name, KINDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What to start where."""

    kind: Kind
    recipe: str
    sets: tuple[str, ...]
    #: At least one.
    hosts: tuple[Host, ...]
    #: Where ranks meet; the first host's name where it is empty.
    address: str = ""
    port: int = 29500
    #: The file that names the hosts, for DeepSpeed's launcher.
    hostfile: str = ""
    #: Whether DeepSpeed's launcher is started on every host by hand instead of reaching them all from one.
    by_hand: bool = False

    def __post_init__(self) -> None:
        if self.kind == "process" and self.world > 1:
            raise TrainerError(f"{self.world} ranks are several processes: start them with torchrun or deepspeed.")
        if len(self.hosts) > 1 and self.kind in {"torchrun", "deepspeed"}:
            if not self.meeting:
                raise TrainerError("Several machines meet at one: name it with --master-addr, or all with --hostfile.")
            if self.kind == "deepspeed" and not self.hostfile:
                raise TrainerError("DeepSpeed's launcher reads its machines from a file: give --hostfile.")

    @property
    def world(self) -> int:
        """The number of ranks."""
        return sum(host.slots for host in self.hosts)

    @property
    def meeting(self) -> str:
        """The host where ranks meet."""
        return self.address or self.hosts[0].name

    @property
    def train(self) -> tuple[str, ...]:
        """What every rank runs, without the program's name."""
        return ("train", self.recipe, *(word for one in self.sets for word in ("--set", one)))


def commands(launch: Launch) -> list[tuple[str, ...]]:
    """The command for each host that one is started on by hand, in order; just one where it reaches the others."""
    if launch.kind == "process":
        return [("trainer", *launch.train)]
    if launch.kind == "torchrun":
        return [_torchrun(launch, place) for place in range(len(launch.hosts))]
    if launch.kind == "deepspeed":
        return [_deepspeed(launch, place) for place in range(len(launch.hosts) if launch.by_hand else 1)]
    raise TrainerError("Slurm starts a script and no command: print it with --print slurm and hand it to sbatch.")


def _torchrun(launch: Launch, place: int) -> tuple[str, ...]:
    several = ("--nnodes", f"{len(launch.hosts)}", "--node-rank", f"{place}")
    meeting = ("--master-addr", launch.meeting, "--master-port", f"{launch.port}")
    where = (*several, *meeting) if len(launch.hosts) > 1 else ("--standalone",)
    stopping = ("--shutdown-timeout", f"{PATIENCE}", "--signals-to-handle", _SIGNALS)
    ranks = ("--nproc-per-node", f"{launch.hosts[place].slots}")
    return ("torchrun", *where, *ranks, *stopping, "-m", "trainer", *launch.train)


def _deepspeed(launch: Launch, place: int) -> tuple[str, ...]:
    if launch.hostfile:
        where: tuple[str, ...] = ("--hostfile", launch.hostfile, "--master_addr", launch.meeting)
    else:
        where = ("--num_gpus", f"{launch.hosts[0].slots}")
    hand = ("--no_ssh", "--node_rank", f"{place}") if launch.by_hand else ()
    port = ("--master_port", f"{launch.port}")
    # Ranks learn their number from the environment; trainer has no option for it.
    return ("deepspeed", *where, *port, *hand, "--no_local_rank", "--module", "trainer", *launch.train)


def script(launch: Launch) -> str:
    """The commands as lines for a shell, with a comment that says where each is to be run."""
    lines = [shlex.join(words) for words in commands(launch)]
    if len(lines) == 1:
        return lines[0] + "\n"
    names = [host.name or f"machine {place}" for place, host in enumerate(launch.hosts)]
    return "".join(f"# on {name}\n{line}\n" for name, line in zip(names, lines, strict=True))


def run(launch: Launch, place: int = 0) -> NoReturn:
    """Run the command of the host ``place`` in the place of this process, or raise where that ends badly."""
    found = commands(launch)
    if not 0 <= place < len(found):
        raise TrainerError(f"There is no machine {place} to start on: they count from 0 to {len(found) - 1}.")
    program, *words = found[place]
    if program == "torchrun":
        _run_agent(words)
    if program == "trainer":
        os.execv(sys.executable, [sys.executable, "-m", "trainer", *words])  # noqa: S606
    beside = str(Path(sys.executable).parent)
    if not (path := shutil.which(program, path=beside) or shutil.which(program)):
        raise TrainerError(f"{program} is not installed: pip install 'trainer[train]'.")
    os.execv(path, [path, *words])  # noqa: S606


def _run_agent(words: Sequence[str]) -> NoReturn:
    """Be torchrun, and end with the exit code of its ranks, which it would make a 1 with pages of traceback."""
    try:
        from torch.distributed import run
        from torch.distributed.elastic.multiprocessing.api import SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    except ImportError:
        raise TrainerError("torch is not installed: pip install 'trainer[train]'.") from None
    if not os.environ.get("TRAINER_TRACEBACK"):
        # It warns of signals that it hands on and of ranks that end with 75, as they should; each module has a level.
        for name in ["torch.distributed.elastic", *logging.root.manager.loggerDict]:
            if name.startswith("torch.distributed.elastic"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
    told = run.parse_args(list(words))
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # by nohup: the run is to outlive its terminal
        told.signals_to_handle = told.signals_to_handle.replace("SIGHUP,", "")
    try:
        run.run(told)
    except ChildFailedError as error:
        # The first to end tells why; torchrun then stops the others.
        rank, failure = error.get_first_failure()
        if failure.exitcode != _INTERRUPTED:
            raise TrainerError(f"Rank {rank} ended first, with exit code {failure.exitcode}.") from None
        sys.exit(_INTERRUPTED)  # rank 0 has said why, and that the command is to be repeated
    except SignalException:
        sys.exit(_INTERRUPTED)  # so it has here: it was sent the same signal
    sys.exit(0)
