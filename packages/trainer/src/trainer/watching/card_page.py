"""What a run card looks like: its page, its style, light and dark, and the parts that sections are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{content}
</main>
</body>
</html>
"""

#: Eight colours that differ in lightness too, for who does not tell all hues apart; one set on white, one on black.
_LIGHT = ("#0a66c2", "#c4520a", "#0b7f5c", "#a3278f", "#8a6d00", "#5b4bc4", "#0f8aa3", "#b3243c")
_DARK = ("#6cb2ff", "#ff9a57", "#4fd1a5", "#ee86dc", "#e3c24d", "#aa9cff", "#5fd3ea", "#ff8496")

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --soft: #5b6470; --line: #e3e7ec; --card: #f5f7f9;
  --bad: #b3243c; --good: #0b7f5c; LIGHT }
@media (prefers-color-scheme: dark) { :root { --ink: #e7eaee; --paper: #14171b; --soft: #9aa4b1; --line: #2b3138;
  --card: #1d2228; --bad: #ff8496; --good: #4fd1a5; DARK } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2rem 1.25rem 5rem; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.5rem 0 .75rem; }
h3 { font-size: .95rem; margin: 1.5rem 0 .4rem; }
p { margin: .4rem 0; max-width: 50rem; overflow-wrap: anywhere; }
.soft { color: var(--soft); } .bad { color: var(--bad); } .good { color: var(--good); }
.alarm { border-left: 3px solid var(--bad); background: var(--card); padding: .6rem .9rem; margin: 1rem 0; }
code, pre { font: .84rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(14.5rem, 1fr)); gap: .6rem; margin: 1.25rem 0; }
.tile { background: var(--card); border-radius: 8px; padding: .65rem .85rem; overflow-wrap: anywhere; }
.tile dt { color: var(--soft); font-size: .82rem; }
.tile dd { margin: 0; font-size: 1.2rem; font-variant-numeric: tabular-nums; }
.tile dd small { display: block; font-size: .82rem; color: var(--soft); }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); gap: 1.5rem 1.25rem; }
figure { margin: 0; min-width: 0; } figcaption span { color: var(--soft); font-size: .85rem; }
figure svg { display: block; width: 100%; height: auto; margin-top: .3rem; }
.axes path { stroke: var(--line); fill: none; }
.axes text { fill: var(--soft); font-size: 12px; text-anchor: end; }
.axes text.step { text-anchor: middle; }
.lines path, .legend path { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.lines .faint { stroke-width: 1; opacity: .32; }
.lines circle { stroke: none; }
.resumed { stroke: var(--soft); stroke-dasharray: 1 4; fill: none; }
.limit { stroke: var(--soft); stroke-dasharray: 6 4; fill: none; }
.skipped { stroke: var(--bad); stroke-width: 2; }
.strips rect { fill: transparent; } .strips rect:hover { fill: var(--ink); fill-opacity: .08; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; list-style: none; margin: .25rem 0 0; padding: 0;
  font-size: .85rem; overflow-wrap: anywhere; }
.legend svg { display: inline-block; width: 22px; height: 8px; margin: 0 .4rem .1rem 0; vertical-align: middle; }
.legend span { color: var(--soft); font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; }
th { text-align: left; color: var(--soft); font-weight: 500; border-bottom: 1px solid var(--line); }
td, th { padding: .25rem 1.1rem .25rem 0; vertical-align: top; }
td { overflow-wrap: break-word; max-width: 38rem; } tr.total td { border-top: 1px solid var(--line); }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.25rem; margin: .3rem 0;
  font-size: .9rem; }
.facts dt { color: var(--soft); } .facts dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
details { margin: .5rem 0; } summary { cursor: pointer; color: var(--soft); }
@media print { .curves { grid-template-columns: 1fr 1fr; } figure { break-inside: avoid; } }
"""


def page(title: str, content: str) -> str:
    """A page of its own: no script, nothing that it loads."""
    light, dark = (" ".join(f"--c{place}: {one};" for place, one in enumerate(each)) for each in (_LIGHT, _DARK))
    colours = "".join(
        f"path.c{place} {{ stroke: var(--c{place}); }} circle.c{place} {{ fill: var(--c{place}); }}\n"
        for place in range(len(_LIGHT))
    )
    dashes = "path.d1 { stroke-dasharray: 5 3; } path.d2 { stroke-dasharray: 2 2; }\n"
    style = _STYLE.replace("LIGHT", light).replace("DARK", dark) + colours + dashes
    return _PAGE.format(title=escape(title), style=style, content=content)


def tiles(entries: Iterable[tuple[str, str, str]]) -> str:
    """Numbers at a glance: name, number and what is to be said of it."""
    shown = (
        f'<div class="tile"><dt>{escape(name)}</dt><dd>{escape(number)}<small>{escape(more)}</small></dd></div>'
        for name, number, more in entries
    )
    return f'<dl class="tiles">{"".join(shown)}</dl>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Iterable[int] = (), last: str = "") -> str:
    """A table of texts; columns of ``numbers`` are set right, and the last row looks as told."""
    right = set(numbers)

    def cells(row: Sequence[str], tag: str) -> str:
        looks = (' class="n"' if place in right else "" for place in range(len(row)))
        return "".join(f"<{tag}{look}>{escape(text)}</{tag}>" for look, text in zip(looks, row, strict=True))

    body = [f"<tr>{cells(row, 'td')}</tr>" for row in rows]
    if last and body:
        body[-1] = body[-1].replace("<tr>", f'<tr class="{last}">', 1)
    top = f"<thead><tr>{cells(head, 'th')}</tr></thead>"
    return f'<div class="wide"><table>{top}<tbody>{"".join(body)}</tbody></table></div>'


def facts(entries: Iterable[tuple[str, object]]) -> str:
    """Names and texts beside them."""
    shown = (f"<dt>{escape(name)}</dt><dd>{escape(str(text))}</dd>" for name, text in entries)
    return f'<dl class="facts">{"".join(shown)}</dl>'


def folded(summary: str, content: str) -> str:
    """What is shown when its summary is clicked."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"
