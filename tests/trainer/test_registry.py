"""Sources are found by name, the paper's twelve and those of installed plugins, and a broken plugin stops nobody."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.trainer.plugin import Cli, put

from trainer.errors import PluginError, UnknownName
from trainer.sources import registry

PAGE = (Path(__file__).parents[2] / "docs" / "trainer-data.md").read_text()
#: One dataset in one module, as the page tells third parties to write it.
RIDDLES = re.findall(
    r"^```python\n(.*?)^```$", PAGE.partition("### A source of your own\n")[2], flags=re.DOTALL | re.MULTILINE
)[0]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place on the path of modules, where ``put`` installs plugins as pip would."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_page_has_a_row_for_each_of_the_twelve_as_it_is() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")][: len(registry.TWELVE)]
    for name, row in zip(registry.TWELVE, rows, strict=True):
        source = registry.find(name)
        assert row.startswith(f"| `{name}` | {source.title} | ")
        assert f" | {source.licence} | " in row


def test_the_twelve_come_first_and_in_the_papers_order(installed: Path) -> None:
    put(installed, "some-riddles", "some_riddles_a", RIDDLES)
    assert registry.names() == [*registry.TWELVE, "riddles"]


def test_the_pages_plugin_is_found_by_name_and_converts(installed: Path, cli: Cli) -> None:
    put(installed, "some-riddles", "some_riddles_b", RIDDLES)
    assert registry.find("riddles").title == "Riddles"
    assert registry.find("some-riddles:riddles").title == "Riddles"
    Path("riddles.jsonl").write_text('{"question": "q", "answer": "a"}\n{"question": "q"}\n')
    code, out, _ = cli("data", "convert", "riddles", "--raw", ".", "--to", "to")
    assert (code, out.splitlines()[1].split()) == (0, ["riddles", "2", "1", "1", "-"])
    assert "riddles.jsonl:2: field 'answer' is missing (there are: question)." in out


def test_an_unknown_source_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"No source is named 'alpacca'\. Did you mean 'alpaca'"):
        registry.find("alpacca")
    with pytest.raises(UnknownName, match="No source is named 'nobody:alpaca'"):
        registry.find("nobody:alpaca")


def test_two_distributions_of_one_source_are_refused_naming_both(installed: Path) -> None:
    put(installed, "some-riddles", "some_riddles_c", RIDDLES)
    put(installed, "other-riddles", "other_riddles_c", RIDDLES)
    with pytest.raises(PluginError) as error:
        registry.find("riddles")
    assert str(error.value) == (
        "More than one distribution brings the source 'riddles'; choose other-riddles:riddles or some-riddles:riddles."
    )
    assert registry.find("other-riddles:riddles").convert.__module__ == "other_riddles_c"


def test_a_plugin_cannot_take_the_name_of_one_of_the_twelve(installed: Path) -> None:
    put(installed, "my-dolly", "my_dolly_d", RIDDLES.replace("riddles", "dolly"), "dolly")
    with pytest.raises(PluginError, match=r"brings the source 'dolly'; choose my-dolly:dolly or trainer:dolly\.$"):
        registry.find("dolly")
    assert registry.find("trainer:dolly").title == "Dolly"
    assert registry.find("my-dolly:dolly").title == "Riddles"
    assert registry.names() == list(registry.TWELVE)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("raise ValueError('no\\nway')", "cannot be imported: ValueError: no way."),
        ("import nothing_of_that_name", "cannot be imported: ModuleNotFoundError: No module named"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit: 3."),
        ("from trainer.hookspecs import hookimpl", "brings 0 sources of that name where one is expected."),
        (RIDDLES.replace('name="riddles"', 'name="jokes"'), "brings 0 sources of that name where one is expected."),
        (RIDDLES.replace("def sources():", "def sauces():"), "does not fit trainer's hooks: "),
    ],
)
def test_a_broken_plugin_is_named_and_stops_no_other(
    installed: Path, request: pytest.FixtureRequest, text: str, says: str
) -> None:
    module = f"broken_{abs(hash(request.node.name))}"  # a module is imported once
    put(installed, "broken-riddles", module, text)
    with pytest.raises(PluginError) as error:
        registry.find("riddles")
    assert str(error.value).startswith(f"The plugin 'riddles' of broken-riddles {says}")
    assert registry.find("dolly").name == "dolly"


def test_a_broken_plugin_is_told_and_all_others_are_converted(installed: Path, cli: Cli) -> None:
    put(installed, "broken-jokes", "broken_jokes", "raise ValueError('no')", "jokes")
    Path("databricks-dolly-15k.jsonl").write_text('{"instruction": "i", "context": "", "response": "o"}\n')
    code, out, err = cli("data", "convert", "--raw", ".", "--to", "to")
    assert (code, out.splitlines()[1].split()[:3]) == (1, ["dolly", "1", "1"])
    assert err.splitlines()[-1] == ("Error: The plugin 'jokes' of broken-jokes cannot be imported: ValueError: no.")
    assert len(err.splitlines()) == 12
    code, out, err = cli("data", "fetch", "--to", "raw")
    assert (code, [line.split(":")[0] for line in out.splitlines() if line[0] != " "]) == (1, list(registry.TWELVE))
    assert "Error: The plugin 'jokes' of broken-jokes cannot be imported: ValueError: no.\n" in err
    assert cli("data", "fetch", "jokes", "--to", "raw")[0] == 1


def test_only_the_source_that_is_asked_for_is_imported() -> None:
    code = """
import sys
from trainer.sources import registry
registry.names()
registry.find("dolly")
print(sorted(name for name in sys.modules if name.startswith("trainer.sources.")))
print({"numpy", "tokenizers", "transformers", "torch"} & set(sys.modules))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "['trainer.sources.dolly', 'trainer.sources.registry', 'trainer.sources.templates']\nset()\n"
