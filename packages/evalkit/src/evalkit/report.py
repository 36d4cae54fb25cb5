"""Summaries as JSON and as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evalkit.benchmark import Benchmark
from evalkit.types import Estimate, Part, Summary

if TYPE_CHECKING:
    from rich.table import Table

    from evalkit.suite import Suite


def summary_out(summary: Summary, *, run: str, verified: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON form of a summary, as ``summary.json`` and ``--json`` give it; fractions, not percentages.

    ``verified`` tells how answers were verified; it is left out where nothing was.
    """
    return {
        "benchmark": summary.benchmark,
        "setting": summary.setting,
        "model": summary.model,
        "n": summary.n,
        "unanswered": summary.unanswered,
        "failed": summary.failed,
        "metrics": _metrics_out(summary.metrics),
        "bounds": {name: list(bounds) for name, bounds in summary.bounds.items()},
        "subsets": _parts_out(summary.subsets),
        "groups": {name: _parts_out(parts) for name, parts in summary.groups.items() if parts},
        "notes": list(summary.notes),
        "requests": summary.requests,
        "run": run,
        **({"verified": dict(verified)} if verified else {}),
    }


def notes(manifest: Mapping[str, Any], benchmark: Benchmark[Any], *, answered: int) -> Iterator[str]:
    """What a reader of the numbers must know to not misread them."""
    binds = manifest["binds"]
    if binds["data"] == "sample":
        yield "made-up sample rows, not the benchmark: no result"
    if answered < manifest["total"]:
        yield f"{answered} of {manifest['total']} examples"
    if binds["shots"]["number"] and binds["shots"]["origin"] == "own":
        yield "shots: own (the published ones were not given)"
    elif binds["shots"]["origin"] not in ("own", "published"):
        yield binds["shots"]["origin"]
    if "judge" in manifest:
        yield f"judged by {manifest['judge']}"
        if manifest.get("unjudged"):
            yield f"{manifest['unjudged']} answers of the judged run had failed; they are not judged"
    yield from manifest.get("notes", ())
    if binds["version"] != benchmark.version:
        yield f"asked by version {binds['version']} of the benchmark, scored by version {benchmark.version}"


def results(summaries: Sequence[Mapping[str, Any]]) -> Table:
    """The table of runs: a row a metric."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("benchmark", "setting", "model"):
        table.add_column(name, overflow="fold")
    for name in ("n", "metric", "value ± stderr", "unanswered", "failed"):
        table.add_column(name, justify="left" if name == "metric" else "right", no_wrap=True)
    for summary in summaries:
        counts = (str(summary["unanswered"]), str(summary["failed"]))
        first = (summary["benchmark"], summary["setting"], summary["model"], str(summary["n"]))
        if not summary["metrics"]:
            table.add_row(*first, "-", "nothing scored", *counts)
        for number, (metric, estimate) in enumerate(summary["metrics"].items()):
            shown = percent(estimate) + _bounds(summary["bounds"].get(metric))
            table.add_row(*(first if not number else ("",) * 4), metric, shown, *(counts if not number else ("", "")))
    return table


def suite_out(suite: Suite, summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The JSON form of a suite's average, the last element of its list; ``summaries`` are its entries' in order."""
    average = suite.average(summaries)
    return {
        "benchmark": "suite",
        "setting": suite.name,
        "model": summaries[0]["model"],
        **{count: sum(summary[count] for summary in summaries) for count in ("n", "unanswered", "failed")},
        "metrics": _metrics_out({"average": average} if average else {}),
        "bounds": {},
        "subsets": {},
        "groups": {},
        "notes": [],
        "requests": "",
        "run": "",
    }


def suite_row(suite: Suite, summaries: Sequence[Mapping[str, Any]]) -> Table:
    """A suite as the row of a paper's table: a column an entry, the average last."""
    from rich.table import Table

    table = Table("model", box=None, pad_edge=False)
    cells = [summaries[0]["model"]]
    for entry, summary in zip(suite.entries, summaries, strict=True):
        # What must not be held beside others' numbers says so where it would be: in the column.
        remark = [note.partition(",")[0] for note in summary["notes"] if note.startswith("not comparable")]
        table.add_column(", ".join([entry.setting, *remark]), justify="right", overflow="fold")
        metric = next(iter(summary["metrics"].values()), None)
        cells.append("-" if metric is None else f"{100 * metric['value']:.1f}")
    average = suite.average(summaries)
    table.add_column("average", justify="right")
    table.add_row(*cells, "-" if average is None else f"{100 * average.value:.1f} ± {100 * (average.stderr or 0):.1f}")
    return table


def parts(summary: Mapping[str, Any]) -> Iterator[Table]:
    """The tables of a run's groups and subsets, where it has any."""
    from rich.table import Table

    for title, members in (*summary["groups"].items(), ("subset", summary["subsets"])):
        if not members:
            continue
        metrics = list(next(iter(members.values()))["metrics"])
        table = Table(title, box=None, pad_edge=False)
        for name in ("n", *metrics):
            table.add_column(name, justify="right")
        for name, part in members.items():
            table.add_row(name, str(part["n"]), *(percent(part["metrics"][metric]) for metric in metrics))
        yield table


def percent(estimate: Mapping[str, float | None]) -> str:
    """``24.6 % ± 1.2``; an extreme proportion shows its interval, since its standard error says too little."""
    value, stderr = estimate["value"] or 0.0, estimate["stderr"]
    if stderr is None:
        return f"{value:.1%}".replace("%", " %")
    if value in (0.0, 1.0) and estimate["low"] is not None and estimate["high"] is not None:
        return f"{100 * value:.1f} % [{100 * estimate['low']:.1f}, {100 * estimate['high']:.1f}]"
    return f"{100 * value:.1f} % ± {100 * stderr:.1f}"


def _bounds(bounds: Sequence[float] | None) -> str:
    return f" (worst {100 * bounds[0]:.1f}, best {100 * bounds[1]:.1f})" if bounds else ""


def _metrics_out(metrics: Mapping[str, Estimate]) -> dict[str, Any]:
    return {
        name: {"value": one.value, "stderr": one.stderr, "low": one.low, "high": one.high}
        for name, one in metrics.items()
    }


def _parts_out(parts: Mapping[str, Part]) -> dict[str, Any]:
    return {name: {"n": part.n, "metrics": _metrics_out(part.metrics)} for name, part in parts.items()}
