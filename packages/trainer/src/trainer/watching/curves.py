"""Curves as SVG that stands in a page: no script, its colours from the page's style, its numbers in tooltips."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TypeAlias

Point: TypeAlias = tuple[int, float | None]

WIDTH, HEIGHT = 560, 230
LEFT, RIGHT, TOP, BOTTOM = 56, 20, 10, 28
#: Points that a line has at most; of more, the smallest and largest of each stretch stay.
MOST = 600
#: Stretches of a chart that show their numbers when pointed at.
STRIPS = 80
#: Colours of the style; series behind the last of them are dashed.
COLOURS = 8
#: Steps from which on a noisy curve is drawn faintly, with its running median above it.
NOISY = 40
#: Curves in a chart of which each has room for both.
ROOMY = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A curve; points without a value are gaps."""

    name: str
    points: Sequence[Point]
    #: Its place among the colours of the style.
    colour: int
    #: Drawn faintly behind its running median.
    noisy: bool = False
    #: Drawn with its points, as what is measured only now and then.
    dots: bool = False

    @property
    def smoothed(self) -> bool:
        """Whether there is enough of it for a running median."""
        return self.noisy and len(self.points) >= NOISY


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Curves over the steps of a run that share an axis."""

    title: str
    series: Sequence[Series]
    note: str = ""
    #: Steps behind which the run was resumed.
    resumed: Sequence[int] = ()
    #: Steps that were skipped, marked at the bottom.
    skipped: Sequence[int] = ()
    #: A value marked by a line across, and what it is called.
    limit: tuple[float, str] | None = None
    #: Whether the axis begins at 0.
    zero: bool = False
    #: How a value is written.
    form: str = ".4g"
    drawn: Sequence[Series] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "drawn", [one for one in self.series if any(y is not None for _, y in one.points)])

    @property
    def crowded(self) -> bool:
        """Whether noisy curves are drawn without their noise."""
        return len(self.drawn) > ROOMY


def figure(chart: Chart) -> str:
    """A chart with its title and legend; nothing where it has no points."""
    if not chart.drawn:
        return ""
    title = f"<figcaption><b>{escape(chart.title)}</b>"
    note = f" <span>{escape(chart.note)}</span>" if chart.note else ""
    legend = _legend(chart) if len(chart.drawn) > 1 else ""
    return f"<figure>{title}{note}</figcaption>{svg(chart)}{legend}</figure>"


def svg(chart: Chart) -> str:
    """The chart itself, as wide as its place."""
    frame = _Frame.of(chart)
    lines = "".join(_line(one, frame, alone=chart.crowded) for one in chart.drawn)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)}">'
        f'<g class="axes">{_axes(frame)}</g>{_marks(chart, frame)}<g class="lines">{lines}</g>'
        f'<g class="strips">{"".join(_strips(chart, frame))}</g></svg>'
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """Where values stand in the picture."""

    first: int
    last: int
    low: float
    high: float

    @classmethod
    def of(cls, chart: Chart) -> _Frame:
        steps = [x for one in chart.drawn for x, _ in one.points]
        seen = (smooth(one.points) if one.smoothed and chart.crowded else one.points for one in chart.drawn)
        values = sorted(y for points in seen for _, y in points if y is not None)
        low, high = (0.0 if chart.zero else values[0]), values[-1]
        # One spike must not press all else to the ground: it leaves the frame instead, and the tooltips still know it.
        usual = values[math.ceil(0.98 * len(values)) - 1]
        if len(values) > 50 and high - low > 3 * (usual - low) > 0:
            high = low + 1.5 * (usual - low)
        if high <= low:
            low, high = (low - abs(low) * 0.1, high + abs(high) * 0.1) if low else (0.0, 1.0)
        margin = 0.05 * (high - low)
        return cls(
            first=min(steps),
            last=max(steps),
            low=low if chart.zero or 0 <= low < margin else low - margin,
            high=high + margin,
        )

    def x(self, step: float) -> float:
        share = (step - self.first) / (self.last - self.first) if self.last > self.first else 0.5
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(HEIGHT - BOTTOM - min(max(share, -0.02), 1.02) * (HEIGHT - TOP - BOTTOM), 1)


def smooth(points: Sequence[Point], most: int = MOST // 2) -> list[Point]:
    """The running median of a curve over a thirtieth of it, both ways, hence without lag and blind to single spikes."""
    known = [(x, y) for x, y in points if y is not None]
    reach = max(len(known) // 60, 2)
    size = math.ceil(len(known) / most)
    # The last place belongs to it too: where a curve ends is what one looks for.
    places = sorted({*range(0, len(known), size), len(known) - 1}) if known else []
    return [
        (known[place][0], statistics.median(y for _, y in known[max(place - reach, 0) : place + reach + 1]))
        for place in places
    ]


def thin(points: Sequence[Point], most: int = MOST) -> list[Point]:
    """At most about so many points, among them the smallest and the largest of each stretch, and the gaps."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(2 * len(points) / most)
    found: list[Point] = []
    for start in range(0, len(points), size):
        stretch = points[start : start + size]
        known = [(y, x) for x, y in stretch if y is not None]
        chosen: set[Point] = {(x, y) for y, x in (min(known), max(known))} if known else set()
        chosen |= set([point for point in stretch if point[1] is None][:1])
        found += sorted(chosen, key=lambda point: point[0])
    return found


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between two others, about so many: a step of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    size = next(power * times for times in (1, 2, 5, 10) if power * times >= rough * 0.999)
    first = math.ceil(low / size - 1e-9)
    return [number * size for number in range(first, math.floor(high / size + 1e-9) + 1)]


def number(value: float) -> str:
    """A number for an axis, as short as it is clear: ``12k``, ``0.5``, ``2e-05``."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e9 or size < 1e-3:
        text = f"{value:.3g}"
        return text.replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    for unit, sign in ((1e6, "M"), (1e3, "k")):
        if size >= (unit if unit > 1e3 else 10 * unit):
            return f"{value / unit:.4g}{sign}"
    return f"{value:.4g}"


def _axes(frame: _Frame) -> str:
    parts = []
    for value in ticks(frame.low, frame.high):
        y = frame.y(value)
        parts.append(f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}"/><text x="{LEFT - 8}" y="{y + 4}">{number(value)}</text>')
    whole = sorted(
        {round(one) for one in ticks(frame.first, frame.last, 8)} if frame.last > frame.first else {frame.first}
    )
    for step in whole:
        parts.append(f'<text class="step" x="{frame.x(step)}" y="{HEIGHT - 8}">{number(step)}</text>')
    return "".join(parts)


def _marks(chart: Chart, frame: _Frame) -> str:
    bottom = HEIGHT - BOTTOM
    marks = [
        ("resumed", f"M{frame.x(step)} {TOP}V{bottom}", f"resumed behind step {step:,}")
        for step in chart.resumed
        if frame.first <= step <= frame.last
    ]
    marks += [
        ("skipped", f"M{frame.x(step)} {bottom}v-7", f"step {step:,} skipped")
        for step in chart.skipped
        if frame.first <= step <= frame.last
    ]
    if chart.limit and frame.low <= chart.limit[0] <= frame.high:
        value, name = chart.limit
        marks.append(("limit", f"M{LEFT} {frame.y(value)}H{WIDTH - RIGHT}", name))
    return "".join(
        f'<path class="{look}" d="{path}"><title>{escape(name)}</title></path>' for look, path, name in marks
    )


def _line(series: Series, frame: _Frame, *, alone: bool) -> str:
    """A curve; a noisy one with its running median, or that ``alone``."""
    look = _look(series.colour)
    parts = []
    if not (series.smoothed and alone):
        parts.append(_path(thin(series.points), frame, f"{look} faint" if series.smoothed else look))
    if series.smoothed:
        parts.append(_path(smooth(series.points), frame, look))
    known = [(x, y) for x, y in series.points if y is not None]
    if series.dots or len(known) == 1:
        parts += [f'<circle class="{look}" cx="{frame.x(x)}" cy="{frame.y(y)}" r="3"/>' for x, y in known]
    return "".join(parts)


def _path(points: Sequence[Point], frame: _Frame, look: str) -> str:
    drawn, text = False, []
    for x, y in points:
        if y is not None:
            text.append(f"{'L' if drawn else 'M'}{frame.x(x)} {frame.y(y)}")
        drawn = y is not None
    return f'<path class="{look}" d="{"".join(text)}"/>'


def _strips(chart: Chart, frame: _Frame) -> Iterator[str]:
    """Upright stretches with the numbers that stand in them, for who points at one."""
    steps = sorted({x for one in chart.drawn for x, _ in one.points})
    size = math.ceil(len(steps) / STRIPS)
    values = [(one, dict(one.points)) for one in chart.drawn]
    for start in range(0, len(steps), size):
        stretch = steps[start : start + size]
        left = LEFT if start == 0 else frame.x((steps[start - 1] + stretch[0]) / 2)
        after = steps[start + size] if start + size < len(steps) else None
        right = WIDTH - RIGHT if after is None else frame.x((stretch[-1] + after) / 2)
        told = [f"step {stretch[0]:,}" + (f" to {stretch[-1]:,}" if len(stretch) > 1 else "")]
        for one, known in values:
            found = [value for step in stretch if (value := known.get(step)) is not None]
            if found:
                mean = format(sum(found) / len(found), chart.form)
                told.append(f"{one.name}: {mean}")
        place = f'x="{left}" y="{TOP}" width="{max(right - left, 1):.1f}" height="{HEIGHT - TOP - BOTTOM}"'
        yield f"<rect {place}><title>{escape(chr(10).join(told))}</title></rect>"


def _legend(chart: Chart) -> str:
    entries = []
    for one in chart.drawn:
        known = [y for _, y in one.points if y is not None]
        line = f'<svg viewBox="0 0 22 8"><path class="{_look(one.colour)}" d="M1 4H21"/></svg>'
        last = format(known[-1], chart.form)
        entries.append(f"<li>{line}{escape(one.name)} <span>{last}</span></li>")
    return f'<ul class="legend">{"".join(entries)}</ul>'


def _look(colour: int) -> str:
    return f"c{colour % COLOURS}" + (f" d{colour // COLOURS % 3}" if colour >= COLOURS else "")
