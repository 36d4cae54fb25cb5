"""Training, from top to bottom: open data and model, go on where the run was, step by step, save, export.

Every rank runs this same program on the same settings; what differs between them is inside the engine (`engine`) and
in what they read (`feed`).
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from trainer.errors import DataError, Interrupted
from trainer.estimating import compute, disk, shape
from trainer.exporting import frame
from trainer.exporting.export import export
from trainer.launching import preflight
from trainer.preparation.prepared import Prepared
from trainer.training import alone, checkpoint, intact, isolation, learner, model, resume, schedule
from trainer.training import engine as engines
from trainer.training.engine import Engine
from trainer.training.feed import Feed, Reading
from trainer.training.stopping import Stopping
from trainer.watching import evaluation
from trainer.watching.told import Entry, Saved, Start

if TYPE_CHECKING:
    from trainer.rendering.tokenizer import Tokenizer
    from trainer.training.settings import Settings
    from trainer.watching.watch import Watch

#: Where in the run folder the tuned model is, and all of its checkpoint but the weights.
MODEL, FRAME = "model", "frame"


def train(settings: Settings, watch: Watch, *, until: int = 0, dropout: bool = True) -> Path:
    """Train as the settings say and export the model; its folder.

    All ranks call it. A run that was stopped goes on; one that is done is left as it is. With ``until`` it saves and
    stops behind that step, as it would on a signal; without ``dropout`` it drops nothing, whatever the model's config
    says, so that ranks can be compared. Raises Interrupted where repeating the call goes on, and other
    TrainerErrors where model, data, settings, ranks or disk are not as they should be.
    """
    rank, world, _ = engines.world()
    with alone.locked(Path(settings.out), rank) as occupied:
        # First of all: what is wrong on one rank alone is then told by all of them, and nobody waits for it.
        preflight.check(settings, rank, world, occupied)
        return train_alone(settings, watch, rank, world, until=until, dropout=dropout)


def train_alone(settings: Settings, watch: Watch, rank: int, world: int, *, until: int, dropout: bool) -> Path:
    """Do what ``train`` says, in a run folder that nobody else writes to."""
    out = Path(settings.out)
    prepared = Prepared.open(Path(settings.data))
    held_out = open_held_out(settings, prepared)
    feed = Feed.open(settings, prepared, rank=rank, world=world)
    if (out / MODEL).exists() and resume.is_done(settings, prepared, feed.steps):
        watch.say(f"{out} is done and {out / MODEL} holds its model: set out to another folder to train anew.")
        return out / MODEL
    tokenizer = model.check(settings.model, prepared)
    if grown := model.growth(settings.model, tokenizer):
        watch.say(grown)
    datasets = max(len(one.names) for one in (prepared, held_out) if one)
    build = partial(learner.build, settings, tokenizer, datasets=datasets)
    engine = engines.open_engine(settings, build)
    try:
        isolation.check(engine.learner, engine.device)
        if settings.zero == 3:
            intact.check(engine, settings.model)
        engine.learner.train(dropout)
        if rank == 0:
            write_frame(engine, settings, prepared, tokenizer)
        step, updates = resume.resume(engine, settings, prepared, watch)
        start = begin(engine, settings, step=step, steps=feed.steps)
        watch.started(start)
        run = Run(settings=settings, watch=watch, engine=engine, feed=feed, held_out=held_out)
        needed = disk.run(
            settings, parameters=start.parameters, trained=start.trainable, steps=feed.steps, epoch=feed.plan.steps
        )
        if rank == 0 and (shortage := disk.shortage(out, needed)):
            watch.say(shortage)
        if not step:
            measure_held_out(run, step)
        with Stopping(settings.time_limit, launched=world > 1) as stopping, thawed():
            go_on(run, stopping, step, updates, until or feed.steps + 1)
        write_weights(engine, out / FRAME, out / MODEL)
        watch.ended("done")
    except BaseException as error:
        watch.ended(str(error) or type(error).__name__)
        raise
    finally:
        engine.close()
    return out / MODEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What stays the same from the first step to the last."""

    settings: Settings
    watch: Watch
    engine: Engine
    feed: Feed
    held_out: Prepared | None

    @property
    def out(self) -> Path:
        """The run folder."""
        return Path(self.settings.out)


def go_on(run: Run, stopping: Stopping, step: int, updates: int, until: int) -> None:
    """Do the steps behind ``step``; raises Interrupted, all saved, where the ranks agree to stop before the last."""
    settings, engine, plan, steps = run.settings, run.engine, run.feed.plan, run.feed.steps
    flops = operations(engine, settings)
    began = time.perf_counter()
    for reading in run.feed.readings(step):
        seed(settings.seed, step, engine.rank)
        rate = schedule.learning_rate(settings, step, steps)
        model_began = time.perf_counter()
        loss, dataset_loss, stop = forward_and_backward(run, reading, stopping)
        stepped = engine.step(rate)
        model_ended = time.perf_counter()
        step, updates = step + 1, updates + (not stepped.skipped)
        run.watch.stepped(
            Entry(
                step=step,
                epoch=step / plan.steps,
                loss=loss,
                dataset_loss=dataset_loss,
                lr=rate,
                norm=stepped.norm,
                skipped=stepped.skipped,
                tokens=reading.tokens,
                supervised=reading.supervised,
                slots=reading.slots,
                seconds=time.perf_counter() - began,
                seconds_model=model_ended - model_began,
                flops=flops(reading),
            )
        )
        stop = stop or step == until
        if stop or due(settings.save_every or plan.steps, step, steps):
            save(run, step, updates)
        if stop and step < steps:
            raise Interrupted(f"{stopping.reason or 'Stopped'} behind step {step:,}; repeat the command to go on.")
        if (run.held_out or settings.evaluate_command) and due(settings.evaluate_every, step, steps):
            evaluate(run, stopping, step)
        if not gc.get_freeze_count():
            gc.collect()
            gc.freeze()
        began = time.perf_counter()


def forward_and_backward(run: Run, reading: Reading, stopping: Stopping) -> tuple[float, dict[str, float], bool]:
    """A step's loss, the mean of it for each dataset's targets, and whether to stop, all of them over all ranks."""
    names = run.feed.prepared.names
    loss, sums = torch.zeros((), dtype=torch.float64), torch.zeros(len(names), 2, dtype=torch.float64)
    for one in reading.batches:
        part, more = run.engine.micro(one)
        loss, sums = part + loss.to(part.device), more[: len(names)] + sums.to(more.device)
    total, stop, *flat = run.engine.sum([float(loss), bool(stopping.reason), *sums.flatten().tolist()])
    each = zip(names, flat[::2], flat[1::2], strict=True)
    return total, {name: value / count for name, value, count in each if count}, stop > 0


def evaluate(run: Run, stopping: Stopping, step: int) -> None:
    """The held-out loss, and the user's command on the model as it is now."""
    settings, engine = run.settings, run.engine
    measure_held_out(run, step)
    if settings.evaluate_command:
        run.watch.say(f"step {step:,}: the evaluation command runs, training waits")
        ran = evaluation.by_command(
            engine,
            settings.evaluate_command,
            out=run.out,
            step=step,
            export=lambda folder: write_weights(engine, run.out / FRAME, folder),
            stopping=lambda: bool(stopping.reason),
        )
        if ran is not None:
            run.watch.ran(ran)


def measure_held_out(run: Run, step: int) -> None:
    """The held-out loss, if there is data for it; in front of the first step it is what the run has to better."""
    if run.held_out is not None:
        told = evaluation.held_out(run.engine, run.held_out, step=step, tokens=run.feed.plan.tokens)
        if told is not None:
            run.watch.evaluated(told)


def save(run: Run, step: int, updates: int) -> None:
    """Save the run's state behind a step; raises Interrupted where the disk does not take it."""
    began = time.perf_counter()
    state = resume.state(run.settings, run.feed.prepared, step=step, updates=updates, world=run.engine.world)
    folder = checkpoint.save(run.engine, run.out, state, keep=run.settings.keep)
    size = sum(file.stat().st_size for file in folder.iterdir()) if run.engine.rank == 0 else 0
    run.watch.saved(Saved(step=step, folder=folder, bytes=size, seconds=round(time.perf_counter() - began, 3)))


def due(every: int, step: int, steps: int) -> bool:
    """Whether something that is done every so many steps, and behind the last, is due; 0 means only there."""
    return step == steps or (every > 0 and step % every == 0)


def seed(number: int, step: int, rank: int) -> None:
    """Let what is drawn in a step depend on the step and the rank alone, and on nothing that would have to be saved."""
    mixed = np.random.SeedSequence([number, step, rank]).generate_state(1, np.uint64).item()
    torch.manual_seed(mixed)
    random.seed(mixed)
    np.random.seed(mixed % 2**32)


def operations(engine: Engine, settings: Settings) -> Callable[[Reading], float]:
    """What the model itself needs for a step, in FLOP; 0 for a family that is not known."""
    try:
        sizes = shape.read(engine.learner.model.config.to_dict(), source=settings.model)
    except DataError:
        return lambda _: 0.0
    trained = 0.0 if settings.lora_rank else 1.0
    return lambda reading: compute.flops(
        sizes,
        tokens=reading.tokens,
        supervised=reading.supervised,
        pairs=compute.pairs(reading.lengths.tolist()),
        trained=trained,
    )


def begin(engine: Engine, settings: Settings, *, step: int, steps: int) -> Start:
    """What the watch is told before the first step."""
    device = "cpu" if engine.device.type == "cpu" else torch.cuda.get_device_name(engine.device)
    peak = compute.peak_flops(device) if settings.precision == "bf16" else None
    sizes = [(getattr(one, "ds_numel", one.numel()), one.requires_grad) for one in engine.learner.parameters()]
    return Start(
        step=step,
        steps=steps,
        world=engine.world,
        engine=engines.choose(settings, engine.world),
        device=device,
        parameters=sum(size for size, _ in sizes),
        trainable=sum(size for size, trained in sizes if trained),
        peak=engine.world * (peak or 0.0),
    )


def open_held_out(settings: Settings, prepared: Prepared) -> Prepared | None:
    """The held-out data, if there is any; raises DataError where it cannot be compared with what is learnt."""
    if not settings.held_out:
        return None
    found = Prepared.open(Path(settings.held_out))
    evaluation.check(prepared, found)
    return found


def write_frame(engine: Engine, settings: Settings, prepared: Prepared, tokenizer: Tokenizer) -> None:
    """Write all of the checkpoint to be but its weights, so that nothing hinders the export in the end."""
    causal = engine.learner.model
    frame.write(
        Path(settings.out) / FRAME,
        model=settings.model,
        made_of=prepared.manifest["made_of"],
        vocabulary=causal.config.vocab_size,
        dtype=str(causal.dtype).removeprefix("torch."),
        lora=causal.peft_config["default"] if settings.lora_rank else None,
    )


def write_weights(engine: Engine, framed: Path, folder: Path) -> None:
    """Export the model as it is now; all ranks gather its parameters, one at a time, and rank 0 writes them."""
    if engine.rank == 0:
        export(engine.parameters(), framed, folder)
    else:
        for _ in engine.parameters():
            pass
    engine.barrier()


@contextmanager
def thawed() -> Iterator[None]:
    """Give what was frozen back to the search for garbage in the end."""
    try:
        yield
    finally:
        gc.unfreeze()
