"""The beginning of a run: benchmark, data, shots, tokenizer and choice of examples, before any weights."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from evalkit import codec
from evalkit.backend import Backend
from evalkit.benchmark import Benchmark, Context, no_shots
from evalkit.datasets import OpenDataset, Row, Source
from evalkit.errors import DataError, EvalkitError, ModelError, PluginError
from evalkit.selection import Selection, Shard, select
from evalkit.store import RunFolder
from evalkit.types import Example, GenerateRequest, LikelihoodRequest, Request

Chat = Literal["auto", "on", "off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A benchmark with the name and the options under which it was asked for."""

    #: As typed, so that the run can find its benchmark again: ``gsm:direct``, ``./riddles.py``.
    asked: str
    benchmark: Benchmark[Any]
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A backend with the name and the options under which it was asked for."""

    backend_name: str
    #: What the backend loads; may be empty.
    name: str
    options: Mapping[str, Any]
    backend: Backend

    @property
    def bound(self) -> Model:
        """The model that a run is bound to: the one whose answers this one gives, where that is another."""
        return self.backend.inner or self

    @property
    def bound_name(self) -> str:
        """The name by which a run is bound: a local model's last folder, so that it may be moved or named anew."""
        path = Path(self.name)
        return path.resolve().name if self.name and path.exists() else self.name

    @property
    def label(self) -> str:
        """How tables call it: ``hf:NAME``, ``dummy``."""
        return f"{self.backend_name}:{self.name}" if self.name else self.backend_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a run's caller may choose besides benchmark and model; None stands for the benchmark's own choice."""

    shots: int | None = None
    limit: int | None = None
    #: Take this many at random from each subset.
    draw: int | None = None
    subsets: Sequence[str] = ()
    seed: int = 42
    #: A file or folder, ``sample``, or None for the hub.
    data: str | None = None
    shots_data: str | None = None
    chat: Chat = "auto"
    out: Path = Path("runs")
    resume: Path | None = None
    retry_failed: bool = False
    #: Ask only a share of the examples; other processes ask the others.
    shard: Shard | None = None
    #: The user's consent to run a model's code outside a sandbox; half of it, the environment holds the other.
    unsafe_code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A benchmark with its data and a model: all that is needed to make every request."""

    choice: Choice
    source: Source
    selection: Selection
    context: Context
    model: Model
    #: Hash of the files that the rows come from.
    data: str

    @property
    def judged(self) -> dict[str, Any]:
        """For a judge: the ``model`` whose answers are the rows, and how many were ``unjudged``, since they had failed.

        Empty where the rows are no model's answers.
        """
        if self.benchmark.data.judged is not None and not self.is_sample:
            return dict(self.benchmark.data.judged(self.source))
        path = self.source.path
        if path is None or not (path / "run.json").is_file():
            return {}
        folder = RunFolder.existing(path)
        return {"model": str(folder.manifest["model"]), "unjudged": int(folder.summary["failed"])}

    @property
    def benchmark(self) -> Benchmark[Any]:
        """The benchmark."""
        return self.choice.benchmark

    def share(self, shard: Shard | None) -> Loaded:
        """The same with a share of the examples; all of them for None."""
        return self if shard is None else replace(self, selection=self.selection.share(shard))

    @property
    def is_sample(self) -> bool:
        """Whether the rows are made-up ones that only show how the benchmark works."""
        return self.source.is_sample and bool(self.benchmark.data.sample)

    def examples(self) -> Iterator[Example]:
        """All examples, in the published order."""
        return examples_of(self.benchmark, self.source)

    def requests(self) -> Iterator[tuple[int, Example, Request]]:
        """The chosen examples with their positions and requests."""
        for position, example in enumerate(self.examples()):
            if position in self.selection:
                yield position, example, _request(self.benchmark, example, self.context)

    def binds(self) -> dict[str, Any]:
        """What makes this run the run it is: nothing that leaves all answers alike, all that can change one."""
        shots, model = self.context.shots, self.model.bound
        speed = model.backend.speed_options
        return {
            "benchmark": self.benchmark.setting,
            "version": self.benchmark.version,
            "options": dict(self.choice.options),
            "rules": dict(self.benchmark.rules),
            "model": {
                "backend": model.backend_name,
                "name": model.bound_name,
                "options": {name: value for name, value in model.options.items() if name not in speed},
                "fingerprint": dict(model.backend.fingerprint()),
            },
            "data": "sample" if self.is_sample else self.data,
            "shots": {
                "number": max((len(some) for some in shots.by_subset.values()), default=0),
                "origin": shots.origin,
                "digest": codec.digest(
                    {name: [codec.flat(shot) for shot in some] for name, some in shots.by_subset.items()}
                ),
            },
            "chat": self.context.chat,
            "seed": self.context.seed,
            "draw": self.selection.draw,
        }


def subset_names(choice: Choice, wishes: Wishes, *, open_dataset: OpenDataset) -> set[str]:
    """The names of a benchmark's subsets in the data that is asked for."""
    source = _source(choice.benchmark, wishes.data, open_dataset)
    return {example.subset for example in examples_of(choice.benchmark, source)}


def load(choice: Choice, model: Model, wishes: Wishes, *, open_dataset: OpenDataset) -> Loaded:
    """Find data, shots and tokenizer, and choose the examples; no weights are loaded."""
    benchmark = choice.benchmark
    source = _source(benchmark, wishes.data, open_dataset)
    selection = select(
        examples_of(benchmark, source),
        limit=wishes.limit,
        subsets=wishes.subsets,
        draw=wishes.draw,
        seed=wishes.seed,
    )
    data = source.digest()
    tokenizer = model.backend.tokenizer()
    templated = model.backend.has_chat_template
    if wishes.chat == "on" and not templated:
        raise ModelError(
            f"{model.label} has no chat template: leave --chat on out, or give one with --chat-template FILE."
        )
    if wishes.shots and benchmark.shots is no_shots:
        raise EvalkitError(f"The prompts of {benchmark.setting} show no solved examples; leave --shots out.")
    shots_source = Source(Path(wishes.shots_data)) if wishes.shots_data else source
    shots = benchmark.shots(shots_source, benchmark.n_shots if wishes.shots is None else wishes.shots, wishes.seed)
    context = Context(
        shots=shots,
        chat=wishes.chat == "on" or (wishes.chat == "auto" and benchmark.chat and templated),
        tokenizer=tokenizer,
        seed=wishes.seed,
    )
    loaded = Loaded(choice=choice, source=source, selection=selection, context=context, model=model, data=data)
    _require_askable(loaded)
    return loaded


def _require_askable(loaded: Loaded) -> None:
    """Make the first request of each chosen subset: what one of them lacks is said before the others are asked."""
    left, faults = set(loaded.selection.subsets), []
    for position, example in enumerate(loaded.examples()):
        if example.subset in left and position in loaded.selection:
            left.discard(example.subset)
            try:
                _request(loaded.benchmark, example, loaded.context)
            except DataError as fault:
                faults.append(str(fault))
        if not left:
            break
    if faults:
        raise DataError(faults[0] if len(faults) == 1 else f"{faults[0]} ({len(faults)} subsets lack something.)")


def _source(benchmark: Benchmark[Any], data: str | None, open_dataset: OpenDataset) -> Source:
    if not benchmark.data.file and data == os.environ.get("EVALKIT_DATA"):
        data = None  # a folder for all benchmarks; this one has no use for it
    if data is not None and not benchmark.data.file:
        raise EvalkitError(f"{benchmark.setting} makes its own rows; leave --data out.")
    if data == "sample" and not benchmark.data.sample:
        raise EvalkitError(f"{benchmark.setting} has no sample rows; pass {benchmark.data.file} to --data.")
    if data == "sample":
        return Source()
    if data is not None and ":" in data and not Path(data).exists():
        return Source(hub=data, open_dataset=open_dataset)
    if data is not None:
        return Source(Path(data))
    instead = (
        f"Pass {benchmark.data.file} from {benchmark.data.home} to --data, or try made-up rows with --data sample."
    )
    if benchmark.data.hub:
        return Source(hub=benchmark.data.hub, open_dataset=open_dataset, instead=instead)
    if benchmark.data.file:
        raise EvalkitError(f"{benchmark.setting} needs its data. {instead}")
    return Source()


def examples_of(benchmark: Benchmark[Any], source: Source) -> Iterator[Example]:
    """A benchmark's examples from a source, in the published order."""
    for row in _rows(benchmark, source):
        try:
            yield benchmark.example(row)
        except EvalkitError:
            raise
        except Exception as error:  # a plugin's code met a row that it did not expect
            raise row.fault(f"{benchmark.setting} cannot read this row ({type(error).__name__}: {error})") from error


def _rows(benchmark: Benchmark[Any], source: Source) -> Iterator[Row]:
    data = benchmark.data
    if source.is_sample and data.sample:
        for number, fields in enumerate(data.sample):
            yield Row(fields, f"sample row {number}", number)
    else:
        yield from data.rows(source)


def _request(benchmark: Benchmark[Any], example: Example, context: Context) -> Request:
    kind = LikelihoodRequest if benchmark.asks == "likelihood" else GenerateRequest
    try:
        request = benchmark.request(example, context)
    except EvalkitError:
        raise
    except Exception as error:  # a plugin's code met an example that it did not expect
        what = f"{type(error).__name__}: {error}"
        raise PluginError(f"{benchmark.setting} cannot ask example {example.id!r} ({what}).") from error
    if not isinstance(request, kind):
        raise PluginError(f"{benchmark.setting} says it asks {benchmark.asks}, but made a {type(request).__name__}.")
    if isinstance(request, GenerateRequest) and (request.max_tokens < 1 or request.n < 1):
        raise EvalkitError(
            f"{benchmark.setting} asks for {request.n} texts of {request.max_tokens} tokens; give 1 or more."
        )
    return replace(request, id=example.id)
