"""``evalkit run``: ask a model the questions of one or more benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from evalkit.cli.asked import Asked
    from evalkit.load import Choice, Model, Wishes
    from evalkit.plugins import Plugins
    from evalkit.selection import Shard


#: Where a command that invokes this one finds the summaries, in the ``meta`` of click's context.
SUMMARIES = "evalkit.summaries"


def _pairs(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{text!r} is not of the form key=value.", ctx=ctx, param=param)
        pairs[key] = value
    return pairs


def _shard(ctx: click.Context, param: click.Parameter, text: str | None) -> Shard | None:
    from evalkit.selection import Shard

    return Shard.read(text) if text is not None else None


@click.command(name="run")
@click.option("-m", "--model", required=True, help="hf:ID_OR_PATH, dummy, …; a bare hub id or path means hf.")
@click.option("-b", "--bench", "benches", multiple=True, help="gsm, gsm:direct, ./file.py; repeatable.")
@click.option("--suite", metavar="NAME", help="A named list of benchmarks with an average: tulu, tulu-full.")
@click.option("--judge", metavar="MODEL", help="Has open-ended answers judged by this model in a second run.")
@click.option("-M", "model_options", multiple=True, metavar="KEY=VALUE", callback=_pairs, help="Option of the backend.")
@click.option(
    "-B", "bench_options", multiple=True, metavar="KEY=VALUE", callback=_pairs, help="Option of the benchmark."
)
@click.option(
    "--data",
    metavar="PATH",
    envvar="EVALKIT_DATA",
    show_envvar=True,
    help="The publisher's file, or a folder or archive that holds it; 'sample' for made-up rows.",
)
@click.option("--shots-data", metavar="PATH", help="Where the published shots are, when not in --data.")
@click.option("--shots", type=click.IntRange(min=0), metavar="N", help="Solved examples in each prompt.")
@click.option("--limit", type=int, metavar="N", help="Ask N examples in all, taken from the subsets in turn.")
@click.option("--draw", type=click.IntRange(min=1), metavar="N", help="Draw N examples at random from each subset.")
@click.option(
    "--subset",
    "subsets",
    multiple=True,
    metavar="NAME",
    help="Only this subset, where there is one of that name; repeatable.",
)
@click.option("--seed", type=int, default=42, show_default=True, help="For sampled answers and drawn shots.")
@click.option(
    "--chat",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    show_default=True,
    help="Render prompts with the chat template; auto: when there is one.",
)
@click.option("--chat-template", metavar="FILE|tulu", help="Use this chat template, not the model's own.")
@click.option("--batch-size", metavar="auto|N", help="Requests that the backend answers together.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    help="Parent of the run folders.",
)
@click.option("--resume", type=click.Path(path_type=Path), metavar="DIR", help="Go on in this run folder and no other.")
@click.option(
    "--shard",
    metavar="I/N",
    callback=_shard,
    help="Ask the Ith of N shares, from 0/N on; the last process to end scores the run.",
)
@click.option("--retry-failed", is_flag=True, help="Ask again what failed before.")
@click.option("--dry-run", is_flag=True, help="Show prompts and what may go wrong, with remedies; ask nothing.")
@click.option("--unsafe-code", is_flag=True, help="Run code without a sandbox, too (with EVALKIT_UNSAFE_CODE=yes).")
@click.option("--allow-failures", is_flag=True, help="Exit 0 even when responses failed.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON and nothing else.")
def command(**given: Any) -> int:
    """Ask a model benchmark questions and score its answers.

    Repeat a command and it goes on where it stopped: nothing is asked twice.
    """
    from contextlib import ExitStack, closing

    from evalkit.cli import asked
    from evalkit.plugins import Plugins

    plugins = Plugins()
    wanted = asked.read(plugins, given)
    with ExitStack() as stack:
        for model in filter(None, (wanted.model, wanted.judge)):
            stack.enter_context(closing(model.backend))
        if given["dry_run"]:
            return _dry_run(plugins, wanted, as_json=given["as_json"])
        return _run(plugins, wanted, given)


def _run(plugins: Plugins, wanted: Asked, given: dict[str, Any]) -> int:
    from evalkit.cli import progress, shown
    from evalkit.errors import SharesMissing
    from evalkit.run import check, run

    watch = progress.watch(silent=given["as_json"])
    if given["model"] == wanted.model.name:
        watch.say(f"Backend: {wanted.model.backend_name} (write {wanted.model.label} to say so yourself).")

    def finished(choice: Choice, model: Model, wishes: Wishes) -> dict[str, Any]:
        versions = plugins.versions(choice.benchmark.name, model.backend_name, model.bound.backend_name)
        return run(choice, model, wishes, open_dataset=plugins.open_dataset, versions=versions, watch=watch)

    for choice, wishes in wanted.runs if len(wanted.runs) > 1 else ():
        check(choice, wanted.model, wishes, open_dataset=plugins.open_dataset)
    summaries, headlines, waiting = [], [], []
    for choice, wishes in wanted.runs:
        try:
            summaries.append(finished(choice, wanted.model, wishes))
            second = wanted.judgement(plugins, choice, wishes, summaries[-1]["run"])
            if second is not None and wanted.judge is not None:
                summaries.append(finished(second[0], wanted.judge, second[1]))
            headlines.append(summaries[-1])
        except SharesMissing as missing:
            waiting.append(missing)
    click.get_current_context().meta[SUMMARIES] = summaries
    if summaries or given["as_json"]:
        suite = None if waiting else wanted.suite
        shown.summaries(summaries, as_json=given["as_json"], suite=suite, headlines=headlines)
    if waiting:
        raise SharesMissing("\n".join(map(str, waiting)))
    failed = sum(summary["failed"] for summary in summaries)
    if failed and not given["allow_failures"]:
        watch.say(f"{failed} responses failed: `evalkit show RUN --failed` tells why, --retry-failed asks them again.")
        return 3
    return 0


def _dry_run(plugins: Plugins, wanted: Asked, *, as_json: bool) -> int:
    from evalkit import doctor
    from evalkit.cli import shown
    from evalkit.errors import EvalkitError
    from evalkit.load import load

    previews = []
    for choice, wishes in wanted.runs:
        try:
            loaded = load(choice, wanted.model, wishes, open_dataset=plugins.open_dataset)
            found = doctor.examine(loaded.share(wishes.shard), wishes, judge=wanted.judge)
        except EvalkitError as error:
            if len(wanted.runs) == 1:
                raise
            # What is wrong with one benchmark must not hide what is wrong with the next.
            previews.append(shown.no_preview(choice, wanted.model, doctor.fault(error)))
        else:
            previews.append(shown.preview(found))
    shown.previews(previews, as_json=as_json)
    return int(any(finding["level"] == "error" for preview in previews for finding in preview["findings"]))
