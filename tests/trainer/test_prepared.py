"""A prepared folder is opened whole and undamaged, or not at all."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.trainer import preparing, small_tokenizers

from trainer.errors import DataError
from trainer.preparation import prepared
from trainer.preparation.prepared import FILES, MANIFEST, Prepared
from trainer.rendering import render
from trainer.rendering.rendered import Reason


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prepared")
    renderer = render.load(str(small_tokenizers.save("opt", root / "tokenizer")), max_length=4000)
    preparing.made(preparing.write(root / "mix.jsonl", preparing.rows(50)), renderer, root / "out")
    return root / "out"


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    for name, content in preparing.content(original).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def place(folder: Path) -> Path:
    return next(one for one in folder.iterdir() if one.is_dir())


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_size_is_noticed_on_opening(folder: Path, name: str) -> None:
    file = place(folder) / name
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError) as error:
        Prepared.open(folder)
    told = f"{file} has {size - 1:,} bytes and not the {size:,} that were written: delete {folder} and prepare anew."
    assert str(error.value) == told
    file.unlink()
    with pytest.raises(DataError, match=r"is missing: delete .* and prepare anew\.$"):
        Prepared.open(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_found_by_verify(folder: Path, name: str) -> None:
    Prepared.open(folder).verify()
    file = place(folder) / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=f"{name} is not what was written there"):
        Prepared.open(folder).verify()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "holds no prepared data, or not all of it yet: run `trainer data prepare"),
        (b"{", "cannot be read"),
        (b"[]", "has format None, this version reads 1"),
        (b'{"format": 2}', "has format 2, this version reads 1"),
    ],
)
def test_a_folder_without_a_manifest_of_this_format_is_refused(folder: Path, content: bytes | None, told: str) -> None:
    (folder / MANIFEST).unlink()
    if content is not None:
        (folder / MANIFEST).write_bytes(content)
    with pytest.raises(DataError, match=told):
        Prepared.open(folder)


def test_a_loaders_worker_is_sent_the_place_and_not_the_data(original: Path) -> None:
    made = Prepared.open(original)
    sent = pickle.dumps(made)
    assert len(sent) < 300
    assert pickle.loads(sent)[3].ids.tolist() == made[3].ids.tolist()


def test_an_example_is_a_copy_that_may_be_changed(original: Path) -> None:
    made = Prepared.open(original)
    made[0].ids[:] = 0
    assert made[0].ids.any()


def test_indices_are_those_of_a_list(original: Path) -> None:
    made = Prepared.open(original)
    last = len(made) - 1
    assert made[-1].ids.tolist() == made[last].ids.tolist()
    for index in (len(made), -len(made) - 1):
        with pytest.raises(IndexError):
            made[index]


def test_the_manifest_tells_what_it_was_made_of(original: Path) -> None:
    told = json.loads((original / MANIFEST).read_bytes())
    assert set(told["made_of"]) == {"files", "tokenizer", "template", "max_length", "code", "libraries"}
    assert (told["dtype"], told["datasets"], list(told["files"])) == ("<u2", list(told["counts"]), list(FILES))


@given(
    st.lists(st.lists(st.tuples(st.sampled_from(Reason), st.booleans(), st.integers(1, 5000)), min_size=1), min_size=1)
)
def test_runs_give_back_what_was_packed(examples: list[list[tuple[Reason, bool, int]]]) -> None:
    codes: list[NDArray[np.uint8]] = [
        np.repeat([reason + 16 * learnt for reason, learnt, _ in one], [count for _, _, count in one]).astype(np.uint8)
        for one in examples
    ]
    lengths = np.array([len(one) for one in codes], np.int64)
    runs, counts = prepared.pack(np.concatenate(codes), np.cumsum(lengths) - lengths)
    ends = np.cumsum(counts)
    for code, start, end in zip(codes, ends - counts, ends, strict=True):
        reasons, supervised = prepared.unpack(runs[start:end])
        assert (reasons + 16 * supervised).tolist() == code.tolist()


@pytest.mark.parametrize(("size", "stored"), [(500, "<u2"), (1 << 16, "<u2"), ((1 << 16) + 1, "<u4")])
def test_two_bytes_hold_ids_below_65536(size: int, stored: str) -> None:
    assert prepared.token_type(size) == stored


def test_every_reason_fits_into_a_run() -> None:
    assert max(Reason) < 16


def test_a_file_of_conversations_is_not_to_be_deleted(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").touch()
    with pytest.raises(DataError) as raised:
        Prepared.open(tmp_path / "mine.jsonl")
    told = f"{tmp_path}/mine.jsonl is a file and not prepared data: run `trainer data prepare {tmp_path}/mine.jsonl"
    assert str(raised.value).startswith(told)
