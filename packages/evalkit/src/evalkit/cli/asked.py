"""From what was typed to the model, the benchmarks and the wishes of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit import models, options
from evalkit.errors import EvalkitError, ModelError, UnknownName
from evalkit.load import Choice, Model, Wishes, subset_names
from evalkit.plugins import Plugins

if TYPE_CHECKING:
    from evalkit.suite import Suite


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Everything that a command line asks for."""

    model: Model
    #: Judges open-ended answers in a second run.
    judge: Model | None
    #: Set when the runs are those of a suite.
    suite: Suite | None
    runs: Sequence[tuple[Choice, Wishes]]

    def judgement(self, plugins: Plugins, choice: Choice, wishes: Wishes, run: str) -> tuple[Choice, Wishes] | None:
        """The second run in which the judge reads the records of a finished first one; None where it has no part."""
        if self.judge is None or not choice.benchmark.judged:
            return None
        name = plugins.sibling(choice.asked, choice.benchmark.judged)
        second = replace(wishes, data=run, shots_data=None, shots=None, limit=None, draw=None, subsets=(), resume=None)
        return _choice(plugins, self.judge, name, {}), second


def read(plugins: Plugins, given: Mapping[str, Any]) -> Asked:
    """What the options of ``evalkit run`` ask for; raises EvalkitError for what does not exist or does not fit."""
    model = _model(plugins, given["model"], given["model_options"], given)
    judge = _model(plugins, given["judge"], {}, {}) if given["judge"] else None
    if bool(given["benches"]) == bool(given["suite"]):
        raise EvalkitError("Say what to run: one or more --bench, or one --suite.")
    suite = plugins.suite(given["suite"]) if given["suite"] else None
    wishes = Wishes(**{field.name: given[field.name] for field in fields(Wishes)})
    if suite:
        entries = [(entry.setting, replace(wishes, draw=wishes.draw or entry.draw)) for entry in suite.entries]
    else:
        entries = [(name, wishes) for name in given["benches"]]
    if wishes.resume and len(entries) > 1:
        raise EvalkitError("--resume names one run folder; give one --bench with it.")
    _require_known(plugins, [name for name, _ in entries], given["bench_options"])
    runs = [(_choice(plugins, model, name, given["bench_options"]), wishes) for name, wishes in entries]
    for choice, _ in runs:
        if suite and choice.benchmark.judged and judge is None:
            raise EvalkitError(f"The suite {suite.name} has {choice.benchmark.setting} judged: add --judge MODEL.")
    if wishes.subsets and len(runs) > 1:
        runs = _scoped(plugins, runs, wishes.subsets)
    return Asked(model=model, judge=judge, suite=suite, runs=runs)


def _scoped(
    plugins: Plugins, runs: Sequence[tuple[Choice, Wishes]], names: Sequence[str]
) -> list[tuple[Choice, Wishes]]:
    """The runs with each ``--subset`` where it exists; a benchmark that has none of them is asked whole."""
    known = [subset_names(choice, wishes, open_dataset=plugins.open_dataset) for choice, wishes in runs]
    for name in names:
        if not any(name in found for found in known):
            raise UnknownName("subset", name, set().union(*known) - {""}, listed="There are")
    mine = [tuple(name for name in names if name in found) for found in known]
    return [(choice, replace(wishes, subsets=only)) for (choice, wishes), only in zip(runs, mine, strict=True)]


def _model(plugins: Plugins, asked: str, texts: Mapping[str, str], given: Mapping[str, Any]) -> Model:
    # Two backend options are typed so often that they have a spelling of their own.
    named = {option: given[option] for option in ("chat_template", "batch_size") if given.get(option) is not None}
    return models.make(plugins, asked, {**texts, **named})


def _require_known(plugins: Plugins, names: Sequence[str], texts: Mapping[str, str]) -> None:
    """Each ``-B`` option must be one of a benchmark's that is asked; it then goes to those that have it."""
    makers = [plugins.benchmark(name) for name in names]
    for key in texts:
        known = {option for make in makers for option in options.known(make)}
        if key.replace("-", "_") not in known:
            owner = f"the benchmark {names[0]!r}" if len(names) == 1 else "these benchmarks"
            raise UnknownName(f"option of {owner}", key, known, listed="It has" if len(names) == 1 else "They have")


def _choice(plugins: Plugins, model: Model, asked: str, texts: Mapping[str, str]) -> Choice:
    """The benchmark with its options; its generated form where the backend cannot answer likelihoods."""
    if asked.endswith(".py") or ".py:" in asked:  # `evalkit score` must find the file from anywhere
        asked = str(Path(asked).resolve())
    make = plugins.benchmark(asked)
    benchmark = make()
    if not model.backend.answers(benchmark.asks):
        if not benchmark.generated:
            raise ModelError(f"{model.label} cannot answer what {benchmark.setting} asks ({benchmark.asks}).")
        asked = plugins.sibling(asked, benchmark.generated)
        make = plugins.benchmark(asked)
    mine = {key: text for key, text in texts.items() if key.replace("-", "_") in options.known(make)}
    bound = options.bind(make, mine, owner=f"the benchmark {make().setting!r}")
    return Choice(asked=asked, benchmark=make(**bound), options=options.changed(make, bound))
