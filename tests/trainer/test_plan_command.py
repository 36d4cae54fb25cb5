"""`trainer plan` on recipes of the paper, a model that is there, and what cannot be planned."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.trainer.plugin import Cli

from trainer.recipes import recipes

PAGE = Path(__file__).parents[2] / "docs" / "training-plan.md"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The recipe of 13B on the Human+GPT mix, in a folder that holds neither model nor data."""
    file = tmp_path / "recipe.toml"
    file.write_text(recipes.find("human+gpt-13b").toml())
    return file


def test_a_paper_recipe_is_planned_without_model_and_data(cli: Cli, recipe: Path) -> None:
    code, out, err = cli("plan", recipe)
    assert (code, err) == (0, "")
    assert out.startswith("recipe.toml: LLaMA of 13.0 B parameters on 8 x A100, 80 GB each\n")
    assert "is not prepared yet: lengths as Table 1 of" in out
    assert "490,694 examples, 345.4 M tokens, 65% of them learnt" in out
    assert "7,668 of 128 examples, 3,834 to an epoch." in out
    assert "disk   156 GB a checkpoint, 26 GB the model" in out
    assert out.splitlines()[-1].startswith("Fits: ")
    assert max(map(len, out.splitlines())) <= 80


def test_what_does_not_fit_is_told_what_would(cli: Cli, recipe: Path) -> None:
    code, out, _ = cli("plan", recipe, "--gpus", 2, "--gpu", "h100")
    assert code == 0
    assert "Does not fit: " in out
    assert "  --set offload=optimizer  AdamW runs on CPUs, with " in out
    assert "\nOr (" in out


def test_the_recipe_s_row_is_marked(cli: Cli, recipe: Path) -> None:
    _, out, _ = cli("plan", recipe, "--set", "zero=2", "--set", "offload=optimizer")
    assert [line[:16].strip() for line in out.splitlines() if line.startswith(">")] == ["> 2 + CPU AdamW"]


def test_json_has_the_same_numbers(cli: Cli, recipe: Path) -> None:
    _, out, _ = cli("plan", recipe, "--json")
    told = json.loads(out)
    assert (told["parameters"], told["steps"], told["fits"]) == (13_015_864_320, 7668, True)
    assert told["memory"] == told["layouts"]["3"]
    assert told["checkpoint_bytes"] == 12 * 13_015_864_320


def test_a_run_s_log_tells_the_speed(cli: Cli, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    speeds = [1.0, 1.0, 1.0, 9_000.0, 10_000.0, 11_000.0]
    lines = [json.dumps({"step": step, "tokens_per_second": speed}) for step, speed in enumerate(speeds, start=1)]
    (run / "log.jsonl").write_text("\n".join([*lines, json.dumps({"held_out": 1.0})]))
    _, out, _ = cli("plan", recipe, "--measured", run)
    assert "time   19.2 hours at 10,000 tokens a second, as measured." in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--gpu", "a1000"), "No GPU is named 'A1000'. Did you mean 'A100'?"),
        (("--set", "model=models/unheard-of"), "models/unheard-of is no folder with a config.json, and its name ends"),
        (("--measured", "fast"), "--measured fast is neither a number nor a run folder"),
        (("--set", "tokens=100"), "tokens and a micro-step holds 100"),
        (("--set", "data=nodir"), "nodir holds no prepared data, and its name begins with no dataset"),
    ],
)
def test_what_cannot_be_planned_is_one_sentence(
    cli: Cli, recipe: Path, arguments: tuple[str, ...], message: str
) -> None:
    code, out, err = cli("plan", recipe, *arguments)
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_misspelt_setting_is_a_usage_error(cli: Cli, recipe: Path) -> None:
    code, out, err = cli("plan", recipe, "--set", "zeroo=3")
    assert (code, out) == (2, "")
    assert err == "Error: --set zeroo=3: no setting is named 'zeroo'; did you mean 'zero'?\n"


def test_a_batch_that_cannot_be_shared_out_is_a_usage_error_as_for_launch(cli: Cli, recipe: Path) -> None:
    code, out, err = cli("plan", recipe, "--set", "batch=1", "--gpus", 2)
    assert (code, out) == (2, "")
    assert "A batch of 1 examples cannot be shared out over 2 ranks." in err
    launched = cli("launch", recipe, "--set", "batch=1", "--gpus-per-node", 2)
    assert (launched[0], launched[2].splitlines()[-1]) == (2, err.splitlines()[-1])


@pytest.fixture
def short(tmp_path: Path) -> Path:
    """The config of a small LLaMA with 64 positions."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = {"model_type": "llama", "vocab_size": 512, "max_position_embeddings": 64, **sizes}
    (tmp_path / "short").mkdir()
    (tmp_path / "short" / "config.json").write_text(json.dumps(config))
    return tmp_path / "short"


def test_examples_longer_than_the_model_s_positions_do_not_fit(cli: Cli, recipe: Path, short: Path) -> None:
    told = (
        f"The longest example of prepared/human+gpt-llama-2048, as modelled, has 2,048 tokens and {short} has positions"
        " for 64: prepare the data with --max-length 64."
    )
    for more in ((), ("--json",)):
        code, out, err = cli("plan", recipe, "--set", f"model={short}", *more)
        assert (code, out) == (1, "")
        assert told in err
    code, out, _ = cli("plan", recipe, "--set", f"model={short}", "--max-length", 64)
    assert code == 0
    assert out.splitlines()[-1].startswith("Fits: ")


def test_cpus_are_planned_with_this_machine_s_memory_and_no_time(cli: Cli, recipe: Path) -> None:
    _, out, _ = cli("plan", recipe, "--gpu", "cpu", "--gpus", 2, "--gpu-memory", 1000)
    assert "on 2 CPU ranks, 1,000 GB each" in out
    assert "time   Not known for CPUs" in out


def test_the_page_shows_what_the_command_prints(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "recipe.toml").write_text(recipes.find("human+gpt-65b").toml())
    _, out, _ = cli("plan", "recipe.toml", "--gpus", 8, "--gpu", "a100")
    shown = PAGE.read_text().split("$ trainer plan recipe.toml --gpus 8 --gpu a100\n")[1].split("```")[0]
    assert shown == out


def test_planning_does_not_load_torch(recipe: Path) -> None:
    program = f"import sys\nsys.argv = ['trainer', 'plan', {str(recipe)!r}]\nfrom trainer.cli import main\n"
    program += "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
