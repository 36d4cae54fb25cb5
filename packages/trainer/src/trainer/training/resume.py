"""Going on where a run was stopped: the newest whole checkpoint, if it is of the same run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import DataError, TrainerError
from trainer.training import checkpoint
from trainer.training.checkpoint import Checkpoint, State

if TYPE_CHECKING:
    from trainer.preparation.prepared import Prepared
    from trainer.training.engine import Engine
    from trainer.training.settings import Settings
    from trainer.watching.watch import Watch

#: What changes the rounding and not the mathematics: a run may be resumed with others, and is told so.
LAYOUT = ("engine", "zero", "offload", "tokens", "attention", "activation_checkpointing")
_LIBRARIES = ("torch", "transformers", "deepspeed")


def state(settings: Settings, prepared: Prepared, *, step: int, updates: int, world: int) -> State:
    """What a checkpoint of this run holds beside the weights."""
    told = asdict(settings)
    return State(
        step=step,
        updates=updates,
        learnt=_learnt(settings),
        data=str(prepared.manifest["key"]),
        world=world,
        layout={name: told[name] for name in LAYOUT},
        versions=dict(_versions()),
    )


def resume(engine: Engine, settings: Settings, prepared: Prepared, watch: Watch) -> tuple[int, int]:
    """Load the newest whole checkpoint of a run into its engine; the steps and updates that are done, (0, 0) without.

    A damaged one is set aside, and the one before it is taken. All ranks call it together. Raises TrainerError where
    the checkpoint is of a run that learns something else.
    """
    out = Path(settings.out)
    while True:
        found = _newest(engine, out)
        if found is None:
            return 0, 0
        refuse(found, settings, prepared)
        problem = found.problem(engine.rank, engine.world)
        if not engine.sum([bool(problem)])[0]:
            break
        if engine.rank == 0:
            aside = checkpoint.set_aside(found)
            what = problem or f"A file of {found.folder} is damaged"
            watch.say(f"{what}; the checkpoint is set aside as {aside.name} and the one before it is taken.")
        engine.barrier()
    checkpoint.load(engine, found)
    watch.say(told(found.state, settings, engine.world))
    return found.state.step, found.state.updates


def is_done(settings: Settings, prepared: Prepared, steps: int) -> bool:
    """Whether a run's newest checkpoint is that behind its last step; raises TrainerError where it is another run's."""
    found = checkpoint.newest(Path(settings.out))
    if found is None:
        return False
    refuse(found, settings, prepared)
    return found.state.step >= steps


def refuse(found: Checkpoint, settings: Settings, prepared: Prepared) -> None:
    """Raise TrainerError where a checkpoint is of a run that learns something else, naming what differs."""
    now = _learnt(settings)
    others = {name: before for name, before in found.state.learnt.items() if now.get(name) != before}
    if others:
        then = ", ".join(f"{name} = {before!r}" for name, before in others.items())
        is_now = ", ".join(f"{now.get(name)!r}" for name in others)
        raise TrainerError(
            f"{settings.out} holds a run with {then}, and now it is {is_now}, which would learn something else: set it"
            " back to go on, or set out to another folder."
        )
    if found.state.data != prepared.manifest["key"]:
        raise DataError(
            f"{settings.out} holds a run on other data than {settings.data} is now: prepare that data again as it was"
            " to go on, or set out to another folder."
        )


def told(before: State, settings: Settings, world: int) -> str:
    """From where a run goes on, and what of its layout is another than before."""
    now = asdict(settings)
    changes = [f"{name} {then} → {now[name]}" for name, then in before.layout.items() if now[name] != then]
    if before.world != world:
        changes.insert(0, f"ranks {before.world} → {world}")
    now_versions = dict(_versions())
    changes += [
        f"{name} {then} → {now_versions.get(name, 'none')}"
        for name, then in before.versions.items()
        if now_versions.get(name) != then
    ]
    how = f", with {', '.join(changes)}: the same mathematics, rounded otherwise" if changes else ""
    return f"Going on behind step {before.step:,}{how}."


def _newest(engine: Engine, out: Path) -> Checkpoint | None:
    """The newest checkpoint, the same for all ranks: rank 0 looks."""
    found = checkpoint.newest(out) if engine.rank == 0 else None
    step = int(engine.sum([found.state.step if found else 0])[0])
    if not step:
        return None
    return found or checkpoint.read(checkpoint.folder(out) / f"step-{step:06d}")


def _learnt(settings: Settings) -> Mapping[str, Any]:
    return {"model": settings.model, **settings.learnt}


def _versions() -> list[tuple[str, str]]:
    found = []
    for name in _LIBRARIES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return found
