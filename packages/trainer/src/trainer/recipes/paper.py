"""The commands that lead from public data to a row of the paper, and who runs them one after the other."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainer.errors import Interrupted, TrainerError, UnknownName
from trainer.recipes.facts import BASES, COLUMNS, SCORES, TABLES, VANILLA, parts, title
from trainer.recipes.recipes import Recipe

#: The benchmarks of the suite ``tulu`` that no model judges, and how many examples of each subset the paper asked.
BENCHMARKS = {"mmlu": 0, "gsm": 200, "bbh": 40, "tydiqa": 100, "codex-eval": 0}
_INTERRUPTED = 75


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command."""

    name: str
    command: tuple[str, ...]
    #: What is there when it has ended well.
    makes: str
    #: Whether it is run again where it has been: it then does nothing twice, and shows what it found.
    shows: bool = False

    @property
    def line(self) -> str:
        """The command as a shell reads it."""
        return shlex.join(self.command)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """All steps to one row."""

    recipe: Recipe
    steps: tuple[Step, ...]

    @property
    def heading(self) -> str:
        """What the row is."""
        trained = f" learns {title(self.recipe.data)}" if self.recipe.data != VANILLA else ", as it is"
        return f"{self.recipe.base.title}{trained}"

    @property
    def published(self) -> list[str]:
        """What the paper prints of this row, under the heads of its columns; one line where it is not known."""
        scores = SCORES.get((self.recipe.data, self.recipe.base.name))
        if scores is None:
            return ["The paper's numbers of this row are not at hand."]
        shown = ["–" if score is None else f"{score:.1f}" for score in scores]
        widths = [len(column) for column in COLUMNS]
        return [
            "           " + "  ".join(COLUMNS),
            "published  " + "  ".join(f"{score:>{width}}" for score, width in zip(shown, widths, strict=True)),
        ]

    def script(self) -> str:
        """The chain as a shell script."""
        comments = [f"# {self.heading}", *(f"# {line}" for line in self.published)]
        return "\n".join([*comments, "set -e", *(step.line for step in self.steps)]) + "\n"


def chain(table: str, row: str, size: str = "", *, judge: str = "") -> Chain:
    """The steps to a row of a table; ``size`` names the base where a row has several, else the table's own is taken.

    Raises UnknownName for a table, row or size that the paper does not have.
    """
    if table not in TABLES:
        raise UnknownName("table", table, TABLES)
    if row not in TABLES[table]:
        raise UnknownName(f"row of {table}", row, TABLES[table])
    found = TABLES[table][row]
    # One may say 6.7b where the row says which model that is.
    known = (*found.bases, *found.also)
    bases = {name.rpartition("-")[2]: name for name in known} | {name: name for name in known}
    if size and size not in bases:
        raise UnknownName(f"size of {row}", size, known)
    recipe = Recipe(data=found.data, base=BASES[bases[size] if size else found.bases[0]])
    tuning = () if recipe.data == VANILLA else (*_data(recipe), *_training(recipe))
    tested = recipe.model if recipe.data == VANILLA else f"{recipe.out}/model"
    return Chain(recipe=recipe, steps=(_model(recipe), *tuning, *_evaluation(tested, judge)))


def _model(recipe: Recipe) -> Step:
    patterns = ("*.json", "*.model", "*.txt", recipe.base.weights)
    wanted = [word for pattern in patterns for word in ("--include", pattern)]
    return Step(
        name="model",
        command=("hf", "download", recipe.base.hub, *wanted, "--local-dir", recipe.model),
        makes=f"{recipe.model}/config.json",
    )


def _data(recipe: Recipe) -> list[Step]:
    names, data = parts(recipe.data), recipe.data
    converted = [f"converted/{name}.jsonl" for name in names]
    fetch = ("trainer", "data", "fetch", *names, "--to", "raw")
    convert = ("trainer", "data", "convert", *names, "--raw", "raw", "--to", "converted")
    steps = [
        Step(name="fetch", command=fetch, makes="raw"),
        Step(name="convert", command=convert, makes=converted[-1]),
    ]
    file = converted[0]
    if len(names) > 1:
        file = f"mixes/{data}.jsonl"
        mix = ("trainer", "data", "mix", data, "--from", "converted", "--to", file)
        steps.append(Step(name="mix", command=mix, makes=file))
    limit = str(recipe.base.max_length)
    how = ("--tokenizer", recipe.model, "--max-length", limit, "--to", recipe.prepared)
    prepare = ("trainer", "data", "prepare", file, *how)
    return [*steps, Step(name="prepare", command=prepare, makes=f"{recipe.prepared}/prepared.json")]


def _training(recipe: Recipe) -> list[Step]:
    file = f"recipes/{recipe.name}.toml"
    return [
        Step(name="recipe", command=("trainer", "recipes", recipe.name, "--to", file), makes=file),
        Step(name="train", command=("trainer", "launch", file), makes=f"{recipe.out}/model/config.json"),
    ]


def _evaluation(model: str, judge: str) -> list[Step]:
    names = [*BENCHMARKS, *(["alpacafarm"] if judge else [])]
    asked = ("evalkit", "run", "--model", f"hf:{model}", "--data", "benchmarks")
    steps = [
        Step(name="benchmarks", command=("evalkit", "data", "fetch", *names, "--to", "benchmarks"), makes="benchmarks")
    ]
    if judge:
        suite = (*asked, "--suite", "tulu", "--judge", judge)
        return [*steps, Step(name="evaluate", command=suite, makes="runs", shows=True)]
    for name, draw in BENCHMARKS.items():
        drawn = ("--draw", str(draw)) if draw else ()
        steps.append(Step(name=f"evaluate-{name}", command=(*asked, "--bench", name, *drawn), makes="runs", shows=True))
    return steps


def extended(found: Chain, additions: Sequence[str]) -> Chain:
    """The chain with options put behind commands, each written as ``step=--option value``.

    ``evaluate`` is every step whose name begins so. Raises UnknownName for a step that the chain does not have.
    """
    groups = {step.name: step.name.partition("-")[0] for step in found.steps}
    extra: dict[str, tuple[str, ...]] = {}
    for text in additions:
        name, _, options = text.partition("=")
        if name not in {*groups, *groups.values()}:
            raise UnknownName("step", name, groups)
        extra[name] = (*extra.get(name, ()), *shlex.split(options))
    steps = []
    for step in found.steps:
        names = dict.fromkeys((groups[step.name], step.name))
        more = [word for name in names for word in extra.get(name, ())]
        steps.append(replace(step, command=(*step.command, *more)))
    return replace(found, steps=tuple(steps))


def run(found: Chain, *, skip: Sequence[str], say: Callable[[str], None]) -> None:
    """Run the steps that have not been done yet, in this folder; raises where one fails, and nothing is lost.

    What was done is told in ``paper/<recipe>.jsonl``: a step is done when its command ended well with these very words
    and what it makes is there.
    """
    known = [step.name for step in found.steps]
    for name in skip:
        if name not in known:
            raise UnknownName("step", name, known)
    journal = Path("paper") / f"{found.recipe.name}.jsonl"
    done = _read(journal)
    for step in found.steps:
        if step.name in skip:
            say(f"{step.name}: skipped.")
        elif not step.shows and done.get(step.name) == step.line and Path(step.makes).exists():
            say(f"{step.name}: done before.")
        else:
            say(f"{step.name}: {step.line}")
            started = time.monotonic()
            _start(step)
            told = {"step": step.name, "command": step.line, "seconds": round(time.monotonic() - started, 1)}
            journal.parent.mkdir(exist_ok=True)
            with journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps(told, ensure_ascii=False) + "\n")


def _read(journal: Path) -> Mapping[str, str]:
    """The last command of each step; a line that a crash cut off counts for nothing."""
    found: dict[str, str] = {}
    for line in journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []:
        try:
            told = json.loads(line)
        except ValueError:
            continue
        found[told["step"]] = told["command"]
    return found


def _start(step: Step) -> None:
    program, *words = step.command
    if program in {"trainer", "evalkit"}:
        start = [sys.executable, "-m", program, *words]
    else:
        place = shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)
        if not place:
            raise TrainerError(
                f"{program} is not installed; `pip install huggingface_hub` brings it, or --skip {step.name}."
            )
        start = [place, *words]
    code = subprocess.run(start, check=False).returncode
    if code == _INTERRUPTED:
        raise Interrupted(f"Stopped in {step.name}; repeat the command to go on.")
    if code or not Path(step.makes).exists():
        why = f"failed with exit code {code}" if code else f"made no {step.makes}"
        raise TrainerError(
            f"The step {step.name} {why}: mend what it says and repeat the command, or --skip {step.name}."
        )
