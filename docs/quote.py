"""What the pages quote from the program; cog calls these functions, and `nox -s docs` fails when a quote is stale."""

from __future__ import annotations

import inspect
import shlex
from pathlib import Path

import click
from click.testing import CliRunner

from evalkit.cli import COMMANDS, evalkit
from evalkit.options import known
from evalkit.plugins import BACKENDS, Plugins


def help_pages() -> None:
    """Print the help of the program and of each command, each under a heading."""
    groups = {name: evalkit.get_command(click.Context(evalkit), name) for name in COMMANDS}
    parts = [[name, part] for name, group in groups.items() for part in getattr(group, "commands", {})]
    every = [[], *sorted([*([name] for name in COMMANDS), *parts], key=lambda words: COMMANDS.index(words[0]))]
    for words in every:
        name = " ".join(["evalkit", *words])
        text = CliRunner().invoke(evalkit, [*words, "--help"], prog_name="evalkit", terminal_width=100).output
        print(f"\n## {name}\n\n```text\n{text.strip()}\n```")
    print()


def trainer(*words: str) -> None:
    """Print a command of the trainer, and what it prints."""
    from trainer.cli import trainer as program

    ran = CliRunner().invoke(program, words, prog_name="trainer", catch_exceptions=False)
    print(f"\n```console\n$ trainer {shlex.join(words)}\n{ran.output.strip()}\n```\n")


def benchmark_table() -> None:
    """Print a row for each setting of each installed benchmark."""
    print("\n| benchmark | what it asks | measures | headline | file for `--data` | licence of the data |")
    print("|---|---|---|---|---|---|")
    for setting, benchmark in Plugins().settings():
        if isinstance(benchmark, Exception):
            raise benchmark
        data = benchmark.data
        source = _source(data.file, data.home)
        cells = (f"`{setting}`", benchmark.doc, benchmark.facet, f"`{benchmark.headline}`", source, data.licence)
        print(f"| {' | '.join(cells)} |")
    print()


def _source(file: str, home: str) -> str:
    if not file:
        return "none: it brings its own"
    return f"[{file}]({home})" if home.startswith("http") else f"{file} of {home}"


def settings(name: str) -> None:
    """Print what can be chosen of one benchmark: its settings, their options and the rules that these decide."""
    print("\n| setting | shots | asks | metrics, headline first | options of `-B` |")
    print("|---|---|---|---|---|")
    plugins = Plugins()
    for setting, benchmark in plugins.settings():
        if isinstance(benchmark, Exception) or benchmark.name != name:
            continue
        metrics = ", ".join(f"`{metric}`" for reading in benchmark.readings for metric in reading.metrics)
        options = ", ".join(f"`{option}={one.default}`" for option, one in known(plugins.benchmark(setting)).items())
        print(f"| `{setting}` | {benchmark.n_shots} | {benchmark.asks} | {metrics} | {options or 'none'} |")
    print()


def files(name: str) -> None:
    """Print where a benchmark's data comes from, and its pinned files (of many, the first)."""
    data = Plugins().benchmark(name)().data
    print(f"\n[{data.home}]({data.home}), {data.licence}.\n\n| file | SHA-256 |\n|---|---|")
    for file in data.files[:6]:
        print(f"| `{file.path}` | `{file.sha256}` |")
    if more := len(data.files[6:]):
        print(f"| … and {more} more: `evalkit data list {name}` | |")
    print()


def rules(setting: str) -> None:
    """Print how the protocols of a setting differ."""
    make = Plugins().benchmark(setting)
    protocols = ("paper", "v1", "v2")
    found = {protocol: make(protocol=protocol).rules for protocol in protocols}
    print(f"\n| rule | {' | '.join(f'`protocol={protocol}`' for protocol in protocols)} |")
    print("|---|---|---|---|")
    for rule in found["paper"]:
        print(f"| {rule} | {' | '.join(repr(found[protocol][rule]) for protocol in protocols)} |")
    print()


def backend_table() -> None:
    """Print a row for each installed backend."""
    print("\n| backend | what it is | answers | options of `-M` |")
    print("|---|---|---|---|")
    plugins = Plugins()
    for name in plugins.names(BACKENDS):
        backend = plugins.backend(name)
        doc = (inspect.getdoc(backend) or "").split("\n\n")[0].replace("\n", " ")
        options = ", ".join(f"`{option}`" for option in known(backend.__init__)) or "none"
        print(f"| `{name}` | {doc} | {', '.join(sorted(backend.can))} | {options} |")
    print()


def users(group: str) -> None:
    """Print which plugins of this repository have entry points in a group."""
    files = sorted(Path(__file__).parents[1].glob("plugins/*/pyproject.toml"))
    names = [f"`{file.parent.name}`" for file in files if f'[project.entry-points."{group}"]' in file.read_text()]
    print(f"\nIn this repository: {', '.join(names) or 'none yet'}.\n")
