"""Verification: answers that have to be run, with verdicts that are kept and not made twice."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.evalkit.small import Notes, Recorder, echo, run_small

from evalkit import Benchmark, Example, GenerateRequest, Reading, Text
from evalkit.errors import EvalkitError
from evalkit.extract import whole_text
from evalkit.journal import Journal
from evalkit.run import summarize
from evalkit.store import RunFolder
from evalkit.types import Answer, Verdict


class Counting:
    """Passes answers that end in an even digit, last one first, and counts what it was given."""

    def __init__(
        self, *, stops_after: int | None = None, ready: bool = True, says: Mapping[str, Any] | None = None
    ) -> None:
        self.seen: list[str] = []
        self._stops_after = stops_after
        self._ready = ready
        self._says = says or {"level": "test"}

    def ready(self, *, unsafe_code: bool) -> Mapping[str, Any]:
        if not self._ready and not unsafe_code:
            raise EvalkitError("There is no sandbox here.")
        return self._says

    def verdicts(self, answers: Iterable[tuple[int, Example, Answer]]) -> Iterator[tuple[int, Verdict]]:
        for position, example, answer in reversed(list(answers)):
            if len(self.seen) == self._stops_after:
                raise KeyboardInterrupt
            self.seen.append(example.id)
            passed = int(str(answer)[-1]) % 2 == 0
            reason = "passed" if passed else "failed"
            yield position, Verdict(passed=(passed,), reasons=(reason,), measured={"seconds": (0.5,)})


class Blank(Recorder):
    """Says nothing."""

    def text(self, request: GenerateRequest) -> Text:
        return Text(text=" ")


def verified(verify: Counting, **fields: Any) -> Benchmark[Any]:
    def share(verdict: Verdict, example: Example) -> float:
        return sum(verdict.passed) / len(verdict.passed)

    reading = Reading(name="plain", extract=whole_text, metrics={"passed": share})
    return replace(echo(**fields), verify=verify, readings=(reading,))


def scored_again(summary: Mapping[str, Any], verify: Counting, *, unsafe_code: bool = False) -> dict[str, Any]:
    """What ``evalkit score`` says of a run."""
    folder = RunFolder.existing(Path(summary["run"]))
    with Journal(folder.path) as journal:
        return summarize(folder, journal, verified(verify), Notes(), unsafe_code=unsafe_code)


def forget_a_verdict(summary: Mapping[str, Any]) -> None:
    """Take the last line from the verdicts, as if verification had been interrupted there."""
    file = Path(summary["run"], "verdicts.jsonl")
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))


def records(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(summary["run"]) / "records.jsonl").read_text().splitlines()]


def test_metrics_judge_the_verdict(tmp_path: Path) -> None:
    summary = run_small(verified(Counting()), Recorder(), tmp_path)
    assert summary["metrics"]["passed"]["value"] == pytest.approx(0.5)
    assert summary["verified"] == {"level": "test"}
    assert [record["verdict"] for record in records(summary)][:2] == [
        {"passed": [True], "reasons": ["passed"]},
        {"passed": [False], "reasons": ["failed"]},
    ]


def test_what_was_measured_is_kept_apart_from_the_records(tmp_path: Path) -> None:
    summary = run_small(verified(Counting()), Recorder(), tmp_path)
    kept = (Path(summary["run"]) / "verdicts.jsonl").read_text().splitlines()
    assert [json.loads(line)["measured"] for line in kept] == [{"seconds": [0.5]}] * 6
    assert "seconds" not in (Path(summary["run"]) / "records.jsonl").read_text()


def test_no_answer_is_verified_twice(tmp_path: Path) -> None:
    first = run_small(verified(Counting()), Recorder(), tmp_path)
    again = Counting()
    assert run_small(verified(again), Recorder(), tmp_path) == first
    assert again.seen == []


def test_an_interrupted_verification_goes_on(tmp_path: Path) -> None:
    with pytest.raises(EvalkitError, match=r"Stopped: 6 of 6 responses are kept"):
        run_small(verified(Counting(stops_after=2)), Recorder(), tmp_path)
    rest = Counting()
    assert run_small(verified(rest), Recorder(), tmp_path)["metrics"]["passed"]["value"] == pytest.approx(0.5)
    assert sorted(rest.seen) == ["0", "1", "2", "3"]


def test_silence_is_not_verified_and_scores_zero(tmp_path: Path) -> None:
    verifier = Counting()
    summary = run_small(verified(verifier), Blank(), tmp_path)
    assert verifier.seen == []
    assert (summary["unanswered"], summary["metrics"]["passed"]["value"]) == (6, 0.0)


def test_a_run_that_cannot_be_verified_asks_nothing(tmp_path: Path) -> None:
    backend = Recorder()
    with pytest.raises(EvalkitError, match=r"There is no sandbox here\."):
        run_small(verified(Counting(ready=False)), backend, tmp_path)
    assert backend.asked == []
    run_small(verified(Counting(ready=False)), backend, tmp_path, unsafe_code=True)
    assert len(backend.asked) == 6


def test_scoring_again_keeps_word_of_how_the_verdicts_were_made(tmp_path: Path) -> None:
    first = run_small(verified(Counting(says={"level": "A", "notes": ["made in a test"]})), Recorder(), tmp_path)
    never = Counting(ready=False)
    again = scored_again(first, never)
    assert again == first
    assert again["verified"] == {"level": "A", "notes": ["made in a test"]}
    assert never.seen == []


def test_scoring_again_verifies_what_no_verdict_is_kept_of(tmp_path: Path) -> None:
    first = run_small(verified(Counting(says={"level": "A"})), Recorder(), tmp_path)
    forget_a_verdict(first)
    rest = Counting(says={"level": "B"})
    again = scored_again(first, rest)
    assert rest.seen == ["0"]
    assert again["metrics"] == first["metrics"]
    assert again["verified"] == {"level": "B"}


def test_scoring_again_asks_for_consent_only_if_an_answer_is_left(tmp_path: Path) -> None:
    first = run_small(verified(Counting()), Recorder(), tmp_path)
    forget_a_verdict(first)
    with pytest.raises(EvalkitError, match=r"There is no sandbox here\."):
        scored_again(first, Counting(ready=False))
    allowed = Counting(ready=False)
    assert scored_again(first, allowed, unsafe_code=True) == first
    assert allowed.seen == ["0"]
    assert scored_again(first, Counting(ready=False)) == first


def test_without_word_of_how_verdicts_were_made_the_verifier_is_asked(tmp_path: Path) -> None:
    first = run_small(verified(Counting()), Recorder(), tmp_path)
    Path(first["run"], "summary.json").unlink()
    with pytest.raises(EvalkitError, match=r"There is no sandbox here\."):
        scored_again(first, Counting(ready=False))
    says = Counting(says={"level": "now"})
    assert scored_again(first, says)["verified"] == {"level": "now"}
    assert says.seen == []


def test_a_verifiers_notes_stand_with_the_numbers(tmp_path: Path) -> None:
    note = "programs of the model ran without a sandbox"
    plain = run_small(verified(Counting()), Recorder(), tmp_path / "plain")
    noted = run_small(verified(Counting(says={"level": "C", "notes": [note]})), Recorder(), tmp_path / "noted")
    assert [one for one in noted["notes"] if one not in plain["notes"]] == [note]


def test_progress_counts_the_verdicts_that_are_kept_already(tmp_path: Path) -> None:
    first = run_small(verified(Counting()), Recorder(), tmp_path)
    file = Path(first["run"], "verdicts.jsonl")
    file.write_text("".join(file.read_text().splitlines(keepends=True)[-2:]))  # those of the first two examples
    watch = Notes()
    run_small(verified(Counting()), Recorder(), tmp_path, watch=watch)
    assert watch.began == (6, 2)
    assert len(watch.scores) == 4
