"""Finds plugins by entry point, loads only the ones that are asked for, and keeps their faults to themselves."""

from __future__ import annotations

import functools
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from evalkit import hookspecs
from evalkit.errors import DataError, EvalkitError, PluginError, UnknownName

if TYPE_CHECKING:
    import click

    from evalkit.backend import Backend
    from evalkit.benchmark import Benchmark
    from evalkit.suite import Suite

#: Makes a benchmark; its keyword parameters are the benchmark's options.
MakeBenchmark = Callable[..., "Benchmark[Any]"]
#: The function with what it makes when no options are given.
Made = tuple[MakeBenchmark, "Benchmark[Any]"]

#: A loose file, perhaps with the variant that is meant: ``./riddles.py:hard``.
_FILE = re.compile(r"(?P<path>.+\.py)(?::(?P<variant>.+))?")

BENCHMARKS, BACKENDS, DATASETS = "evalkit.benchmarks", "evalkit.backends", "evalkit.datasets"
SUITES, COMMANDS = "evalkit.suites", "evalkit.commands"
#: What the names of a group are called in messages.
_KINDS = {BENCHMARKS: "benchmark", BACKENDS: "backend", SUITES: "suite", COMMANDS: "command"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What one plugin brings, or why it brings nothing."""

    group: str
    name: str
    #: Distribution and version, or the path of a loose file.
    origin: str
    version: str = ""
    error: str = ""


class Plugins:
    """The installed plugins; made once in ``main()``."""

    def __init__(self, find: Callable[..., Iterable[EntryPoint]] = entry_points) -> None:
        # A search reads the metadata of every installed distribution: one for each group is enough.
        self._find = functools.cache(lambda *, group: tuple(find(group=group)))
        self._loaded: dict[str, pluggy.PluginManager] = {}

    def names(self, group: str) -> list[str]:
        """The sorted names in an entry-point group."""
        return sorted({point.name for point in self._find(group=group)})

    def offers(self) -> Iterator[Offer]:
        """Every plugin with its origin; one that cannot be loaded carries its error."""
        for group in (BENCHMARKS, BACKENDS, DATASETS, SUITES, COMMANDS):
            for point in sorted(self._find(group=group), key=lambda point: (point.name, _origin(point))):
                error = ""
                try:
                    self._load(point)
                except PluginError as fault:
                    error = str(fault)
                release = _metadata(point, "Version")
                yield Offer(group=group, name=point.name, origin=_origin(point), version=release, error=error)

    def settings(self) -> Iterator[tuple[str, Benchmark[Any] | EvalkitError]]:
        """Every installed benchmark in every setting, or the error of a plugin that cannot be loaded."""
        for point in sorted(self._find(group=BENCHMARKS), key=lambda point: (point.name, _origin(point))):
            try:
                for _, benchmark in self._of(point):
                    yield benchmark.setting, benchmark
            except EvalkitError as error:
                yield point.name, error

    def benchmark(self, asked: str) -> MakeBenchmark:
        """The function that makes the benchmark which ``gsm``, ``gsm:direct``, ``dist:gsm`` or a path names."""
        if file := _FILE.fullmatch(asked):
            path = Path(file["path"])
            if not path.is_file():
                raise PluginError(f"There is no file {path}.")
            return _choose(self._made(self._load_file(path), path.name), asked, file["variant"] or "")
        dist, name, variant = self._split(BENCHMARKS, asked)
        return _choose(self._of(self._point(BENCHMARKS, name, dist)), asked, variant)

    def sibling(self, asked: str, variant: str) -> str:
        """How to ask for another variant of the benchmark that was asked for."""
        if file := _FILE.fullmatch(asked):
            return f"{file['path']}:{variant}"
        dist, name, _ = self._split(BENCHMARKS, asked)
        return ":".join(filter(None, (dist, name, variant)))

    def backend(self, name: str) -> type[Backend]:
        """The class of the backend that bears this name, or ``dist:name``."""
        dist, name, _ = self._split(BACKENDS, name)
        manager = self._load(self._point(BACKENDS, name, dist))
        try:
            found: Sequence[type[Backend]] = manager.hook.backend()
        except Exception as error:  # a stranger's code
            raise PluginError(f"The plugin {name!r} cannot give its backend: {_first_line(error)}.") from error
        if len(found) != 1:
            raise PluginError(f"The plugin {name!r} offers {len(found)} backends where one is expected.")
        if not hasattr(found[0], "can"):
            raise PluginError(f"The backend {name!r} does not say what it can answer: its class needs `can`.")
        return found[0]

    def suite(self, name: str) -> Suite:
        """The suite of this name."""
        offered = self._load(self._point(SUITES, name, "")).hook.suites()
        found: dict[str, Suite] = {suite.name: suite for suites in offered for suite in suites}
        if name not in found:
            raise PluginError(f"The plugin {name!r} offers no suite of that name, but {', '.join(sorted(found))}.")
        return found[name]

    def command(self, name: str) -> click.Command:
        """The command that a plugin adds under this name."""
        found: Sequence[click.Command] = self._load(self._point(COMMANDS, name, "")).hook.command()
        if len(found) != 1:
            raise PluginError(f"The plugin {name!r} offers {len(found)} commands where one is expected.")
        return found[0]

    def open_dataset(self, uri: str) -> Iterable[Mapping[str, Any]]:
        """The rows that the first willing dataset plugin gives for a URI."""
        broken = []
        for point in self._find(group=DATASETS):
            try:
                manager = self._load(point)
            except PluginError as error:  # another plugin may still open it
                broken.append(str(error))
                continue
            rows: Iterable[Mapping[str, Any]] | None = manager.hook.open_dataset(uri=uri)
            if rows is not None:
                return rows
        raise DataError(" ".join([f"No installed plugin opens {uri}; install evalkit-hub.", *broken]))

    def is_distribution(self, name: str) -> bool:
        """Whether a distribution of this name brings a backend."""
        return any(_origin(point) == name for point in self._find(group=BACKENDS))

    def versions(self, benchmark: str, *backends: str) -> dict[str, str]:
        """Distribution -> version of what makes a run's numbers: evalkit, the benchmark's plugin, the backends'."""
        found = {"evalkit": version("evalkit")}
        names = [(BACKENDS, backend.rpartition(":")[2]) for backend in backends]
        for group, name in ((BENCHMARKS, benchmark), *names):
            points = (point for point in self._find(group=group) if point.name == name)
            found |= {_origin(point): _metadata(point, "Version") for point in points}
        return found

    def _split(self, group: str, asked: str) -> tuple[str, str, str]:
        """``[dist:]name[:variant]`` in its three parts."""
        names = self.names(group)
        head, _, rest = asked.partition(":")
        if head not in names and rest:
            name, _, variant = rest.partition(":")
            if any(_origin(point) == head for point in self._find(group=group)):
                return head, name, variant
        return "", head, rest

    def _point(self, group: str, name: str, dist: str) -> EntryPoint:
        points = [point for point in self._find(group=group) if point.name == name]
        kind = _KINDS[group]
        if dist:
            points = [point for point in points if _origin(point) == dist]
        if not points:
            raise UnknownName(kind, name, self.names(group), listed="Installed")
        if len({_origin(point) for point in points}) > 1:
            choices = " or ".join(sorted(f"{_origin(point)}:{name}" for point in points))
            raise PluginError(f"More than one distribution brings the {kind} {name!r}; choose {choices}.")
        return points[0]

    def _load(self, point: EntryPoint) -> pluggy.PluginManager:
        key = f"{_origin(point)}:{point.group}:{point.name}"
        if key not in self._loaded:
            label = f"The plugin {point.name!r} of {_origin(point)}"
            self._loaded[key] = _register(point.load, label)
        return self._loaded[key]

    def _load_file(self, path: Path) -> pluggy.PluginManager:
        key = str(path.resolve())
        if key not in self._loaded:
            self._loaded[key] = _register(lambda: _import_file(path), f"The file {path}")
        return self._loaded[key]

    def _of(self, point: EntryPoint) -> list[Made]:
        """The settings of the benchmark that an entry point names; its module may bring others besides."""
        found = [made for made in self._made(self._load(point), point.name) if made[1].name == point.name]
        if not found:
            raise PluginError(f"The plugin {point.name!r} of {_origin(point)} makes no benchmark of that name.")
        return found

    def _made(self, manager: pluggy.PluginManager, name: str) -> list[Made]:
        try:
            made = [(make, make()) for offered in manager.hook.benchmarks() for make in offered]
            if not all(benchmark.headline for _, benchmark in made):
                raise PluginError(f"The plugin {name!r} has a metric without a name.")
            return made
        except EvalkitError:
            raise
        except Exception as error:  # a stranger's code: its fault is reported, not raised
            raise PluginError(f"The plugin {name!r} cannot make its benchmarks: {_first_line(error)}.") from error


def _choose(made: list[Made], asked: str, variant: str) -> MakeBenchmark:
    fitting = [make for make, benchmark in made if variant in (benchmark.variant, benchmark.setting)]
    if len(made) == 1 and not variant:
        return made[0][0]
    if len(fitting) != 1:
        raise UnknownName("setting", asked, [benchmark.setting for _, benchmark in made])
    return fitting[0]


def _origin(point: EntryPoint) -> str:
    return _metadata(point, "Name") or point.value


def _metadata(point: EntryPoint, field: str) -> str:
    """A field of a distribution's metadata; empty for a folder that has none."""
    return point.dist.metadata[field] if point.dist and field in point.dist.metadata else ""


def _register(load: Callable[[], object], label: str) -> pluggy.PluginManager:
    """A manager of its own for each plugin: whatever is wrong with one cannot touch another."""
    manager = pluggy.PluginManager("evalkit")
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(load())
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(f"{label} does not fit evalkit's hooks: {_first_line(error)}.") from error
    except (Exception, SystemExit) as error:  # importing a stranger's module may raise anything
        raise PluginError(f"{label} cannot be imported: {_first_line(error)}.") from error
    return manager


def _import_file(path: Path) -> ModuleType:
    name = f"evalkit_file_{path.stem}"  # a name of its own: riddles.py must not replace an installed module
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"The file {path} is not a Python module.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300].rstrip('.')}"
