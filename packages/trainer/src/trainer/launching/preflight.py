"""Before the first collective: all ranks compare what they were started with, so that a difference is no hang.

Ranks meet at the rendezvous' own store (MASTER_ADDR, MASTER_PORT). Each publishes its card; rank 0 judges all of them
and publishes a verdict; every rank raises the same sentence, or goes on.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

from trainer.errors import TrainerError
from trainer.launching import identity
from trainer.training.settings import Settings

#: How long rank 0 waits for the others, and they for it; launchers start ranks within seconds of each other.
SECONDS = 60.0
#: How long a file that rank 0 wrote may take to be seen over a network's file system.
_FILE_SECONDS = 10.0

Cards: TypeAlias = Mapping[int, Mapping[str, str]]
#: A server must live until the process group, which meets at the same port, has taken it over.
_kept: list[Any] = []


def check(settings: Settings, rank: int, world: int, problem: str = "") -> None:
    """Raise TrainerError, on every rank alike, where the ranks cannot train together; return where they can.

    Compared are the settings, the prepared data, the model's folder, the newest checkpoint, trainer's code and versions
    of Python and libraries; then, whether all ranks see the run folder that rank 0 sees. TRAINER_PREFLIGHT_SECONDS
    changes how long ranks wait for each other. ``problem`` is what this rank knows already, and all of them then raise.
    """
    if not 0 <= rank < world:
        raise TrainerError(f"RANK is {rank} and WORLD_SIZE is {world}: ranks count from 0 to {world - 1}.")
    if settings.batch < world:
        raise TrainerError(
            f"A batch of {settings.batch} examples cannot be shared out over {world} ranks: start fewer, or set batch."
        )
    if world == 1:
        if problem:
            raise TrainerError(problem)
        return
    seconds = float(os.environ.get("TRAINER_PREFLIGHT_SECONDS", SECONDS))
    meeting = _Meeting(store=_open(rank, world, seconds), rank=rank, world=world, seconds=seconds)
    _kept.append(meeting.store)
    card = {"error": problem} if problem else _own_card(settings)
    meeting.agree("cards", {**card, "world size": str(world), **_host()}, judge_cards)
    marker = Path(settings.out) / f".preflight-{meeting.token()}"
    try:
        meeting.agree("writing", {**_write(marker, rank), **_host()}, _judge_writing)
        meeting.agree("seeing", {"seen": str(_seen(marker)), **_host()}, _judge_seeing(settings.out))
    finally:
        if rank == 0:
            with suppress(OSError):  # where it could not be written it cannot be removed
                marker.unlink()


def judge_cards(cards: Cards, world: int) -> str:
    """What keeps the ranks of these cards from training together, as a sentence; or nothing.

    A card that most ranks share is right; where no card is, that of the lowest rank.
    """
    for rank, card in sorted(cards.items()):
        if "error" in card:
            return f"{_name(rank, cards)} cannot start: {card['error']}"
    plain = {rank: {key: value for key, value in card.items() if key != "host"} for rank, card in cards.items()}
    counts = Counter(json.dumps(card, sort_keys=True) for _, card in sorted(plain.items()))
    usual = json.loads(counts.most_common(1)[0][0])
    odd = [rank for rank, card in sorted(plain.items()) if card != usual]
    if odd:
        first = plain[odd[0]]
        keys = [key for key in {**first, **usual} if usual.get(key) != first.get(key)]
        told = "; ".join(f"{key} is {first.get(key)} there and {usual.get(key)} elsewhere" for key in keys[:3])
        more = f"; {len(keys) - 3} more differ" if len(keys) > 3 else ""
        rest = [rank for rank in sorted(plain) if rank not in odd]
        others = f"the {len(rest)} others" if len(rest) > 1 else _name(rest[0], cards)
        names = _few([_name(rank, cards).removeprefix("Rank ") for rank in odd])
        return f"Rank{_s(odd)} {names} differ{'' if len(odd) > 1 else 's'} from {others}: {told}{more}."
    return _absent(cards, world)


def _absent(cards: Cards, world: int) -> str:
    missing = [rank for rank in range(world) if rank not in cards]
    if not missing:
        return ""
    names = _few(list(map(str, missing)))
    them = "the machines that start them" if len(missing) > 1 else "the machine that starts it"
    there = f"{len(cards)} of {world} ranks are there"
    return f"Rank{_s(missing)} {names} never arrived ({there}): look at the output of {them}."


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def _s(ranks: Sequence[int]) -> str:
    return "s" if len(ranks) > 1 else ""


def _judge_writing(cards: Cards, world: int) -> str:
    error = cards.get(0, {}).get("error")
    return f"The run folder cannot be written: {error}." if error else _absent(cards, world)


def _judge_seeing(out: str) -> Callable[[Cards, int], str]:
    def judge(cards: Cards, world: int) -> str:
        blind = [rank for rank, card in sorted(cards.items()) if card["seen"] != "True"]
        if blind:
            return (
                f"{_name(blind[0], cards)} does not see the run folder of rank 0, {out}: "
                "all machines need the same one, as checkpoints are written together."
            )
        return _absent(cards, world)

    return judge


def _name(rank: int, cards: Cards) -> str:
    return f"Rank {rank} ({cards[rank]['host']})"


def _host() -> dict[str, str]:
    return {"host": socket.gethostname()}


def _own_card(settings: Settings) -> dict[str, str]:
    """The card of this rank, or why there is none: the others need not wait to learn it."""
    try:
        return identity.card(settings)
    except (TrainerError, OSError) as error:
        return {"error": str(error)}


def _write(marker: Path, rank: int) -> dict[str, str]:
    if rank:
        return {}
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError as error:
        return {"error": f"{error.strerror}, {marker.parent}"}
    return {}


def _seen(marker: Path) -> bool:
    end = time.monotonic() + _FILE_SECONDS
    while True:
        # Listing a folder renews what a network's file system remembers of it.
        if marker.parent.is_dir() and marker in marker.parent.iterdir():
            return True
        if time.monotonic() >= end:
            return False
        time.sleep(0.1)


def _open(rank: int, world: int, seconds: float) -> Any:
    """The store where ranks meet, which is the one that torch's process group will meet at, too."""
    from torch.distributed import PrefixStore, TCPStore

    try:
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    except (KeyError, ValueError):
        raise TrainerError(
            f"WORLD_SIZE is {world}, and MASTER_ADDR and MASTER_PORT do not say where ranks meet: use `trainer launch`."
        ) from None
    # torchrun's agent serves a store at this address already; elsewhere rank 0 does.
    serves = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    if not serves:
        _await_server(host, port, seconds)
    try:
        store = TCPStore(host, port, None, serves, timedelta(seconds=seconds), multi_tenant=True)
    except RuntimeError as error:
        why = "the port is in use, choose another" if "EADDRINUSE" in str(error) else str(error).splitlines()[0]
        raise TrainerError(f"Rank {rank} cannot {'serve' if serves else 'meet'} at {host}:{port}: {why}.") from None
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return PrefixStore(f"trainer/preflight/{attempt}", store)


def _await_server(host: str, port: int, seconds: float) -> None:
    """Wait until somebody serves there; the store's own waiting ends in pages of C++ frames."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host, port), timeout=seconds).close()
            return
        except OSError as error:
            if time.monotonic() >= end:
                raise TrainerError(
                    f"Rank 0 did not answer at {host}:{port} within {seconds:g} seconds ({error.strerror or error}): "
                    "it was not started, has failed, or a firewall is between."
                ) from None
        time.sleep(0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Meeting:
    """Ranks at one store."""

    store: Any
    rank: int
    world: int
    seconds: float

    def agree(self, topic: str, card: Mapping[str, str], judge: Callable[[Cards, int], str]) -> None:
        """Publish a card, and raise what rank 0 finds in all of them."""
        try:
            verdict = self._exchange(topic, card, judge)
        except RuntimeError as error:
            raise TrainerError(
                f"Rank 0 fell silent before all ranks had compared what they were started with ({topic}: "
                f"{str(error).splitlines()[0]}): look at its output."
            ) from None
        if verdict:
            raise TrainerError(verdict)

    def _exchange(self, topic: str, card: Mapping[str, str], judge: Callable[[Cards, int], str]) -> str:
        if self.store.add(f"{topic}/count/{self.rank}", 1) > 1:
            self.store.set(f"{topic}/twice", str(self.rank))
        else:
            self.store.set(f"{topic}/{self.rank}", json.dumps(card))
        if self.rank == 0 and not self.store.check([f"{topic}/judging"]):
            self.store.set(f"{topic}/judging", "")
            cards = self._collect(topic)
            verdict = self._twice(topic) or judge(cards, self.world)
            self.store.set(f"{topic}/verdict", verdict)
            if verdict:
                self._wait_for_readers(topic, len(cards) - 1)
            return verdict
        # Rank 0 may have begun to wait as late as this rank gave up on it.
        self.store.wait([f"{topic}/verdict"], timedelta(seconds=2 * self.seconds))
        verdict = str(self.store.get(f"{topic}/verdict").decode())
        self.store.add(f"{topic}/read", 1)
        return verdict

    def token(self) -> str:
        """A name that only this start has, the same on all ranks."""
        return str(self.store.compare_set("token", "", uuid.uuid4().hex[:12]).decode())

    def _collect(self, topic: str) -> Cards:
        cards: dict[int, Mapping[str, str]] = {}
        end = time.monotonic() + self.seconds
        while True:
            late = time.monotonic() >= end  # whoever came meanwhile is seen once more, however long this was held up
            for rank in range(self.world):
                if rank not in cards and self.store.check([f"{topic}/{rank}"]):
                    cards[rank] = json.loads(self.store.get(f"{topic}/{rank}"))
                    # Nobody needs to wait for the rest once it is known that this cannot work.
                    if "error" in cards[rank] or cards[rank].get("world size") != cards[0].get("world size"):
                        return cards
            if late or len(cards) == self.world or self._twice(topic):
                return cards
            time.sleep(0.05)

    def _twice(self, topic: str) -> str:
        if not self.store.check([f"{topic}/twice"]):
            return ""
        rank = self.store.get(f"{topic}/twice").decode()
        return f"Two processes call themselves rank {rank}: give each machine a node rank of its own."

    def _wait_for_readers(self, topic: str, readers: int) -> None:
        """Rank 0 may serve the store: it must not leave before the others have read why."""
        end = time.monotonic() + self.seconds
        while self.store.add(f"{topic}/read", 0) < readers and time.monotonic() < end:
            time.sleep(0.05)
