"""``trainer launch``: start a run on one machine or many, or print what starts it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainer.cli import options

if TYPE_CHECKING:
    from trainer.launching.hosts import Host

#: Those that can be run from here; of Slurm there is a script only.
_RUN = ("process", "torchrun", "deepspeed")


@click.command()
@options.recipe
@options.sets
@click.option("--print", "printed", type=click.Choice((*_RUN, "slurm")), help="Print the commands or the job script.")
@click.option("--with", "kind", type=click.Choice(_RUN), help="Run it so; default: torchrun for several ranks.")
@click.option("--nodes", metavar="N", type=click.IntRange(min=1), help="Machines, all alike.")
@click.option("--gpus-per-node", metavar="N", type=click.IntRange(min=1), help="Ranks on each; default: GPUs here.")
@click.option("--hostfile", metavar="FILE", help="Machines with their ranks, in lines as: node-1 slots=8.")
@click.option("--node-rank", metavar="N", type=click.IntRange(min=0), help="Which of the machines this one is.")
@click.option("--master-addr", metavar="HOST", default="", help="Where ranks meet; default: the file's first host.")
@click.option("--master-port", metavar="N", type=click.IntRange(1024, 65535), default=29500, show_default=True)
@click.option("--no-ssh", is_flag=True, help="deepspeed: started on every machine by hand.")
@click.option("--sbatch", metavar="OPTION", multiple=True, help="slurm: account=NAME, time=24:00:00, ...; repeatable.")
def command(
    *,
    recipe: str,
    sets: tuple[str, ...],
    printed: str | None,
    kind: str | None,
    nodes: int | None,
    gpus_per_node: int | None,
    hostfile: str | None,
    node_rank: int | None,
    master_addr: str,
    master_port: int,
    no_ssh: bool,
    sbatch: tuple[str, ...],
) -> None:
    """Start a run on one machine or many, or print what starts it.

    Without --print the command is run here: on all GPUs of this machine where nothing else is said. On several machines
    torchrun is started on each, with its --node-rank; deepspeed reaches the others itself, unless --no-ssh.

    \b
    trainer launch recipe.toml
    trainer launch recipe.toml --print torchrun --hostfile hosts
    trainer launch recipe.toml --print slurm --nodes 4 --gpus-per-node 8 --sbatch time=24:00:00 > job.sh
    """  # noqa: D301  (click reads the mark of a text that is not to be wrapped)
    from trainer.launching import launch, slurm
    from trainer.training import settings

    if printed and kind:
        raise click.UsageError("--print says how, too: leave out --with.")
    if hostfile and (nodes or gpus_per_node):
        raise click.UsageError("--hostfile says how many machines and ranks there are: leave out the numbers.")
    if printed == "slurm" and (hostfile or not gpus_per_node):
        raise click.UsageError("Slurm chooses the machines: give --nodes and --gpus-per-node, and no --hostfile.")
    found = settings.load(recipe, sets).settings
    hosts = _hosts(hostfile, nodes or 1, gpus_per_node)
    chosen = printed or kind or ("torchrun" if sum(host.slots for host in hosts) > 1 else "process")
    made = launch.Launch(
        kind=launch.kind(chosen),
        recipe=recipe,
        sets=sets,
        hosts=hosts,
        address=master_addr,
        port=master_port,
        hostfile=hostfile or "",
        by_hand=no_ssh,
    )
    options.check_shares(found.batch, made.world)
    if printed == "slurm":
        click.echo(slurm.script(made, name=Path(found.out).name, options=sbatch), nl=False)
    elif printed:
        click.echo(launch.script(made), nl=False)
    else:
        if node_rank is None and len(launch.commands(made)) > 1:
            raise click.UsageError("Say with --node-rank which of the machines this one is.")
        launch.run(made, node_rank or 0)


def _hosts(hostfile: str | None, nodes: int, ranks: int | None) -> tuple[Host, ...]:
    from trainer.launching.hosts import Host, read

    if hostfile:
        return read(Path(hostfile))
    return (Host(name="", slots=ranks or _gpus()),) * nodes


def _gpus() -> int:
    """The GPUs of this machine, and one where there is none: then it is the CPU that trains."""
    try:
        import torch
    except ImportError:
        return 1
    return max(1, int(torch.cuda.device_count()))
