"""An example as one HTML page that needs nothing else: no script, no network, no colour to be understood."""

from __future__ import annotations

import json
from html import escape

from trainer.conversation import Message
from trainer.rendering.rendered import Reason
from trainer.rendering.show import Piece, Shown

#: What each reason is called on the page, and what it means.
MEANINGS = {
    Reason.BOS: "the tokenizer's mark of a beginning",
    Reason.MARKER: "what the template writes around messages",
    Reason.SYSTEM: "a system message",
    Reason.USER: "what the user says",
    Reason.ASSISTANT: "what the assistant says",
    Reason.EOS: "the end of what the assistant says",
    Reason.NEWLINE: "what the template writes behind a message",
    Reason.PAD: "padding",
}

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
<h1>{title}</h1>
<dl class="facts">{facts}</dl>
<h2>The row</h2>
<details><summary>{row_summary}</summary><pre>{row}</pre></details>
<h2>The conversation</h2>
{conversation}
<h2>What the model reads</h2>
<p>Every token stands in a box; point at one, and its id, spelling and label stand at the bottom.
<b class="sample">Underlined</b> tokens are learnt: the loss compares them with what the model says.
All others have the label −100.</p>
<table class="legend"><thead><tr><th>Reason</th><th>What it is</th><th>Tokens</th><th>Learnt</th></tr></thead>
<tbody>{legend}</tbody></table>
<div class="runs">{runs}</div>
<h2>Ids and labels</h2>
<details><summary>All {size} tokens in a table</summary>
<table class="ids"><thead>
<tr><th>Place</th><th>Text</th><th>Token</th><th>Reason</th><th>Id</th><th>Label</th></tr>
</thead><tbody>{table}</tbody></table></details>
</main>
</body>
</html>
"""

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --soft: #5b6470; --line: #d5dae1; --card: #f5f7f9;
  --bos: #e4e7eb; --marker: #e4e7eb; --system: #f3e1f5; --user: #dbe9fb; --assistant: #fdeccb; --eos: #fbd3bd;
  --newline: #eceff2; --pad: #eceff2; --learnt: #b04a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7eaee; --paper: #14171b; --soft: #9aa4b1; --line: #353c45;
  --card: #1d2228; --bos: #343b44; --marker: #343b44; --system: #47304b; --user: #1f3a5a; --assistant: #4d3a10;
  --eos: #64321a; --newline: #2a3037; --pad: #2a3037; --learnt: #ffb066; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 6rem; }
h1 { font-size: 1.5rem; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.25rem 0 .6rem; }
p { margin: .5rem 0 1rem; max-width: 46rem; }
pre, .text, code { font: .875rem/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--card); padding: .75rem 1rem;
  border-radius: 6px; }
summary { cursor: pointer; color: var(--soft); }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.25rem; margin: 0; }
.facts dt { color: var(--soft); } .facts dd { margin: 0; overflow-wrap: anywhere; }
.message { display: grid; grid-template-columns: 6.5rem 1fr; gap: 1rem; padding: .5rem 0;
  border-top: 1px solid var(--line); }
.message .role { color: var(--soft); }
.message .text { white-space: pre-wrap; overflow-wrap: anywhere; }
table { border-collapse: collapse; font-size: .9rem; } th { text-align: left; color: var(--soft); font-weight: 500; }
td, th { padding: .2rem .9rem .2rem 0; vertical-align: top; }
.legend { margin-bottom: 1.25rem; }
.legend td:nth-child(n+3), .legend th:nth-child(n+3), .ids td:nth-child(1), .ids td:nth-child(n+5),
.ids th:nth-child(1), .ids th:nth-child(n+5) { text-align: right; font-variant-numeric: tabular-nums; }
.chip { padding: .05rem .45rem; border-radius: 4px; font-size: .8rem; }
.run { display: grid; grid-template-columns: 8.5rem 1fr; gap: 1rem; padding: .1rem 0;
  border-top: 1px solid var(--line); }
.run .label { font-size: .8rem; line-height: 2.05; color: var(--soft); }
.run .label b { color: var(--learnt); font-weight: 600; }
.run .text { line-height: 1.95; overflow-wrap: anywhere; white-space: pre-wrap; }
.t { padding: .12em 0; border-radius: 3px; box-shadow: inset -1px 0 0 var(--paper); }
.learnt .t, .sample { text-decoration: underline; text-decoration-color: var(--learnt); text-decoration-thickness: 2px;
  text-underline-offset: .25em; }
.sample { font-weight: 600; }
.cut { opacity: .45; } .cut .t { text-decoration: line-through; }
.sign { color: var(--soft); }
.t:hover, .t:focus { outline: 2px solid var(--ink); outline-offset: 0; }
.t:hover::after, .t:focus::after { content: attr(data-tip); position: fixed; left: 0; right: 0; bottom: 0; z-index: 2;
  white-space: pre-wrap; background: var(--ink); color: var(--paper); padding: .6rem 1.25rem; text-align: center;
  font: .875rem/1.5 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
""" + "".join(
    f".r-{one.name.lower()} .t, .chip.r-{one.name.lower()} {{ background: var(--{one.name.lower()}); }}\n"
    for one in Reason
)


def page(shown: Shown) -> str:
    """The page of an example; whatever stands in a message is shown and never obeyed."""
    return _PAGE.format(
        title=escape(f"{shown.conversation.id} · {shown.conversation.dataset}"),
        style=_STYLE,
        facts="".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts(shown)),
        row_summary=escape(f"{shown.where}, {len(shown.row):,} characters of JSON"),
        row=escape(json.dumps(json.loads(shown.row), ensure_ascii=False, indent=2)),
        conversation="".join(map(_message, shown.conversation.messages)),
        legend="".join(_legend_row(*one) for one in shown.counts()),
        runs="".join(_run(*one) for one in shown.runs()),
        size=f"{len(shown.rendered.ids):,}",
        table="".join(_table(shown.pieces)),
    )


def facts(shown: Shown) -> list[tuple[str, str]]:
    """What there is to say of an example as a whole, as names and values."""
    counts = shown.counts()
    tokens, learnt = (sum(one[place] for one in counts) for place in (1, 2))
    found = [("Row", shown.where)]
    if shown.raw:
        found.append(("Converted from", ", ".join(shown.raw)))
    found += [
        ("Tokenizer", shown.tokenizer),
        ("Template", shown.template),
        ("Tokens", f"{tokens:,}, of which {learnt:,} are learnt ({learnt / max(tokens, 1):.0%})"),
    ]
    cut = len(shown.rendered.ids) - tokens
    if cut:
        found.append(("Cut off", f"{cut:,} tokens behind the limit of {shown.max_length:,}"))
    if shown.rendered.split:
        found.append(("Split", "encoded in two parts, lest a token reach across the edge of what is learnt"))
    return found


def _legend_row(reason: Reason, tokens: int, learnt: int) -> str:
    name = reason.name.lower()
    return (
        f'<tr><td><span class="chip r-{name}">{name}</span></td><td>{MEANINGS[reason]}</td>'
        f"<td>{tokens:,}</td><td>{learnt:,}</td></tr>"
    )


def _message(message: Message) -> str:
    content = f'<div class="text">{escape(message.content)}</div>'
    return f'<div class="message"><div class="role">{message.role}</div>{content}</div>'


def _run(key: tuple[Reason, bool, bool], pieces: list[Piece]) -> str:
    reason, learnt, cut = key
    classes = " ".join(["run", f"r-{reason.name.lower()}", *(["learnt"] if learnt else []), *(["cut"] if cut else [])])
    note = " cut off" if cut else " <b>learnt</b>" if learnt else ""
    label = f"{reason.name.lower()}{note}"
    tokens = "".join(map(_token, pieces))
    return f'<div class="{classes}"><div class="label">{label}</div><div class="text">{tokens}</div></div>'


def _token(piece: Piece) -> str:
    ids = " ".join(map(str, piece.ids))
    label = "cut off" if piece.cut else "label " + " ".join(map(_label, piece.labels))
    tip = f"id {ids}   token {' '.join(piece.tokens)}   {piece.reason.name.lower()}   {label}"
    return f'<span class="t" tabindex="0" data-tip="{escape(tip)}">{_visible(piece.text)}</span>'


def _label(label: int) -> str:
    return str(label).replace("-", "−")


def _visible(text: str) -> str:
    """A token's text with signs for what has no shape of its own."""
    shown = escape(text).replace("\t", '<span class="sign">→</span>\t').replace("\r", '<span class="sign">␍</span>')
    return shown.replace("\n", '<span class="sign">↵</span>\n') or '<span class="sign">∅</span>'


def _table(pieces: tuple[Piece, ...]) -> list[str]:
    rows = []
    place = 0
    for piece in pieces:
        for nth, (number, token, label) in enumerate(zip(piece.ids, piece.tokens, piece.labels, strict=True)):
            text = f"<code>{_visible(piece.text)}</code>" if nth == 0 else "″"
            rows.append(
                f"<tr><td>{place}</td><td>{text}</td><td><code>{escape(token)}</code></td>"
                f"<td>{'cut off' if piece.cut else piece.reason.name.lower()}</td><td>{number}</td>"
                f"<td>{'' if piece.cut else _label(label)}</td></tr>"
            )
            place += 1
    return rows
