"""Who has which requests, without a cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from evalkit import GenerateRequest, LikelihoodRequest, Request

pytest.importorskip("evalkit_ray")

from evalkit_ray.ledger import REQUESTS, Job, Ledger


def ledger(n: int, *, budget: int = 640, cost: int = 10) -> Ledger:
    """So many requests of so many tokens each; a piece is a 64th of the budget."""
    requests = ((position, GenerateRequest(prompt=str(position), max_tokens=1)) for position in range(n))
    return Ledger(requests, cost=lambda _: cost, budget=budget)


def positions(jobs: list[Job]) -> list[int]:
    return [job.position for job in jobs]


def answer(book: Ledger, worker: int, *jobs: Job) -> list[int]:
    found = (book.answered(worker, job.serial) for job in jobs)
    return [job.position for job in found if job]


def test_a_piece_is_so_many_tokens_and_a_replica_gets_no_more_than_its_budget() -> None:
    book = ledger(1000)
    pieces = [positions(book.give(0)) for _ in range(65)]
    assert pieces[:3] == [[0], [1], [2]]
    assert sum(map(len, pieces)) == 64
    assert book.load(0) == 640


def test_short_requests_are_handed_out_by_number() -> None:
    assert len(ledger(1000, budget=10**6, cost=1).give(0)) == REQUESTS


def test_a_request_beyond_the_budget_goes_alone() -> None:
    book = ledger(3, cost=10_000)
    assert positions(book.give(0)) == [0]
    assert book.give(0) == []
    assert positions(book.give(1)) == [1]


def test_requests_are_read_only_as_they_are_handed_out() -> None:
    read: list[int] = []

    def requests() -> Iterator[tuple[int, Request]]:
        for position in range(1000):
            read.append(position)
            yield position, LikelihoodRequest(prompt="", continuations=())

    book = Ledger(requests(), cost=lambda _: 10, budget=640)
    book.give(0)
    assert read == [0]


def test_an_answer_counts_once_and_its_other_holders_are_named() -> None:
    book = ledger(1)
    (job,) = book.give(0)
    assert book.give(1) == []
    assert book.copy(1) == [job]
    assert book.copy(2) == [], "it has been copied"
    first = book.answered(1, job.serial)
    assert first is job
    assert job.holders == {0}
    assert book.answered(0, job.serial) is None
    assert (book.load(0), book.load(1), book.done) == (0, 0, True)


def test_copies_begin_at_the_end_at_which_their_first_holder_comes_last() -> None:
    book = ledger(3)
    for _ in range(3):
        book.give(0)
    assert [positions(book.copy(1)) for _ in range(4)] == [[2], [1], [0], []]
    assert book.copies == 3


def test_what_is_given_back_goes_to_the_next_in_order() -> None:
    book = ledger(4)
    jobs = [job for _ in range(4) for job in book.give(0)]
    book.given_back(0, [job.serial for job in jobs[2:]])
    assert book.load(0) == 20
    assert positions(book.give(1)) + positions(book.give(1)) == [2, 3]


def test_what_a_lost_replica_had_is_asked_again_after_all_that_is_fresh() -> None:
    book = ledger(4)
    book.give(0)
    assert book.lost(0) == []
    assert [positions(book.give(1)) for _ in range(4)] == [[1], [2], [3], [0]]
    assert book.again == 1


def test_a_copy_outlives_the_replica_that_had_it_first() -> None:
    book = ledger(1)
    (job,) = book.give(0)
    book.copy(1)
    assert book.lost(0) == []
    assert book.give(2) == []
    assert answer(book, 1, job) == [0]
    assert book.done


def test_suspects_go_in_ever_smaller_company_and_only_the_guilty_one_fails() -> None:
    """Position 5 kills whoever has it; nobody else comes to harm."""
    book = ledger(64)
    failed: list[int] = []
    answered: list[int] = []
    company = []
    for worker in range(1000):
        held = []
        while piece := book.give(worker):
            held += piece
        if not held:
            break
        if 5 in positions(held):
            company.append(len(held))
            failed += positions(book.lost(worker))
        else:
            answered += answer(book, worker, *held)
    assert company == [64, 8, 1]
    assert failed == [5]
    assert sorted(answered) == [position for position in range(64) if position != 5]
    assert book.done


def test_a_suspect_is_asked_again_however_small_the_budget() -> None:
    book = ledger(1, budget=1)
    book.give(0)
    book.lost(0)
    assert positions(book.give(1)) == [0]
    book.lost(1)
    assert positions(book.give(2)) == [0]
    assert positions(book.lost(2)) == [0]


def test_suspects_are_not_copied() -> None:
    book = ledger(2)
    book.give(0)
    book.lost(0)
    assert positions(book.give(1)) == [1]
    assert positions(book.give(1)) == [0]
    assert positions(book.copy(2)) == [1]


def test_a_request_that_kills_fails_in_the_form_that_was_asked() -> None:
    texts = Job(position=0, request=GenerateRequest(prompt="", max_tokens=1, n=3), cost=1, deaths=3).failed()
    choice = Job(position=0, request=LikelihoodRequest(prompt="", continuations=(" A",)), cost=1, deaths=3).failed()
    assert texts.error == choice.error == "3 replicas died, one after the other, while they worked on this request."
    assert len(getattr(texts, "texts", ())) == 3
