"""The command ``evalkit judge``: have the answers of a finished run judged, or pairs that were made elsewhere."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from evalkit_judge.benchmark import DEFAULT_JUDGE, Orders
from evalkit_judge.forms import Preset

if TYPE_CHECKING:
    from evalkit_judge.gather import Gathered


@click.command(name="ask")
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN_OR_PAIRS")
@click.option(
    "--against", type=click.Path(path_type=Path), metavar="RUN_OR_FILE", help="What to compare the answers with."
)
@click.option("--judge", "judge_model", metavar="MODEL", default=DEFAULT_JUDGE, show_default=True, help="Who judges.")
@click.option(
    "--preset", type=click.Choice(get_args(Preset)), default="pair", show_default=True, help="Form of the prompt."
)
@click.option(
    "--orders", type=click.Choice(get_args(Orders)), help="Show each pair in both orders, or in one by chance."
)
@click.option("--prompts", metavar="PATH", help="Where the preset's published texts are.")
@click.option("--common", is_flag=True, help="Judge the questions that both sides have; the others are left out.")
@click.option("-M", "model_options", multiple=True, metavar="KEY=VALUE", help="Option of the judge's backend.")
@click.option(
    "-B", "bench_options", multiple=True, metavar="KEY=VALUE", help="Option of the judge: order_seed, max_tokens."
)
@click.option("--limit", type=int, metavar="N", help="Ask N prompts in all.")
@click.option("--batch-size", metavar="auto|N", help="Requests that the backend answers together.")
@click.option("--chat", type=click.Choice(["auto", "on", "off"]), help="Render prompts with the chat template.")
@click.option("--chat-template", metavar="FILE|tulu", help="Use this chat template, not the model's own.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    help="Parent of the run folders.",
)
@click.option("--retry-failed", is_flag=True, help="Ask again what failed, unreadable replies included.")
@click.option("--dry-run", is_flag=True, help="Show prompts and token counts; ask nothing.")
@click.option("--allow-failures", is_flag=True, help="Exit 0 even when replies failed.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON and nothing else.")
@click.pass_context
def command(
    ctx: click.Context, /, *, run: Path, against: Path | None, common: bool, as_json: bool, **given: Any
) -> int:
    """Have the answers of a finished run judged by a second model, and print the judge's report.

    RUN_OR_PAIRS is a run of any benchmark with generated answers, a judge's run, which is judged again and compared, or
    a file of pairs; where it holds people's preferences, the judge is calibrated against them. Repeat the command and
    it goes on where it stopped.
    """
    from evalkit import codec
    from evalkit_judge import report, tables

    bench, data = _rows(run, against, given["out"], common=common)
    summaries, code = _asked(ctx, list(_arguments(bench, data, given)), silent=as_json)
    if given["dry_run"]:
        return code
    document = report.report([Path(summary["run"]) for summary in summaries])
    if as_json:
        click.echo(codec.pretty(document))
    else:
        click.echo()
        tables.show(document)
    return code


def _rows(run: Path, against: Path | None, out: Path, *, common: bool) -> tuple[str, Path]:
    """The judge's benchmark, and the folder that its rows are in."""
    from evalkit.errors import EvalkitError
    from evalkit_judge import gather
    from evalkit_judge.verdicts import is_judged

    if not run.is_dir():
        if against is not None:
            raise EvalkitError(f"{run} is a file of pairs, which says itself what is compared; leave --against out.")
        return "judge", _written(gather.of_file(run), out)
    if is_judged(run):
        if against is not None:
            raise EvalkitError(f"{run} is a judge's run; leave --against out to have its pairs judged again.")
        return "judge", _written(gather.judged(run), out)
    own = _own_judge(run)
    if against is not None:
        return own or "judge", _written(gather.against(run, against, common=common), out)
    if not own:
        raise EvalkitError(f"{run} has no outputs to compare its answers with; name some by --against RUN_OR_FILE.")
    return own, run


def _own_judge(run: Path) -> str:
    """The setting in which a run's own benchmark judges its records; empty where it has none."""
    from evalkit.errors import EvalkitError
    from evalkit.plugins import Plugins
    from evalkit.store import RunFolder

    plugins = Plugins()
    asked = str(RunFolder.existing(run).manifest.get("asked", ""))
    try:
        variant = plugins.benchmark(asked)().judged
    except EvalkitError:  # a benchmark that is not installed here, or a run that was imported
        return ""
    return plugins.sibling(asked, variant) if variant else ""


def _written(gathered: Gathered, out: Path) -> Path:
    """The folder with the pairs, named by what they say: the same pairs are the same rows wherever they come from."""
    from evalkit import codec
    from evalkit.errors import EvalkitError
    from evalkit_judge.pairs import ABOUT, PAIRS

    rows = [pair.out() for pair in gathered.pairs]
    folder = out / "pairs" / codec.digest([rows, gathered.about()])[:8]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PAIRS).write_bytes(b"".join(codec.dumps(row) + b"\n" for row in rows))
        (folder / ABOUT).write_bytes(codec.dumps(gathered.about()))
    except OSError as error:
        raise EvalkitError(f"{folder} cannot be written ({error.strerror}); choose another place with --out.") from None
    return folder


def _arguments(bench: str, data: Path, given: Mapping[str, Any]) -> Iterator[str]:
    """The arguments of ``evalkit run`` that ask the judge."""
    yield from ("--model", given["judge_model"], "--bench", bench, "--data", str(data), "--out", str(given["out"]))
    yield from ("-B", f"preset={given['preset']}")
    if given["orders"]:
        yield from ("-B", f"orders={given['orders']}")
    for flag, name in (("-M", "model_options"), ("-B", "bench_options")):
        for text in given[name]:
            yield from (flag, text)
    named = {"--shots-data": "prompts"}
    named |= {f"--{name.replace('_', '-')}": name for name in ("limit", "batch_size", "chat", "chat_template")}
    for flag, name in named.items():
        if given[name] is not None:
            yield from (flag, str(given[name]))
    for name in ("retry_failed", "dry_run", "allow_failures"):
        if given[name]:
            yield f"--{name.replace('_', '-')}"


def _asked(ctx: click.Context, arguments: Sequence[str], *, silent: bool) -> tuple[list[dict[str, Any]], int]:
    """Have ``evalkit run`` do the asking: the summaries and the exit code."""
    root = ctx.find_root().command
    run = root.get_command(ctx, "run") if isinstance(root, click.Group) else None
    if run is None:
        raise click.UsageError("This is a command of evalkit: call it as `evalkit judge`.")
    quiet = contextlib.redirect_stdout(io.StringIO()) if silent else contextlib.nullcontext()
    with quiet, run.make_context("run", [*arguments, *(["--json"] if silent else [])], parent=ctx) as inner:
        code = run.invoke(inner)
    return list(ctx.meta.get("evalkit.summaries", ())), int(code or 0)
