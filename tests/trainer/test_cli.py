"""The trainer's command line starts fast, names its commands and says what went wrong in one line."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from tests.trainer.plugin import Cli

from trainer.cli import data as data_commands


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_help_starts_without_the_heavy_libraries() -> None:
    code = """
import sys
from trainer.cli import trainer
from trainer.cli.data import COMMANDS
for arguments in ([], ["data"], *(["data", command] for command in COMMANDS)):
    trainer.main([*arguments, "--help"], standalone_mode=False)
print({"numpy", "tokenizers", "transformers", "torch", "datasets"} & set(sys.modules), file=sys.stderr)
"""
    ran = python(code)
    assert (ran.returncode, ran.stderr) == (0, "set()\n")


def test_nobody_is_told_of_a_torch_that_no_command_needs(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    code = f"""
import sys
sys.modules["torch"] = None
sys.argv = ["trainer", "data", "check", {__file__!r}, "--tokenizer", {str(tmp_path)!r}]
from trainer.cli import main
main()
"""
    ran = python(code)
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1), ran.stderr
    assert ran.stderr.startswith(f"Error: The tokenizer in {tmp_path} cannot be loaded"), ran.stderr


def test_what_only_training_needs_is_told_with_the_extra_that_brings_it(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('model = "m"\ndata = "d"\nout = "o"\n')
    code = f"""
import sys
sys.modules["torch"] = None
sys.argv = ["trainer", "train", {str(tmp_path / "recipe.toml")!r}]
from trainer.cli import main
main()
"""
    ran = python(code)
    told = "Error: This needs torch, which is not installed: pip install 'trainer[train]'.\n"
    assert (ran.returncode, ran.stderr) == (1, told)


def test_the_module_runs_as_a_program() -> None:
    ran = subprocess.run([sys.executable, "-m", "trainer"], capture_output=True, text=True, check=False)
    assert "Usage: trainer [OPTIONS] COMMAND [ARGS]..." in ran.stdout + ran.stderr


def test_version_is_the_distributions(cli: Cli) -> None:
    code, out, _ = cli("--version")
    assert (code, version("trainer") in out) == (0, True)


def test_data_lists_its_commands_in_the_order_in_which_data_meets_them(cli: Cli) -> None:
    _, out, _ = cli("data", "--help")
    listed = [line.split()[0] for line in out.partition("Commands:")[2].splitlines() if line.strip()]
    assert listed == list(data_commands.COMMANDS)


@pytest.mark.parametrize(("arguments", "says"), [(["trian"], "trian"), (["data", "fetsh"], "fetsh")])
def test_an_unknown_command_is_wrong_usage(cli: Cli, arguments: list[str], says: str) -> None:
    code, _, err = cli(*arguments)
    assert (code, f"No such command '{says}'" in err) == (2, True)


def test_errors_of_users_are_one_line_and_a_traceback_on_demand(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = cli("data", "fetch", "dollly", "--to", "raw")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("Error: No source is named 'dollly'. Did you mean 'dolly'?")
    monkeypatch.setenv("TRAINER_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", ["trainer", "data", "fetch", "dollly", "--to", "raw"])
    from trainer.cli import main

    with pytest.raises(Exception, match="No source is named 'dollly'"):
        main()


def test_a_fault_of_ours_is_one_line_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.sources import registry

    def broken(names: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(registry, "chosen", broken)
    assert cli("data", "fetch", "dolly", "--to", "raw") == (
        1,
        "",
        "Error: RuntimeError: two lines (TRAINER_TRACEBACK=1 shows where this comes from.)\n",
    )


def test_a_reader_that_has_enough_ends_it_quietly(tmp_path: Path) -> None:
    head = f"{sys.executable} -m trainer data fetch --help | head -1"
    ran = subprocess.run(["sh", "-c", head], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("Usage: trainer data fetch [OPTIONS] [NAME]...\n", "")
