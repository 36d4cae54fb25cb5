"""One run: load → ask → answer → score → summarize."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, Protocol

from evalkit import report, scoring, store
from evalkit.benchmark import Benchmark
from evalkit.datasets import OpenDataset
from evalkit.errors import Busy, Interrupted, PluginError, RunError, SharesMissing
from evalkit.journal import Journal, Verdicts, answer_hash, journals, request_hash
from evalkit.load import Choice, Loaded, Model, Wishes, load
from evalkit.selection import Selection, Shard
from evalkit.types import Answer, Example, Record, Request, Verdict


class Watch(Protocol):
    """Is told how a run gets on."""

    def say(self, text: str) -> None:
        """Something the user should know."""

    def start(self, benchmark: str, *, total: int, done: int) -> None:
        """Asking begins; ``done`` of ``total`` responses are there already."""

    def answered(self, score: float | None) -> None:
        """A response is kept; ``score`` by the headline metric, None for a failed one."""

    def stop(self) -> None:
        """Asking has ended, whether done or not."""


def run(
    choice: Choice,
    model: Model,
    wishes: Wishes,
    *,
    open_dataset: OpenDataset,
    versions: Mapping[str, str],
    watch: Watch,
) -> dict[str, Any]:
    """Ask a model a benchmark's questions and return the summary, as ``summary.json`` holds it.

    Whatever was answered before is not asked again. Raises EvalkitError for what the user can mend.
    """
    loaded = load(choice, model, wishes, open_dataset=open_dataset)
    verifier = choice.benchmark.verify
    if verifier:  # before anything is asked: a run whose answers could not be verified would be for nothing
        verifier.ready(unsafe_code=wishes.unsafe_code)
    folder = _folder(loaded, wishes, versions, watch)
    with Journal(folder.path, write=True, shard=wishes.shard) as journal:
        try:
            try:
                ask(loaded.share(wishes.shard), journal, watch, retry_failed=wishes.retry_failed)
            finally:  # what is kept of a run that ends early was sent so, too
                folder.note(model.backend.remarks())
            if wishes.shard:
                _require_whole(loaded, journal, folder, wishes.shard)
            return summarize(
                folder, journal, choice.benchmark, watch, unsafe_code=wishes.unsafe_code, selection=loaded.selection
            )
        except Busy:
            if wishes.shard is None:
                raise
            # Two shards ended at once, and the other one has begun to verify.
            raise SharesMissing(f"All shards are answered; another process is about to score {folder.path}.") from None
        except KeyboardInterrupt:
            journal.catch_up()
            kept = sum(position in loaded.selection for position in journal.positions())
            raise Interrupted(
                f"Stopped: {kept} of {loaded.selection.n} responses are kept in {folder.path}; "
                "repeat the command to go on."
            ) from None


def _require_whole(loaded: Loaded, journal: Journal, folder: store.RunFolder, shard: Shard) -> None:
    """Raise SharesMissing until all shares of a run are answered."""
    journal.catch_up()
    n = loaded.selection.n
    if (there := sum(position in loaded.selection for position in journal.positions())) < n:
        raise SharesMissing(
            f"Shard {shard} of {loaded.benchmark.setting} is answered; of all shards, {there} of {n} responses are in "
            f"{folder.path}. When the others are done, repeat one of the commands, or `evalkit score {folder.path}`."
        )


def check(choice: Choice, model: Model, wishes: Wishes, *, open_dataset: OpenDataset) -> None:
    """Raise what would keep a run from starting; for the runs whose turn comes hours later."""
    load(choice, model, wishes, open_dataset=open_dataset)
    if choice.benchmark.verify:
        choice.benchmark.verify.ready(unsafe_code=wishes.unsafe_code)


def ask(loaded: Loaded, journal: Journal, watch: Watch, *, retry_failed: bool = False) -> None:
    """Put the requests that have no response yet to the model, and keep each response the moment it comes."""
    _settle(loaded, journal)
    unreadable = set(_unreadable(loaded, journal)) if retry_failed else set()
    retried = {position for position in journal.failed if retry_failed and position in loaded.selection} | unreadable
    answered = sum(position in loaded.selection for position in journal.positions())
    left = loaded.selection.n - answered + len(retried)
    asked: dict[int, tuple[Example, Request, int]] = {}

    def requests() -> Iterator[tuple[int, Any]]:
        for position, example, request in loaded.requests():
            hashed = request_hash(request)
            if position in journal:
                if not journal.holds(position, hashed):
                    raise _changed(loaded.benchmark, example)
                if position not in retried:
                    continue
            sent = request
            if position in unreadable and loaded.benchmark.again is not None:
                sent = loaded.benchmark.again(request, journal.attempts.get(position, 1) + 1)
            asked[position] = example, sent, hashed
            yield position, sent

    if not left:
        for _ in requests():  # nothing to ask, but what was asked must still be what would be asked
            pass
        return
    backend = loaded.model.backend
    watch.say(f"Loading {loaded.model.label} …")
    backend.open()
    watch.start(loaded.benchmark.setting, total=loaded.selection.n, done=loaded.selection.n - left)
    answer = backend.likelihood if loaded.benchmark.asks == "likelihood" else backend.generate
    try:
        for position, response in answer(requests()):
            if position not in asked:
                raise PluginError(f"{loaded.model.label} answered request {position}, which is not open.")
            example, request, hashed = asked.pop(position)
            journal.append(position, hashed, example, request, response)
            scores = scoring.record(loaded.benchmark, example, request, response).scores
            watch.answered(scores.get(loaded.benchmark.headline))
    finally:
        watch.stop()
        if account := backend.account():
            watch.say(account)
    if asked:
        raise PluginError(f"{loaded.model.label} left {len(asked)} requests without a response; repeat the command.")


def _settle(loaded: Loaded, journal: Journal) -> None:
    """Keep the responses to examples that no model need be asked."""
    if (settled := loaded.benchmark.settled) is None:
        return
    for position, example, request in loaded.requests():
        if position not in journal and (response := settled(example)) is not None:
            journal.append(position, request_hash(request), example, request, response)


def _unreadable(loaded: Loaded, journal: Journal) -> Iterator[int]:
    """The chosen positions whose response came but says nothing, where that counts as failed."""
    if loaded.benchmark.silence != "fails":
        return
    for position in journal.positions():
        if position in loaded.selection and position not in journal.failed:
            example, _, response = journal.read(position)
            if scoring.is_unreadable(loaded.benchmark, example, response):
                yield position


def summarize(
    folder: store.RunFolder,
    journal: Journal,
    benchmark: Benchmark[Any],
    watch: Watch,
    *,
    unsafe_code: bool = False,
    selection: Selection | None = None,
) -> dict[str, Any]:
    """Verify and score the responses of a run, write records and summary, and return the summary.

    ``unsafe_code`` is the user's ``--unsafe-code``, which counts only if an answer is left to verify. Without a
    selection every response counts.
    """
    manifest = folder.manifest
    tally = scoring.Tally(benchmark)
    positions = array("Q", (one for one in journal.positions() if selection is None or one in selection))
    with _verdicts(folder, journal, benchmark, positions, watch, unsafe_code=unsafe_code) as (verdict_of, verified):

        def records() -> Iterator[Record]:
            for position in positions:
                example, request, response = journal.read(position)
                record = scoring.record(benchmark, example, request, response, verdict_of(position))
                tally.add(record)
                yield record

        folder.write_records(records())
    notes = [*report.notes(manifest, benchmark, answered=tally.n + tally.failed), *verified.get("notes", ())]
    summary = tally.summary(model=manifest["model"], notes=notes, requests=journal.digest(positions))
    out = report.summary_out(summary, run=str(folder.path), verified=verified)
    folder.write_summary(out)
    return out


@contextmanager
def _verdicts(
    folder: store.RunFolder,
    journal: Journal,
    benchmark: Benchmark[Any],
    positions: Sequence[int],
    watch: Watch,
    *,
    unsafe_code: bool,
) -> Iterator[tuple[Callable[[int], Verdict | None], Mapping[str, Any]]]:
    """Have the answers verified that were not before; the way to look a verdict up, and how verdicts were made."""
    if benchmark.verify is None:
        yield lambda _: None, {}
        return
    hashes: dict[int, int] = {}

    def answers() -> Iterator[tuple[int, Example, Answer]]:
        for position in positions:
            example, request, response = journal.read(position)
            answer = scoring.record(benchmark, example, request, response).answers.get(benchmark.readings[0].name)
            if answer is not None:
                hashes[position] = answer_hash(example, answer)
                if not verdicts.holds(position, hashes[position]):
                    yield position, example, answer

    with Verdicts(folder.path, write=True) as verdicts:
        left = answers()
        first = next(left, None)
        known_way = folder.verified if first is None else None
        verified = benchmark.verify.ready(unsafe_code=unsafe_code) if known_way is None else known_way
        if first is not None:
            watch.start(f"{benchmark.setting} verify", total=len(positions), done=len(hashes) - 1)
            try:
                for position, verdict in benchmark.verify.verdicts(chain([first], left)):
                    verdicts.append(position, hashes[position], verdict)
                    watch.answered(sum(verdict.passed) / len(verdict.passed))
            finally:
                watch.stop()
        known = {position for position, hashed in hashes.items() if verdicts.holds(position, hashed)}
        yield lambda position: verdicts.read(position) if position in known else None, verified


def _folder(loaded: Loaded, wishes: Wishes, versions: Mapping[str, str], watch: Watch) -> store.RunFolder:
    judged = loaded.judged
    besides = {
        "asked": loaded.choice.asked,
        "model": loaded.model.label,
        **({"judge": loaded.model.label, **judged} if judged else {}),
        "total": loaded.selection.total,
        "data": str(loaded.source.path) if loaded.source.path else loaded.source.name,
        "versions": dict(versions),
        "machine": store.machine(),
    }
    folder = store.open_folder(wishes.out, loaded.binds(), besides, resume=wishes.resume)
    watch.say(f"{loaded.benchmark.setting}: {loaded.benchmark.doc}")
    if not journals(folder.path) and (near := store.nearest(folder)) and near[1]:
        watch.say(f"A new run; the nearest, {near[0]}, differs in {'; '.join(near[1])}.")
    return folder


def _changed(benchmark: Benchmark[Any], example: Example) -> RunError:
    return RunError(
        f"This run asked example {example.id!r} of {benchmark.setting} differently: its code changed under the same "
        f"version. Raise the benchmark's `version`, or choose another folder with --out."
    )
