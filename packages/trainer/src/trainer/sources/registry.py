"""Finds a source by its name: one of the paper's twelve, or one that an installed plugin brings.

The twelve are the modules beside this one, found by their file's name. Others are entry points of the group
``trainer.sources``, named like the source; their module offers the hook ``sources``. A module is imported only when
its source is asked for, so that a broken plugin stops nobody who does without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

import pluggy

from trainer import hookspecs
from trainer.errors import PluginError, TrainerError, UnknownName
from trainer.sources import Source

GROUP = "trainer.sources"
#: In the order of the paper's Table 1.
TWELVE = (
    "super_ni",
    "cot",
    "flan_v2",
    "dolly",
    "oasst1",
    "self_instruct",
    "unnatural_instructions",
    "alpaca",
    "code_alpaca",
    "gpt4_alpaca",
    "baize",
    "sharegpt",
)

#: Finds the entry points of a group.
Find = Callable[..., Iterable[EntryPoint]]


def names(find_points: Find = entry_points) -> list[str]:
    """The twelve in the paper's order, then the names that plugins bring, sorted."""
    return [*TWELVE, *sorted({point.name for point in find_points(group=GROUP)} - set(TWELVE))]


def find(name: str, find_points: Find = entry_points) -> Source:
    """The source that ``dolly`` or ``distribution:dolly`` names.

    Raises UnknownName for a name that nothing bears, and PluginError where two distributions bear it or its plugin
    cannot give it.
    """
    origin, _, plain = name.rpartition(":")
    offers: dict[str, EntryPoint | None] = {"trainer": None} if plain in TWELVE else {}
    offers |= {_origin(point): point for point in find_points(group=GROUP) if point.name == plain}
    if origin:
        offers = {key: point for key, point in offers.items() if key == origin}
    if not offers:
        raise UnknownName("source", name, names(find_points))
    if len(offers) > 1:
        choices = " or ".join(f"{key}:{plain}" for key in sorted(offers))
        raise PluginError(f"More than one distribution brings the source {plain!r}; choose {choices}.")
    ((origin, point),) = offers.items()
    return _loaded(point, origin) if point else _own(plain)


def chosen(asked: Sequence[str], find_points: Find = entry_points) -> list[Source | TrainerError]:
    """The sources of these names; of none, all that there are, and for one that cannot be had the reason.

    Raises as ``find`` does for a name that was asked for.
    """
    if asked:
        return [find(name, find_points) for name in asked]
    found: list[Source | TrainerError] = []
    for name in names(find_points):
        try:
            found.append(find(name, find_points))
        except TrainerError as error:
            found.append(error)
    return found


def _own(name: str) -> Source:
    source: Source = import_module(f"trainer.sources.{name}").SOURCE
    return source


def _loaded(point: EntryPoint, origin: str) -> Source:
    """What a plugin brings under its entry point's name; whatever goes wrong in it is a PluginError."""
    label = f"The plugin {point.name!r} of {origin}"
    manager = pluggy.PluginManager("trainer")  # one of its own, so that its faults touch no other plugin
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(point.load())
        manager.check_pending()
        offered = [source for sources in manager.hook.sources() for source in sources]
    except pluggy.PluginValidationError as error:
        raise PluginError(f"{label} does not fit trainer's hooks: {_line(error)}.") from error
    except (Exception, SystemExit) as error:  # a stranger's code may raise anything
        raise PluginError(f"{label} cannot be imported: {_line(error)}.") from error
    found = [source for source in offered if isinstance(source, Source) and source.name == point.name]
    if len(found) != 1:
        raise PluginError(f"{label} brings {len(found)} sources of that name where one is expected.")
    return found[0]


def _origin(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300].rstrip('.')}"
