"""Unique tokens against win rate, a point a run: as text for the terminal, and as an SVG file."""

from __future__ import annotations

import html
import string
from collections.abc import Mapping, Sequence
from typing import Any

_WIDTH, _HEIGHT = 60, 16
#: Of the SVG's plot, in pixels.
_WIDE, _HIGH, _LEFT, _TOP = 560, 360, 64, 40
_LETTERS = string.ascii_letters


def terminal(correlation: Mapping[str, Any], *, counted: str) -> str:
    """The plot in characters; points are letters, which the lines below explain, ``*`` where several fall together."""
    points = correlation["points"]
    (left, right), (low, high) = _range(points, "unique"), _range(points, "win_rate")
    grid = [[" "] * _WIDTH for _ in range(_HEIGHT)]
    for number, point in enumerate(points):
        column = round((point["unique"] - left) / (right - left) * (_WIDTH - 1))
        line = _HEIGHT - 1 - round((point["win_rate"] - low) / (high - low) * (_HEIGHT - 1))
        grid[line][column] = _name(number) if grid[line][column] == " " else "*"
    lines = [
        f"{100 * (high - (high - low) * row / (_HEIGHT - 1)):6.1f} %│{''.join(cells)}" for row, cells in enumerate(grid)
    ]
    lines.append(f"{' ' * 8}└{'─' * _WIDTH}")
    lines.append(f"{' ' * 9}{left:<{_WIDTH // 2}.1f}{right:>{_WIDTH - _WIDTH // 2}.1f}")
    lines.append(f"{' ' * 9}{f'mean {counted} of an output':^{_WIDTH}}".rstrip())
    lines += [
        f"{_name(number)}  {point['model']}: {point['unique']:.1f}, {100 * point['win_rate']:.1f} %"
        for number, point in enumerate(points)
    ]
    return "\n".join([*lines, caption(correlation)])


def caption(correlation: Mapping[str, Any]) -> str:
    """Pearson's r with its interval."""
    r, n = correlation["r"], len(correlation["points"])
    if r is None:
        return "Pearson's r cannot be told: all runs have the same win rate, or as many unique tokens."
    if r["low"] is None:
        return f"Pearson's r = {r['value']:.2f} over {n} runs, too few for an interval."
    return (
        f"Pearson's r = {r['value']:.2f} [{r['low']:.2f}, {r['high']:.2f}] over {n} runs (95 % interval by Fisher's z)."
    )


def svg(correlation: Mapping[str, Any], *, counted: str) -> str:
    """The plot as a picture of its own, with the models' names at their points."""
    points = correlation["points"]
    (left, right), (low, high) = _range(points, "unique"), _range(points, "win_rate")
    whole = f"{_LEFT + _WIDE + 40} {_TOP + _HIGH + 64}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole}" font-family="sans-serif" font-size="12">',
        f'<rect width="100%" height="100%" fill="white"/><text x="{_LEFT}" y="24">{_text(caption(correlation))}</text>',
        f'<rect x="{_LEFT}" y="{_TOP}" width="{_WIDE}" height="{_HIGH}" fill="none" stroke="#888"/>',
    ]
    for step in range(5):
        share = step / 4
        x, y = _LEFT + _WIDE * share, _TOP + _HIGH * (1 - share)
        tokens, rate = left + (right - left) * share, 100 * (low + (high - low) * share)
        parts.append(f'<text x="{x:.1f}" y="{_TOP + _HIGH + 18}" text-anchor="middle">{tokens:.1f}</text>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{rate:.0f} %</text>')
    for point in points:
        x = _LEFT + (point["unique"] - left) / (right - left) * _WIDE
        y = _TOP + _HIGH - (point["win_rate"] - low) / (high - low) * _HIGH
        side, anchor = (-7, "end") if x > _LEFT + _WIDE / 2 else (7, "start")
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#1f5fa8"/>')
        parts.append(f'<text x="{x + side:.1f}" y="{y - 6:.1f}" text-anchor="{anchor}">{_text(point["model"])}</text>')
    label = _text(f"mean {counted} of an output")
    parts.append(f'<text x="{_LEFT + _WIDE / 2}" y="{_TOP + _HIGH + 44}" text-anchor="middle">{label}</text>')
    middle = _TOP + _HIGH / 2
    parts.append(f'<text x="16" y="{middle}" text-anchor="middle" transform="rotate(-90 16 {middle})">win rate</text>')
    return "\n".join([*parts, "</svg>", ""])


def _range(points: Sequence[Mapping[str, Any]], name: str) -> tuple[float, float]:
    """From the least to the most, with a little room on both sides."""
    values = [float(point[name]) for point in points]
    room = (max(values) - min(values)) * 0.08 or max(abs(values[0]) * 0.08, 0.01)
    return min(values) - room, max(values) + room


def _name(number: int) -> str:
    return _LETTERS[number % len(_LETTERS)]


def _text(text: str) -> str:
    return html.escape("".join(char for char in text if char.isprintable()))
