"""The recipes are the paper's models, with its hyper-parameters, and their text is what training reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.trainer.plugin import Cli

from trainer.errors import UnknownName
from trainer.recipes.facts import COLUMNS, SCORES, TABLES, VANILLA
from trainer.recipes.recipes import find, recipes
from trainer.sources.registry import TWELVE
from trainer.training.settings import Settings, parse


def test_there_are_the_paper_s_36_models() -> None:
    names = set(recipes())
    assert names == {
        *(f"{name}-{size}" for name in TWELVE for size in ("7b", "13b")),
        *("sharegpt-30b", "sharegpt-65b"),
        *(f"{mix}-{size}" for mix in ("human", "human+gpt") for size in ("7b", "13b", "30b", "65b")),
        *("human+gpt-opt-6.7b", "human+gpt-pythia-6.9b"),
    }
    assert len(names) == 36


@pytest.mark.parametrize("name", list(recipes()))
def test_a_recipe_has_the_hyper_parameters_of_the_paper(name: str) -> None:
    recipe = find(name)
    large = recipe.base.name in {"30b", "65b"}
    settings = parse(recipe.toml(), name=name).settings
    assert settings == Settings(
        model=recipe.model,
        data=recipe.prepared,
        out=f"tuned/{name}",
        epochs=2,
        batch=128,
        learning_rate=1e-5 if large else 2e-5,
        schedule="linear",
        warmup=0.03,
        weight_decay=0.0,
        clip=1.0,
        precision="bf16",
        zero=3,
        activation_checkpointing=True,
        reduction="token",
    )
    assert recipe.base.max_length == (1024 if large else 2048)


def test_models_share_what_is_prepared_where_tokenizer_and_length_are_the_same() -> None:
    prepared = {name: find(f"human+gpt-{name}").prepared for name in ("7b", "13b", "30b", "65b", "opt-6.7b")}
    assert prepared["7b"] == prepared["13b"] == "prepared/human+gpt-llama-2048"
    assert prepared["30b"] == prepared["65b"] == "prepared/human+gpt-llama-1024"
    assert prepared["opt-6.7b"] == "prepared/human+gpt-opt-2048"


def test_every_row_but_vanilla_has_a_recipe() -> None:
    rows = {(row.data, base) for table in TABLES.values() for row in table.values() for base in (*row.bases, *row.also)}
    trained = {(recipe.data, recipe.base.name) for recipe in recipes().values()}
    assert {(data, base) for data, base in rows if data != VANILLA} == trained
    assert set(SCORES) <= rows


@pytest.mark.parametrize("row", [row for row in SCORES if None not in SCORES[row]])
def test_the_published_average_is_that_of_the_published_columns(row: tuple[str, str]) -> None:
    *columns, average = (score for score in SCORES[row] if score is not None)
    assert len(columns) + 1 == len(COLUMNS)
    # One row's is not: in the paper, too, the average of Alpaca is that of numbers that were rounded afterwards.
    assert sum(columns) / len(columns) == pytest.approx(average, abs=0.11)


def test_a_recipe_knows_its_tables() -> None:
    assert find("cot-13b").tables == ["table3"]
    assert find("human+gpt-7b").tables == ["table4", "table5"]
    assert find("human+gpt-opt-6.7b").tables == ["table4"]
    assert find("cot-7b").tables == []


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"^No recipe is named 'cot-13'. Did you mean 'cot-13b'\?"):
        find("cot-13")


def test_recipes_lists_all_and_prints_one(cli: Cli) -> None:
    code, out, _ = cli("recipes")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["recipe", *recipes()]
    assert cli("recipes", "cot-13b") == (0, find("cot-13b").toml(), "")


def test_a_recipe_is_written_once_and_a_changed_one_is_left_alone(cli: Cli) -> None:
    file = Path("recipes/cot-13b.toml")
    assert cli("recipes", "cot-13b", "--to", file) == (0, "", "")
    assert file.read_text() == find("cot-13b").toml()
    file.write_text("batch = 64\n")
    code, _, err = cli("recipes", "cot-13b", "--to", file)
    assert (code, err, file.read_text()) == (0, f"{file} is there already and is left as it is.\n", "batch = 64\n")
    assert cli("recipes", "--to", file)[0] == 2
