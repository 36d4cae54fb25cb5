"""Ranks that were started with different things are told so, each of them, instead of waiting for each other."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainer.errors import TrainerError
from trainer.launching import identity, preflight
from trainer.launching.ports import meeting_port
from trainer.training.settings import Settings

CARD = {"host": "a", "learning_rate": "2e-05", "zero": "2", "torch": "2.13.0", "world size": "4"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose model and data are there, as far as a preflight looks."""
    for name in ("model", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "data" / "prepared.json").write_text(json.dumps({"format": 1, "key": "5eed" * 16}))
    return Settings(model=str(tmp_path / "model"), data=str(tmp_path / "data"), out=str(tmp_path / "out"))


@pytest.fixture
def meeting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A free port to meet at."""
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    kept: list[Any] = []
    monkeypatch.setattr(preflight, "_kept", kept)
    with meeting_port() as port:
        for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, str(value))
        yield
        kept.clear()


def start(*ranks: tuple[int, int, Settings]) -> list[str]:
    """Check from a thread for each (rank, world, settings), in place of its process; what each was told."""
    told = [""] * len(ranks)

    def run(place: int) -> None:
        rank, world, settings = ranks[place]
        try:
            preflight.check(settings, rank, world)
        except TrainerError as error:
            told[place] = str(error)

    threads = [
        threading.Thread(target=run, args=(place,), name=f"rank {rank}") for place, (rank, *_) in enumerate(ranks)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def test_equal_cards_pass() -> None:
    assert preflight.judge_cards({rank: {**CARD, "host": f"h{rank}"} for rank in range(4)}, 4) == ""


def test_the_rank_that_differs_is_named_with_what_differs() -> None:
    cards = dict.fromkeys(range(4), CARD) | {2: {**CARD, "host": "b", "zero": "3", "torch": "2.12.0"}}
    what = "zero is 3 there and 2 elsewhere; torch is 2.12.0 there and 2.13.0 elsewhere"
    says = f"Rank 2 (b) differs from the 3 others: {what}."
    assert preflight.judge_cards(cards, 4) == says


def test_the_odd_one_may_be_rank_0() -> None:
    cards = dict.fromkeys(range(4), CARD) | {0: {**CARD, "zero": "3"}}
    assert preflight.judge_cards(cards, 4) == "Rank 0 (a) differs from the 3 others: zero is 3 there and 2 elsewhere."


def test_of_two_the_other_differs_from_rank_0() -> None:
    says = "Rank 1 (b) differs from Rank 0 (a): zero is 3 there and 2 elsewhere."
    assert preflight.judge_cards({0: CARD, 1: {**CARD, "host": "b", "zero": "3"}}, 2) == says


def test_several_that_differ_are_all_named() -> None:
    cards = dict.fromkeys(range(5), CARD) | {rank: {**CARD, "zero": "3"} for rank in (1, 3)}
    says = "Ranks 1 (a), 3 (a) differ from the 3 others: zero is 3 there and 2 elsewhere."
    assert preflight.judge_cards(cards, 5) == says


def test_of_two_halves_that_of_rank_0_is_right_and_of_many_a_few_are_named() -> None:
    cards = dict.fromkeys(range(12), CARD) | {key: {**CARD, "zero": "3"} for key in range(12, 24)}
    odd = ", ".join(f"{rank} (a)" for rank in range(12, 20))
    says = f"Ranks {odd}, ... differ from the 12 others: zero is 3 there and 2 elsewhere."
    assert preflight.judge_cards(cards, 24) == says


def test_ranks_that_never_arrived_are_named() -> None:
    says = "Ranks 1, 3 never arrived (2 of 4 ranks are there): look at the output of the machines that start them."
    assert preflight.judge_cards({0: CARD, 2: CARD}, 4) == says


def test_a_rank_that_cannot_start_is_named_before_any_difference() -> None:
    cards = {0: CARD, 1: {"host": "b", "error": "d holds no prepared data.", "world size": "4"}}
    assert preflight.judge_cards(cards, 4) == "Rank 1 (b) cannot start: d holds no prepared data."


@pytest.mark.parametrize(
    ("rank", "world", "says"),
    [
        (2, 2, "RANK is 2 and WORLD_SIZE is 2: ranks count from 0 to 1."),
        (0, 129, "A batch of 128 examples cannot be shared out over 129 ranks: start fewer, or set batch."),
    ],
)
def test_a_wrong_world_is_told_before_anybody_is_waited_for(
    settings: Settings, rank: int, world: int, says: str
) -> None:
    with pytest.raises(TrainerError, match=f"^{re.escape(says)}$"):
        preflight.check(settings, rank, world)


def test_a_single_rank_needs_nobody(settings: Settings) -> None:
    preflight.check(settings, 0, 1)
    assert not Path(settings.out).exists()


def test_a_card_tells_models_apart_by_what_is_in_them(settings: Settings, tmp_path: Path) -> None:
    here = identity.card(settings)
    elsewhere = (tmp_path / "model").rename(tmp_path / "moved")
    assert identity.card(replace(settings, model=str(elsewhere))) == here
    (elsewhere / "model.safetensors").write_bytes(bytes(200_000))
    other = identity.card(replace(settings, model=str(elsewhere)))
    assert {key for key in here if here[key] != other[key]} == {"the model"}
    (elsewhere / "model.safetensors").write_bytes(bytes(199_999) + b"\1")
    assert identity.card(replace(settings, model=str(elsewhere)))["the model"] != other["the model"]


def test_a_card_tells_of_the_newest_whole_checkpoint(settings: Settings) -> None:
    assert identity.card(settings)["the newest checkpoint"] == "none"
    for name in ("step-000010", "step-000020", "step-000030.part"):
        (Path(settings.out) / "checkpoints" / name).mkdir(parents=True)
    assert identity.card(settings)["the newest checkpoint"] == "step-000020"


@pytest.mark.torch
def test_ranks_that_agree_go_on_and_leave_no_trace(settings: Settings, meeting: None) -> None:
    assert start((0, 3, settings), (1, 3, settings), (2, 3, settings)) == ["", "", ""]
    assert list(Path(settings.out).iterdir()) == []


@pytest.mark.torch
def test_a_run_folder_that_cannot_be_written_is_told_to_all(settings: Settings, meeting: None, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    out = str(tmp_path / "file" / "out")
    other = replace(settings, out=out)
    says = f"The run folder cannot be written: Not a directory, {out}."
    assert start((0, 2, other), (1, 2, other)) == [says] * 2


@pytest.mark.torch
def test_a_rank_that_has_another_run_folder_is_named(
    settings: Settings, meeting: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the place of a second machine without the first one's file system: rank 1 looks somewhere else.
    own = {"rank 0": tmp_path, "rank 1": tmp_path / "elsewhere"}
    seen = preflight._seen
    monkeypatch.setattr(preflight, "_FILE_SECONDS", 0.0)
    monkeypatch.setattr(preflight, "_seen", lambda marker: seen(own[threading.current_thread().name] / marker))
    other = replace(settings, out=str((tmp_path / "out").relative_to(tmp_path)))
    monkeypatch.chdir(tmp_path)
    says = (
        f"Rank 1 ({socket.gethostname()}) does not see the run folder of rank 0, out: "
        "all machines need the same one, as checkpoints are written together."
    )
    assert start((0, 2, other), (1, 2, other)) == [says] * 2
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.torch
def test_every_rank_is_told_the_same(settings: Settings, meeting: None) -> None:
    name = socket.gethostname()
    says = f"Rank 1 ({name}) differs from the 2 others: learning_rate is 0.1 there and 2e-05 elsewhere."
    other = replace(settings, learning_rate=0.1)
    assert start((0, 3, settings), (1, 3, other), (2, 3, settings)) == [says] * 3


@pytest.mark.torch
def test_a_rank_without_data_is_named_to_all(settings: Settings, meeting: None, tmp_path: Path) -> None:
    lost = str(tmp_path / "lost")
    says = (
        f"Rank 1 ({socket.gethostname()}) cannot start: {lost} holds no prepared data, or not all of it yet: "
        f"run `trainer data prepare FILE... --to {lost}`."
    )
    # The third rank never comes, and nobody waits for it.
    assert start((0, 3, settings), (1, 3, replace(settings, data=lost))) == [says] * 2


@pytest.mark.torch
def test_a_rank_that_never_arrives_is_named(settings: Settings, meeting: None, monkeypatch: pytest.MonkeyPatch) -> None:
    collect = preflight._Meeting._collect

    def collected(self: Any, topic: str) -> Any:
        self.store.wait([f"{topic}/1"])
        return collect(replace(self, seconds=0.2), topic)  # it waits no longer once rank 1 is there

    monkeypatch.setattr(preflight._Meeting, "_collect", collected)
    says = "Rank 2 never arrived (2 of 3 ranks are there): look at the output of the machine that starts it."
    assert start((0, 3, settings), (1, 3, settings)) == [says] * 2


def test_who_came_while_rank_0_was_held_up_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    cards, now = {"cards/0": json.dumps(CARD)}, [0.0]

    def sleep(_: float) -> None:
        cards["cards/1"] = json.dumps(CARD)
        now[0] = 1000.0

    store = SimpleNamespace(check=lambda keys: keys[0] in cards, get=cards.__getitem__)
    monkeypatch.setattr(preflight, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    found = preflight._Meeting(store=store, rank=0, world=3, seconds=60.0)._collect("cards")
    assert found == {0: CARD, 1: CARD}


def test_rank_0_stays_until_a_slow_rank_has_read_why(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    store = SimpleNamespace(add=lambda key, _: int(now[0] > 50))
    monkeypatch.setattr(preflight, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    preflight._Meeting(store=store, rank=0, world=2, seconds=60.0)._wait_for_readers("cards", 1)
    assert 50 < now[0] < 51


@pytest.mark.torch
def test_ranks_that_think_of_different_worlds_are_named(settings: Settings, meeting: None) -> None:
    name = socket.gethostname()
    says = f"Rank 1 ({name}) differs from Rank 0 ({name}): world size is 2 there and 3 elsewhere."
    assert start((0, 3, settings), (1, 2, settings)) == [says] * 2


@pytest.mark.torch
def test_two_processes_of_one_rank_are_told(settings: Settings, meeting: None) -> None:
    says = "Two processes call themselves rank 1: give each machine a node rank of its own."
    assert start((0, 3, settings), (1, 3, settings), (1, 3, settings)) == [says] * 3


@pytest.mark.torch
def test_a_missing_rank_0_is_told_with_the_address(
    settings: Settings, meeting: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINER_PREFLIGHT_SECONDS", "1")
    (told,) = start((1, 2, settings))
    assert re.fullmatch(
        r"Rank 0 did not answer at 127\.0\.0\.1:\d+ within 1 seconds \(Connection refused\): "
        r"it was not started, has failed, or a firewall is between\.",
        told,
    )


@pytest.mark.torch
def test_a_port_in_use_is_told(settings: Settings, meeting: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("MASTER_PORT", str(port))
        with pytest.raises(TrainerError, match=rf"^Rank 0 cannot serve at 127.0.0.1:{port}: the port is in use"):
            preflight.check(settings, 0, 2)


def test_a_world_without_a_meeting_place_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(TrainerError, match=r"^WORLD_SIZE is 2, and MASTER_ADDR and MASTER_PORT do not say"):
        preflight.check(settings, 0, 2)


@pytest.mark.torch
def test_what_one_rank_knows_already_is_told_by_all(meeting: None, settings: Settings) -> None:
    pytest.importorskip("torch")
    told = ["", ""]

    def run(rank: int, problem: str) -> None:
        try:
            preflight.check(settings, rank, 2, problem)
        except TrainerError as error:
            told[rank] = str(error)

    threads = [threading.Thread(target=run, args=one) for one in ((0, "Another process trains in out."), (1, ""))]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert told[0] == told[1]
    assert told[0].endswith("cannot start: Another process trains in out.")
