"""The run card is one whole page that tells the run as it was, obeys no text, and needs nothing else."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.trainer.plugin import Cli
from tests.trainer.watched import START, entry, prepared, resolved, whole_run

from trainer.watching import card, comparison, curves
from trainer.watching.alarms import Alarm
from trainer.watching.curves import Chart, Series
from trainer.watching.history import read
from trainer.watching.progress import Lines
from trainer.watching.watch import Writer

#: Elements without an end.
VOID = {"meta", "br", "hr"}
EVIL = "<script>alert('1')</script>&\"'"


class Page(HTMLParser):
    """Reads a page, sees that its elements close in order, and keeps its texts and addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append(data.strip())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def run(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # a folder under no version control
    whole_run(tmp_path / "first", data, "clip=0.5")
    return tmp_path / "first"


def tiles(page: Page) -> dict[str, str]:
    """The numbers at a glance, by name."""
    names = (
        "State",
        "Steps",
        "Training loss",
        "Held-out loss",
        "Tokens",
        "Tokens a second",
        "Time in steps",
        "Weights",
    )
    return {name: page.words[page.words.index(name) + 1] for name in names if name in page.words}


def test_a_run_leaves_its_card_behind_when_it_ends(run: Path) -> None:
    page = Page((run / "card.html").read_text())
    assert tiles(page) == {
        "State": "done",
        "Steps": "8",
        "Training loss": "2 → 0.25",
        "Held-out loss": "0.5 → 0.25",
        "Tokens": "2,400",
        "Tokens a second": "150",
        "Time in steps": "0:16",
        "Weights": "1,000",
    }
    assert "25.0% of it outside forward, backward and update" in page.words


def test_it_tells_settings_with_sources_data_with_hashes_and_all_that_happened(run: Path, data: Path) -> None:
    words = Page((run / "card.html").read_text()).words
    manifest = json.loads((data / "prepared.json").read_bytes())
    start = words.index("Setting")
    assert words[start : start + 12] == [
        *("Setting", "Value", "From"),
        *("model", "models/small", "recipe.toml:1"),
        *("data", str(data), "recipe.toml:2"),
        *("out", str(run), "--set"),
    ]
    (file,) = manifest["made_of"]["files"]
    assert f"{file['bytes']:,} bytes, SHA-256 {file['sha256']}" in words
    assert manifest["key"] in words
    for text in (
        "1 step was skipped, for gradients that were not finite: 3.",
        "gsm 0.25",
        "evaluations/step-000008/output.txt",
        "step-000004",
        "12.3 MB",
        "deleted",  # the checkpoint's folder is not there
    ):
        assert text in words, text


def test_it_loads_nothing_and_runs_nothing(run: Path) -> None:
    text = (run / "card.html").read_text()
    page = Page(text)
    assert page.links == []
    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert "url(" not in text
    assert "@import" not in text


def test_texts_from_data_are_shown_and_never_obeyed(tmp_path: Path, data: Path) -> None:
    writer = Writer(resolved=resolved(tmp_path / EVIL.replace("/", ":"), data), progress=Lines())
    writer.started(START)
    for step in (1, 2):
        writer.stepped(entry(step, dataset_loss={EVIL: 1.0, "b": 2.0}))
    writer.ended(EVIL)
    text = (tmp_path / EVIL.replace("/", ":") / "card.html").read_text()
    page = Page(text)
    assert "script" not in page.tags
    assert EVIL in page.words  # in the legend


def test_every_chart_is_well_formed_and_has_its_curves(run: Path) -> None:
    figures = re.findall(r"<figure>.*?</figure>", (run / "card.html").read_text(), re.DOTALL)
    drawn = {}
    for text in figures:
        figure = ElementTree.fromstring(text)
        picture = figure.find("svg")
        assert picture is not None
        paths = picture.findall("g[@class='lines']/path")
        drawn[figure.findtext("figcaption/b")] = [one.attrib["d"].count("L") + 1 for one in paths]
        numbers = [float(one) for path in paths for one in re.findall(r"-?[\d.]+", path.attrib["d"])]
        assert all(math.isfinite(one) and -10 <= one <= curves.WIDTH for one in numbers)
    assert drawn == {
        "Loss": [8, 2],
        "Loss by dataset": [8, 8],
        "Held-out loss by dataset": [2, 2],
        "Gradient norm": [8],
        "Tokens a second": [8, 8],
        "Learning rate": [8],
    }


def test_an_alarm_stands_at_the_top(tmp_path: Path, data: Path) -> None:
    writer = Writer(resolved=resolved(tmp_path / "run", data), progress=Lines())
    writer.started(START)
    writer.stepped(entry(1))
    with pytest.raises(Alarm) as stopped:
        writer.stepped(entry(2, loss=math.nan))
    writer.ended(str(stopped.value))
    page = Page((tmp_path / "run" / "card.html").read_text())
    assert page.words[page.words.index("Stopped by an alarm.") + 1] == str(stopped.value)
    assert tiles(page)["State"] == "stopped by an alarm"


def test_a_run_that_still_goes_on_has_a_card(tmp_path: Path, data: Path, cli: Cli) -> None:
    writer = Writer(resolved=resolved(tmp_path / "run", data), progress=Lines())
    writer.started(START)
    code, out, _ = cli("card", tmp_path / "run")
    assert (code, out) == (0, f"{tmp_path}/run/card.html\n")
    assert "No step is done yet." in Page((tmp_path / "run" / "card.html").read_text()).words
    writer.stepped(entry(1))
    cli("card", tmp_path / "run", "--to", tmp_path / "deep" / "my.html")
    assert tiles(Page((tmp_path / "deep" / "my.html").read_text()))["State"] == "running, or killed"
    writer.ended("SIGTERM")
    assert read(tmp_path / "run").state == "stopped"


def test_a_card_that_cannot_be_written_does_not_fail_the_run(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = Writer(resolved=resolved(tmp_path, data), progress=Lines())
    writer.started(START)
    (tmp_path / "card.html").mkdir()
    writer.ended("done")
    assert f"`trainer card {tmp_path}` tries again" in capsys.readouterr().err


def test_two_runs_are_compared_by_what_differs(tmp_path: Path, data: Path, run: Path, cli: Cli) -> None:
    whole_run(tmp_path / "second", data, "clip=1.0", "learning_rate=1e-5", loss=3.0)
    code, out, _ = cli("card", run, tmp_path / "second")
    assert (code, out) == (0, "comparison.html\n")
    page = Page((tmp_path / "comparison.html").read_text())
    start = page.words.index("What differs")
    assert page.words[start + 1 :] == [
        *("first", "second"),
        *("learning_rate", "2e-05", "1e-05"),
        *("clip", "0.5", "1.0"),
    ]
    start = page.words.index("Held-out loss, last")
    assert page.words[start + 1 : start + 3] == ["0.2500", "0.3750"]
    assert [one.title for one in comparison.charts([read(run)], ["first"]) if curves.figure(one)] == [
        *("Loss", "Held-out loss", "Gradient norm", "Tokens a second", "Learning rate")
    ]


def test_a_folder_without_a_run_is_refused(tmp_path: Path, cli: Cli) -> None:
    code, _, error = cli("card", tmp_path)
    assert (code, error) == (
        1,
        f"Error: {tmp_path} holds no run: `trainer train` writes run.json there when its first step begins.\n",
    )


def test_a_card_is_made_without_heavy_libraries(run: Path) -> None:
    code = f"""
import sys
from trainer.cli import trainer
trainer.main(["card", {str(run)!r}], standalone_mode=False)
print({{"torch", "transformers", "tokenizers"}} & set(sys.modules))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout.splitlines()[-1:] == ["set()"], ran.stderr


def test_a_long_curve_keeps_its_extremes_and_stays_small() -> None:
    points = [(step, 1.0 if step % 2 else 2.0) for step in range(20_000)]
    points[7_777] = (7_777, 99.0)
    points[12_345] = (12_345, -5.0)
    kept = curves.thin(points)
    assert len(kept) <= curves.MOST
    assert {(7_777, 99.0), (12_345, -5.0)} <= set(kept)
    assert kept == sorted(kept)
    text = curves.svg(Chart(title="Loss", series=[Series(name="loss", points=points, colour=0, noisy=True)]))
    assert len(text) < 60_000


def test_a_value_that_is_missing_is_a_gap() -> None:
    points = [(1, 1.0), (2, 2.0), (3, None), (4, 2.0), (5, 1.0)]
    text = curves.svg(Chart(title="Loss", series=[Series(name="loss", points=points, colour=0)]))
    (path,) = re.findall(r'<path class="c0" d="([^"]*)"', text)
    assert re.sub(r"[\d. ]", "", path) == "MLML"


def test_a_spike_leaves_the_frame_instead_of_flattening_the_rest() -> None:
    calm = [(step, 2.0 - step / 200) for step in range(200)]
    spiked = [*calm[:100], (100, 1e6), *calm[101:]]
    low, high = (_heights(points) for points in (calm, spiked))
    assert max(high) - min(high) > curves.HEIGHT / 2
    assert low[0] - low[-1] < 0 < high[-1] - high[0]


def _heights(points: list[tuple[int, float]]) -> list[float]:
    text = curves.svg(Chart(title="Loss", series=[Series(name="loss", points=points, colour=0)]))
    (path,) = re.findall(r'<path class="c0" d="([^"]*)"', text)
    return [float(one.split()[1]) for one in re.split("[ML]", path)[1:]]


def test_one_value_or_equal_ones_make_a_chart() -> None:
    for points in ([(1, 0.0)], [(1, 2.0)], [(1, 2.0), (2, 2.0)], [(1, -1.0)]):
        for zero in (False, True):
            chart = Chart(title="Loss", series=[Series(name="loss", points=points, colour=0)], zero=zero)
            assert "nan" not in ElementTree.tostring(ElementTree.fromstring(curves.svg(chart)), "unicode")
    assert curves.figure(Chart(title="Loss", series=[Series(name="loss", points=[(1, None)], colour=0)])) == ""


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0.83, 2.6, [1.0, 1.5, 2.0, 2.5]),
        (0, 2e-5, [0, 5e-6, 1e-5, 1.5e-5, 2e-5]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_round(low: float, high: float, wanted: list[float]) -> None:
    assert curves.ticks(low, high) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("value", "told"),
    [(0, "0"), (0.5, "0.5"), (2e-5, "2e-5"), (1.5e-5, "1.5e-5"), (9999, "9999"), (12_000, "12k"), (2_500_000, "2.5M")],
)
def test_numbers_of_an_axis_are_short(value: float, told: str) -> None:
    assert curves.number(value) == told


def test_the_running_median_ignores_a_spike_and_ends_where_the_curve_does() -> None:
    points = [(step, 1.0) for step in range(1000)]
    points[500] = (500, 100.0)
    found = curves.smooth(points)
    assert {value for _, value in found} == {1.0}
    assert (found[0][0], found[-1][0]) == (0, 999)
    assert len(found) <= curves.MOST // 2 + 1


def test_a_card_is_written_whole_or_not_at_all(run: Path) -> None:
    card.write(run)
    assert [one.name for one in run.iterdir() if one.suffix == ".part"] == []
