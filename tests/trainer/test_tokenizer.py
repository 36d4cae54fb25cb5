"""Tokenizers are loaded as their models were trained with them, or refused."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from tests.trainer import small_tokenizers

from trainer.errors import TokenizerError
from trainer.rendering import tokenizer


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tokenizers")
    return {kind: small_tokenizers.save(kind, root / kind) for kind in small_tokenizers.KINDS}


def test_importing_it_imports_no_transformers() -> None:
    heavy = "{'transformers', 'torch', 'tokenizers', 'jinja2'}"
    code = f"import sys, trainer.rendering.tokenizer, trainer.rendering.render; print({heavy} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("llama", (["<s>"], "</s>", "<pad>", ("<pad>",))),
        ("llama_json", (["<s>"], "</s>", "<pad>", ("<pad>",))),
        ("opt", (["</s>"], "</s>", "<pad>", ())),
        ("gpt_neox", ([], "<|endoftext|>", "<|padding|>", ())),
        ("merging", ([], "<|endoftext|>", "<|endoftext|>", ())),
    ],
)
def test_bos_eos_and_padding_are_those_of_the_2023_code(
    folders: dict[str, Path], kind: str, named: tuple[list[str], str, str, tuple[str, ...]]
) -> None:
    """What a tokenizer puts in front, what ends a text, what pads, and what is new to its vocabulary."""
    loaded = tokenizer.load(str(folders[kind]))
    token = loaded.fast.id_to_token
    assert ([token(one) for one in loaded.leading], loaded.eos, token(loaded.pad_id), loaded.new) == named
    assert token(loaded.eos_id) == loaded.eos
    assert loaded.size == loaded.fast.get_vocab_size(with_added_tokens=True)


def test_opt_takes_its_unk_from_the_vocabulary(folders: dict[str, Path]) -> None:
    loaded = tokenizer.load(str(folders["opt"]))
    assert loaded.special["unk_token"] == "<unk>"
    assert loaded.fast.encode("<unk>", add_special_tokens=False).ids == [3]


def test_opt_without_settings_has_its_own_special_tokens_and_not_those_of_gpt2(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    for name in ("vocab.json", "merges.txt", "config.json"):
        (tmp_path / name).write_bytes((folders["opt"] / name).read_bytes())
    loaded = tokenizer.load(str(tmp_path))
    assert (loaded.leading, loaded.eos_id, loaded.pad_id) == ((2,), 2, 1)


def test_a_neox_without_padding_gets_a_pad_token(folders: dict[str, Path], tmp_path: Path) -> None:
    made = small_tokenizers.bytewise(["<|endoftext|>"])
    made.save(str(tmp_path / "tokenizer.json"))
    settings = (folders["gpt_neox"] / "tokenizer_config.json").read_text()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(json.loads(settings) | {"pad_token": None}))
    loaded = tokenizer.load(str(tmp_path))
    assert loaded.new == ("<pad>",)
    assert loaded.pad_id == made.get_vocab_size() == loaded.size - 1


TEXTS = ("Hello there", "the  capital", "f(x):\n    if x:\n        return x", "a   b", "naïve 🙂", "<|user|>\nA")


def test_a_lone_tokenizer_model_is_read_as_sentencepiece_reads_it(folders: dict[str, Path]) -> None:
    from sentencepiece import SentencePieceProcessor

    original = SentencePieceProcessor(str(folders["llama"] / "tokenizer.model"))
    loaded = tokenizer.load(str(folders["llama"]))
    for text in TEXTS:
        assert loaded.fast.encode(text, add_special_tokens=False).ids == original.encode(text)


def test_merges_follow_scores_and_not_numbers(tmp_path: Path) -> None:
    """LLaMA's runs of blanks come first in its file and last in its merges; transformers 5 goes by the place."""
    from sentencepiece import SentencePieceProcessor
    from transformers.convert_slow_tokenizer import import_protobuf

    source = small_tokenizers.save("llama", tmp_path / "source")
    model = import_protobuf().ModelProto.FromString((source / "tokenizer.model").read_bytes())
    blanks = [piece for piece in model.pieces if set(piece.piece) == {"▁"} and len(piece.piece) > 1]
    assert blanks
    for piece in blanks:
        piece.score = -1e9
    changed = tmp_path / "changed"
    changed.mkdir()
    (changed / "tokenizer.model").write_bytes(model.SerializeToString())
    original = SentencePieceProcessor(str(changed / "tokenizer.model"))
    text = "of  capital"
    assert original.encode(text) != tokenizer.load(str(source)).fast.encode(text, add_special_tokens=False).ids
    assert original.encode(text) == tokenizer.load(str(changed)).fast.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("kind", small_tokenizers.KINDS)
def test_ids_are_those_of_transformers(folders: dict[str, Path], kind: str) -> None:
    loaded = tokenizer.load(str(folders[kind]))
    whole, new = tokenizer.load_transformers(str(folders[kind]))
    assert new == loaded.new
    for text in (*TEXTS, f"say {loaded.eos} twice {loaded.eos}"):
        bare = loaded.fast.encode(text, add_special_tokens=False).ids
        assert [*loaded.leading, *bare] == whole(text)["input_ids"]


@pytest.mark.parametrize("kind", ["llama", "llama_json"])
def test_text_behind_other_text_gets_no_blank_of_its_own(folders: dict[str, Path], kind: str) -> None:
    loaded = tokenizer.load(str(folders[kind]))
    first = [one.encode("there", add_special_tokens=False).tokens[0] for one in (loaded.fast, loaded.inner)]
    assert [one.startswith("▁") for one in first] == [True, False]


def test_it_pickles_without_transformers(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(pickle.dumps(tokenizer.load(str(folders["llama"]))))
    code = (
        "import pathlib, pickle, sys; it = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes());"
        "print(it.decode(it.fast.encode('one two').ids), {'transformers', 'torch'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code, tmp_path / "it"], text=True) == "one two set()\n"


def test_the_fingerprint_is_that_of_the_files(folders: dict[str, Path], tmp_path: Path) -> None:
    prints = {kind: tokenizer.load(str(folders[kind])).fingerprint for kind in ("llama", "opt", "gpt_neox")}
    assert len(set(prints.values())) == 3
    for file in folders["opt"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert tokenizer.load(str(tmp_path)).fingerprint == prints["opt"]
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text(settings.read_text().replace('"add_bos_token": true', '"add_bos_token": false'))
    assert tokenizer.load(str(tmp_path)).fingerprint != prints["opt"]


@pytest.mark.parametrize("files", [{}, {"config.json": {"model_type": "opt"}}, {"tokenizer_config.json": {}}])
def test_a_folder_without_vocabulary_is_refused(tmp_path: Path, files: dict[str, object]) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(TokenizerError, match=f"{tmp_path} holds no tokenizer: copy there the tokenizer files"):
        tokenizer.load(str(tmp_path))


def test_a_tokenizer_without_eos_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((folders["merging"] / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    with pytest.raises(TokenizerError, match="has no EOS token, so a model could not learn to stop"):
        tokenizer.load(str(tmp_path))


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json"])
def test_a_damaged_file_is_named(folders: dict[str, Path], tmp_path: Path, name: str) -> None:
    for file in folders["llama_json"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / name).write_text("{")
    with pytest.raises(TokenizerError, match=rf"{tmp_path}.* (cannot be loaded: |is not JSON)"):
        tokenizer.load(str(tmp_path))


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(TokenizerError, match=r"There is no folder \./nothing/here; give a folder with a tokenizer"):
        tokenizer.load("./nothing/here")
