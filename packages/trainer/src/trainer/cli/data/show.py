"""``trainer data show``: one example from its row to its labels, in the terminal or as an HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainer.cli import options
from trainer.errors import TrainerError

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from trainer.rendering.show import Shown

#: Of each reason; learnt tokens are underlined besides, so that colour is not needed.
STYLES = {
    "bos": "dim",
    "marker": "dim",
    "system": "magenta",
    "user": "blue",
    "assistant": "yellow",
    "eos": "bold red",
    "newline": "dim",
    "pad": "dim",
}


@click.command("show")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("which", metavar="ID|N")
@options.tokenizer
@options.template
@options.max_length
@click.option("--tokens", is_flag=True, help="List every token with its id, reason and label.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write one self-contained page instead.")
def command(
    *, file: Path, which: str, tokenizer: str, template: str, max_length: int, tokens: bool, html: Path | None
) -> None:
    """Show what becomes of one conversation of FILE: the row with this id, or on line N."""
    from trainer.rendering import render
    from trainer.rendering.show import show

    shown = show(file, which, render.load(tokenizer, template=template), max_length=max_length)
    if html is not None:
        _write(html, shown)
        return
    from rich.console import Console

    console = Console(highlight=False)
    for part in _parts(shown, tokens=tokens, styled=console.is_terminal and not console.no_color):
        console.print(part, soft_wrap=True)


def _write(html: Path, shown: Shown) -> None:
    from trainer.rendering.page import page

    try:
        html.write_text(page(shown), encoding="utf-8")
    except OSError as error:
        raise TrainerError(f"{html} cannot be written: {error.strerror}.") from None
    click.echo(f"Wrote {html}.")


def _parts(shown: Shown, *, tokens: bool, styled: bool) -> list[Text | Table | str]:
    from trainer.rendering.page import facts

    names = [(f"{name}:", value) for name, value in facts(shown)]
    head = "\n".join(f"{name:<15} {value}" for name, value in names)
    found: list[Text | Table | str] = [_plain(f"{shown.conversation.id} · {shown.conversation.dataset}\n{head}\n")]
    found += [_text(shown, styled=styled), "", _legend(shown, "learnt (underlined)" if styled else "learnt (⟦so⟧)")]
    if tokens:
        found += ["", _tokens(shown)]
    return found


def _plain(text: str) -> Text:
    from rich.text import Text

    return Text(text)


def _text(shown: Shown, *, styled: bool) -> Text:
    """The text that the model reads, coloured by reason, what is learnt underlined, what is cut struck through.

    Where there are no styles, brackets stand around what is learnt, and what is cut is left out.
    """
    from rich.text import Text

    text = Text()
    for (reason, learnt, cut), pieces in shown.runs():
        style = STYLES[reason.name.lower()] + (" underline" if learnt else "") + (" strike" if cut else "")
        run = "".join(one.text for one in pieces).replace("\n", "↵\n")
        if styled:
            text.append(run, style)
        elif not cut:
            text.append(f"⟦{run}⟧" if learnt else run)
    return text


def _legend(shown: Shown, learnt_name: str) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("reason", "tokens", learnt_name):
        table.add_column(name, justify="left" if name == "reason" else "right")
    for reason, count, learnt in shown.counts():
        name = reason.name.lower()
        table.add_row(Text(name, STYLES[name]), f"{count:,}", f"{learnt:,}")
    return table


def _tokens(shown: Shown) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("place", "id", "label", "reason", "token"):
        table.add_column(name, justify="right" if name in {"place", "id", "label"} else "left")
    place = 0
    for piece in shown.pieces:
        name = piece.reason.name.lower()
        for number, token, label in zip(piece.ids, piece.tokens, piece.labels, strict=True):
            reason = Text("cut off" if piece.cut else name, STYLES[name])
            table.add_row(str(place), str(number), "" if piece.cut else str(label), reason, Text(repr(token)[1:-1]))
            place += 1
    return table
