"""Preparation: files of conversations become a prepared folder, on all cores and only once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from trainer.errors import DataError, Interrupted, TrainerError
from trainer.preparation.chunks import Chunk, Part, Source, scan, tokenize
from trainer.preparation.draft import KEEP_EVERY, TOLD, Draft, Progress, locked
from trainer.preparation.prepared import MANIFEST, Prepared, read_manifest, token_type
from trainer.rendering.render import Renderer
from trainer.workers import WorkerKilled, results

#: The modules of this package that decide what ids and masks a line of JSON becomes. A test sees that none is missing.
DECIDING = (
    "conversation.py",
    "preparation/chunks.py",
    "preparation/prepared.py",
    "rendering/bytewise.py",
    "rendering/jinja_template.py",
    "rendering/render.py",
    "rendering/rendered.py",
    "rendering/template.py",
    "rendering/tokenizer.py",
    "rendering/tulu1.py",
)

#: Unusable rows after which a strict preparation stops: the file is another than was meant.
TOO_MANY = 100


class Watch(Protocol):
    """Is told how a preparation gets on."""

    def say(self, text: str) -> None:
        """Something the user should know."""

    def start(self, *, total: int, done: int) -> None:
        """Work begins; ``done`` of ``total`` bytes of text were prepared before."""

    def prepared(self, *, size: int, examples: int, tokens: int) -> None:
        """A chunk of so many bytes is done."""

    def stop(self) -> None:
        """Work has ended, whether done or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What to prepare."""

    files: Sequence[Path]
    renderer: Renderer
    #: The prepared folder to be.
    folder: Path
    #: Leave out, and count, rows that cannot be used.
    skip_bad: bool = False


def prepare(task: Task, *, watch: Watch, workers: int | None = None, keep_every: float = KEEP_EVERY) -> Prepared:
    """Tokenize files of conversations into a folder, or open what is there already.

    The folder's bytes depend on the task alone, not on ``workers`` (default: the cores there are). What was done
    before an interruption is not done again. Raises DataError for rows that cannot be used and where there is nothing
    to learn, TrainerError where the folder cannot be written, and Interrupted.
    """
    sources = [scan(path) for path in task.files]
    made_of = ingredients(sources, task.renderer)
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
    found = _whole(task.folder, key)
    if found is None:
        with locked(task.folder, waiting=lambda: watch.say(f"Another process prepares {task.folder}; waiting for it.")):
            found = _whole(task.folder, key)
            if found is None:
                _leave(task.folder, made_of, watch)
                with Draft(task.folder, key, keep_every=keep_every) as draft:
                    _fill(draft, task, sources, watch, workers)
                    draft.finish({"key": key, "dtype": token_type(task.renderer.tokenizer.size), "made_of": made_of})
                return Prepared.open(task.folder)
    watch.say(f"{task.folder} holds this already: nothing to do.")
    _refuse_bad(found.manifest["rejected"], found.manifest["rejected_first"], task)
    return found


def ingredients(sources: Sequence[Source], renderer: Renderer) -> dict[str, Any]:
    """All that decides the bytes of a prepared folder, as its manifest tells it."""
    return {
        "files": [{"name": one.path.name, "bytes": one.size, "sha256": one.sha256} for one in sources],
        "tokenizer": renderer.tokenizer.fingerprint,
        "template": {"name": renderer.template.name, "fingerprint": renderer.template.fingerprint},
        "max_length": renderer.max_length,
        "code": code(),
        "libraries": {name: version(name) for name in ("tokenizers", "transformers")},
    }


def code() -> str:
    """SHA-256 of the modules that decide ids and masks: an edit of one makes another folder."""
    package = Path(__file__).parent.parent
    return hashlib.sha256(b"".join((package / name).read_bytes() for name in DECIDING)).hexdigest()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _whole(folder: Path, key: str) -> Prepared | None:
    """The folder's content where it is that of this key and undamaged."""
    with suppress(DataError):
        if read_manifest(folder)["key"] == key:
            return Prepared.open(folder)
    return None


def _leave(folder: Path, made_of: Mapping[str, Any], watch: Watch) -> None:
    """Tell why what a folder holds is not what is asked for."""
    with suppress(DataError):  # there is nothing, or nothing that can be read
        before = read_manifest(folder)["made_of"]
        changed = [name for name, value in made_of.items() if before.get(name) != value]
        if changed:
            watch.say(f"{folder} was made with other {', '.join(changed)}: it is prepared anew.")
        else:
            watch.say(f"{folder} is damaged: it is prepared anew.")
            (folder / MANIFEST).unlink()  # else it would name files that are written while they are read


def _fill(draft: Draft, task: Task, sources: Sequence[Source], watch: Watch, workers: int | None) -> None:
    """Append what the draft lacks."""
    chunks = [chunk for source in sources for chunk in source.chunks]
    done, left = chunks[: draft.progress.chunks], chunks[draft.progress.chunks :]
    if done:
        watch.say(f"{len(done)} of {len(chunks)} chunks were prepared before; going on behind them.")
    watch.start(total=sum(one.size for one in chunks), done=sum(one.size for one in done))
    try:
        with closing(_parts(left, task.renderer, min(workers or cores(), len(left)))) as parts:
            for chunk, part in zip(left, parts, strict=True):
                _tell_bad(part, draft.progress, watch)
                draft.append(part)
                watch.prepared(size=chunk.size, examples=len(part.examples), tokens=len(part.tokens))
                if not task.skip_bad and draft.progress.rejected >= TOO_MANY:
                    break
    except KeyboardInterrupt:
        kept = f"{draft.progress.chunks} of {len(chunks)} chunks are kept in {task.folder}"
        raise Interrupted(f"Stopped: {kept}; repeat the command to go on.") from None
    finally:
        watch.stop()
    for source in sources:
        source.check()
    _refuse_bad(draft.progress.rejected, draft.progress.told, task)
    if not sum(count.examples for count in draft.progress.counts.values()):
        dropped = sum(count.dropped for count in draft.progress.counts.values())
        why = f"of {dropped:,} conversations none leaves anything that is learnt" if dropped else "no conversations"
        raise DataError(f"There is nothing to learn in {_names(task)}: {why}.")


def _tell_bad(part: Part, before: Progress, watch: Watch) -> None:
    for number, reason in enumerate(part.rejected, before.rejected):
        if number < TOLD:
            watch.say(reason)
        elif number == TOLD:
            watch.say("More rows that cannot be used are counted and no longer told.")


def _refuse_bad(rejected: int, told: Sequence[str], task: Task) -> None:
    if rejected and not task.skip_bad:
        raise DataError(
            f"{rejected:,} rows of {_names(task)} cannot be used, the first: {told[0]} "
            "Mend them, or leave them out with --skip-bad; what is tokenized is kept."
        )


def _names(task: Task) -> str:
    return ", ".join(path.name for path in task.files)


def _parts(chunks: Sequence[Chunk], renderer: Renderer, workers: int) -> Generator[Part, None, None]:
    """What the chunks become, in order.

    Tokenizing holds no lock of Python's, so threads would do for that part, but parsing and masks are a tenth of the
    work and would let no more than a few cores be busy.
    """
    try:
        yield from results(_tokenize, renderer, chunks, workers=workers)
    except WorkerKilled:
        raise TrainerError(
            "A worker process was killed, perhaps for want of memory: repeat the command, which goes on where it "
            "stopped, with fewer --workers."
        ) from None


def _tokenize(renderer: Renderer, chunk: Chunk) -> Part:
    return tokenize(chunk, renderer)
