"""A second model as judge of open-ended answers, and a report that says whether to believe it.

``benchmark`` makes the judge, ``pairs`` what it is shown, ``report`` what became of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from evalkit import Benchmark, hookimpl
from evalkit_judge.benchmark import DEFAULT_JUDGE, NOT_COMPARABLE, judge, make
from evalkit_judge.pairs import Pair

if TYPE_CHECKING:
    import click

__all__ = ["DEFAULT_JUDGE", "NOT_COMPARABLE", "Pair", "judge", "make"]


@hookimpl
def benchmarks() -> Sequence[Callable[..., Benchmark[Any]]]:
    """Offer the judge."""
    return [judge]


@hookimpl
def command() -> click.Command:
    """Offer the command ``judge``."""
    from evalkit_judge.commands import judging

    return judging
