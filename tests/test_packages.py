"""What holds for every distribution of this repository, and for one that a stranger makes."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import tomllib
import venv
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = sorted(file.parent for file in ROOT.glob("packages/*/pyproject.toml"))
PLUGINS = sorted(file.parent for file in ROOT.glob("plugins/*/pyproject.toml"))
#: A file in the guide: its name alone on a line, then a block.
GUIDE_FILE = re.compile(r"^`([\w./-]+)`:\n\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def project(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return found


def guide() -> dict[str, str]:
    """The files that docs/first-benchmark.md shows."""
    return dict(GUIDE_FILE.findall((ROOT / "docs" / "first-benchmark.md").read_text()))


@pytest.mark.parametrize("folder", [*PACKAGES, *PLUGINS], ids=lambda folder: folder.name)
def test_a_distribution_bears_its_folders_name_and_the_common_version(folder: Path) -> None:
    found = project(folder)
    assert (found["name"], found["version"]) == (folder.name, "1.0.0")
    assert (found["requires-python"], found["license"]) == (">=3.11", "Apache-2.0")
    assert (folder / found["readme"]).read_text().startswith(f"# {folder.name}\n")


def test_what_the_readme_installs_together_requires_nothing_else_of_this_repository() -> None:
    commands = re.findall(r"^\$ pip install (.*?)(?: +#.*)?$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert commands
    installed = {"evalkit"}
    for command in commands:
        named = set(re.findall(r"plugins/(evalkit-)\{(.*?)\}", command))
        installed |= {prefix + name for prefix, names in named for name in names.split(",")}
        for name in installed - {"evalkit"}:
            required = {re.split(r"[<>=]", one)[0] for one in project(ROOT / "plugins" / name)["dependencies"]}
            assert {one for one in required if one.startswith("evalkit")} <= installed, name


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_a_plugin_is_named_once(folder: Path) -> None:
    name = folder.name.removeprefix("evalkit-")
    module = f"evalkit_{name.replace('-', '_')}"
    points = project(folder).get("entry-points", {})
    assert {value for group in points.values() for value in group.values()} <= {module}
    assert all(name in group for group in points.values() if folder.name != "evalkit-dummy")
    assert (folder / f"{module}.py").is_file() or (folder / "src" / module / "__init__.py").is_file()


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_a_plugin_has_its_test_file(folder: Path) -> None:
    name = folder.name.removeprefix("evalkit-").replace("-", "_")
    assert (ROOT / "tests" / "plugins" / f"test_{name}.py").is_file()


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_a_plugin_requires_siblings_of_the_same_major_version(folder: Path) -> None:
    siblings = [line for line in project(folder).get("dependencies", ()) if line.startswith("evalkit")]
    assert all(re.fullmatch(r"evalkit(-\w+)*>=1,<2", line) for line in siblings), siblings


def test_the_guides_plugin_is_about_35_lines() -> None:
    code = [line for line in guide()["evalkit_riddles.py"].splitlines() if line.strip()]
    assert len(code) <= 40


def test_the_guides_plugin_installs_with_pip_and_runs(tmp_path: Path) -> None:
    stranger = tmp_path / "evalkit-riddles"
    for name, text in guide().items():
        file = stranger / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    venv.create(tmp_path / "fresh", with_pip=True)
    python = str(tmp_path / "fresh" / "bin" / "python")
    tree = [str(ROOT / "packages" / "evalkit"), str(ROOT / "plugins" / "evalkit-dummy")]
    pins = ["--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *pins, *tree, str(stranger)], check=True, cwd=tmp_path)
    command = ["run", "--model", "dummy", "--bench", "riddles", "--data", "sample", "--json"]
    ran = subprocess.run([python, "-m", "evalkit", *command], check=False, capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    (summary,) = json.loads(ran.stdout)
    assert (summary["benchmark"], summary["n"], summary["failed"]) == ("riddles", 2, 0)
    assert (tmp_path / summary["run"] / "records.jsonl").is_file()


def test_what_nox_scaffolds_under_another_name_is_consistent() -> None:
    files = runpy.run_path(str(ROOT / "noxfile.py"))["_scaffold"]("word-play")
    assert sorted(files) == [
        "README.md",
        "evalkit_word_play.py",
        "pyproject.toml",
        "tests/plugins/test_word_play.py",
    ]
    assert tomllib.loads(files["pyproject.toml"])["project"]["entry-points"] == {
        "evalkit.benchmarks": {"word-play": "evalkit_word_play"}
    }
    for file in ("evalkit_word_play.py", "tests/plugins/test_word_play.py"):
        compile(files[file], file, "exec")
    assert 'name="word-play"' in files["evalkit_word_play.py"]
    assert "riddles" not in "".join(files.values())
