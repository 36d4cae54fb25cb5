"""A run's settings come from a recipe and --set, are checked when they are made, and can be read again."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from tests.trainer.plugin import Cli

from trainer.training.settings import LEARNT, TYPES, Settings, SettingsError, load, parse

RECIPE = 'model = "base"\ndata = "prepared"\n\n# where to\nout = "tuned"\nlearning_rate = 1\n'


def settings(**changed: object) -> Settings:
    return Settings(**{"model": "base", "data": "prepared", "out": "tuned", **changed})  # type: ignore[arg-type]


def test_the_defaults_are_the_paper_s_at_7b_and_13b() -> None:
    one = settings()
    assert (one.epochs, one.batch, one.learning_rate, one.schedule) == (2, 128, 2e-5, "linear")
    assert (one.warmup, one.weight_decay, one.clip, one.reduction, one.precision) == (0.03, 0.0, 1.0, "token", "bf16")


def test_a_recipe_s_values_and_those_of_set_are_told_apart() -> None:
    resolved = parse(RECIPE, ["zero=3", "model = other", 'data="a b"', "max-steps=7"], name="recipe.toml")
    assert resolved.settings == Settings(model="other", data="a b", out="tuned", learning_rate=1.0, zero=3, max_steps=7)
    told = {key: source for key, source in resolved.sources.items() if source != "default"}
    assert told == {
        **dict.fromkeys(("zero", "model", "data", "max_steps"), "--set"),
        "out": "recipe.toml:5",
        "learning_rate": "recipe.toml:6",
    }
    assert set(resolved.sources) == set(TYPES)


def test_a_whole_number_is_taken_where_a_number_is_asked() -> None:
    assert type(parse(RECIPE, name="r").settings.learning_rate) is float


def test_what_is_resolved_reads_again_as_itself() -> None:
    resolved = parse(RECIPE, ['out=a "quoted" \\ päth', "epsilon=1e-7"], name="recipe.toml")
    again = parse(resolved.toml(), name="again.toml")
    assert again.settings == resolved.settings
    assert set(tomllib.loads(resolved.toml())) == set(TYPES)
    assert re.search(r'^model = "base" +# recipe.toml:1$', resolved.toml(), re.MULTILINE)
    assert re.search(r"^epsilon = 1e-07 +# --set$", resolved.toml(), re.MULTILINE)


def test_config_prints_settings_with_their_sources(cli: Cli) -> None:
    Path("recipe.toml").write_text(RECIPE)
    code, out, err = cli("config", "recipe.toml", "--set", "epochs=3")
    assert (code, out, err) == (0, parse(RECIPE, ["epochs=3"], name="recipe.toml").toml(), "")


@pytest.mark.parametrize(
    ("text", "sets", "says"),
    [
        (
            "",
            ["learnin_rate=1"],
            "--set learnin_rate=1: no setting is named 'learnin_rate'; did you mean 'learning_rate'?",
        ),
        ("", ["x"], "--set x: write it as key=value."),
        ("\n[data_]\nx = 1", [], "r.toml:8: no setting is named 'data_'; did you mean 'data'?"),
        ("epochs = 2.0", [], "r.toml:7: epochs is a whole number, not 2.0."),
        ("epochs = true", [], "r.toml:7: epochs is a whole number, not True."),
        ("zero = true", [], "r.toml:7: zero is True; it can be 0, 1, 2, 3."),
        ("held_out = 3", [], "r.toml:7: held_out is a text, not 3."),
        ("activation_checkpointing = 1", [], "r.toml:7: activation_checkpointing is true or false, not 1."),
        ("", ["batch=many"], "--set batch=many: batch is a whole number, not 'many'."),
        ("", ["batch=0"], "--set batch=0: batch is 0; it must be at least 1."),
        ("", ["beta1=1"], "--set beta1=1: beta1 is 1.0; it must be at least 0 and below 1."),
        ("", ["learning_rate=nan"], "--set learning_rate=nan: learning_rate is nan; it must be above 0."),
        ("", ["clip=inf"], "--set clip=inf: clip is inf; it must be at least 0."),
        ("", ["spike=1"], "--set spike=1: spike is 1.0; a spike is a loss more than 1 times the mean, 0 only warns."),
        ("", ["model="], "--set model=: model is empty; it names a folder."),
        ("", ["tulu1_layout=8"], "--set tulu1_layout=8: tulu1_layout is '8'; it is ranks x examples, as 4x2."),
    ],
)
def test_a_setting_that_cannot_be_is_named_with_its_place(text: str, sets: list[str], says: str) -> None:
    with pytest.raises(SettingsError, match=f"^{re.escape(says)}$") as error:
        parse(RECIPE + text, sets, name="r.toml")
    assert error.value.exit_code == (2 if sets else 1)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"batch": 0}, "batch is 0; it must be at least 1."),
        ({"out": "base"}, "out is the folder of model, which would be written over; name another."),
        ({"held_out": "prepared"}, "held_out is the data that is learnt from; prepare other examples."),
        ({"engine": "torch", "offload": "optimizer"}, "offload optimizer is DeepSpeed's, and engine is torch."),
        ({"zero": 0, "offload": "optimizer"}, "offload optimizer needs zero 1, 2 or 3, and zero is 0."),
        (
            {"offload": "all"},
            "offload all keeps weights in the CPU's memory, which needs zero 3, and zero is 2.",
        ),
        (
            {"reduction": "tulu1", "batch": 12},
            "batch 12 is no multiple of tulu1_layout's 4 x 2 examples.",
        ),
        ({"lora_targets": "q_proj"}, "lora_targets names layers, and lora_rank is 0, which tunes all weights."),
        (
            {"evaluate_every": 5},
            "evaluate_every asks for evaluations, and there is neither held_out nor evaluate_command.",
        ),
    ],
)
def test_settings_that_cannot_both_be_meant_are_never_made(changed: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError, match=f"^{re.escape(says)}$"):
        settings(**changed)


def test_a_recipe_without_what_is_needed_says_what_to_write() -> None:
    says = "r.toml does not say model and out: write it there, or give --set model=VALUE --set out=VALUE."
    with pytest.raises(SettingsError, match=f"^{re.escape(says)}$"):
        parse('data = "prepared"', name="r.toml")


def test_a_recipe_that_is_no_toml_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("epochs = 2\nbatch = \n")
    with pytest.raises(SettingsError, match=r"^r.toml is not TOML: .*line 2"):
        load(tmp_path / "r.toml")
    with pytest.raises(SettingsError, match=r"^There is no recipe .*nope.toml; `trainer recipes` lists"):
        load(tmp_path / "nope.toml")


def test_the_fingerprint_is_of_what_is_learnt_and_of_nothing_else() -> None:
    same = settings(zero=3, keep=5, log_every=9, evaluate_command="x", tokens=99)
    assert same.fingerprint == settings().fingerprint
    assert settings(learning_rate=1e-5).fingerprint != settings().fingerprint
    assert set(LEARNT) < set(TYPES)
    assert list(settings().learnt) == list(LEARNT)


def test_the_layout_of_tulu1_is_read() -> None:
    assert settings(tulu1_layout="8x16").layout == (8, 16)
