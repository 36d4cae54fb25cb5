"""Runs completions with their problems' tests, in the sandbox."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from evalkit import Example
from evalkit.types import Answer, Finding, Verdict
from evalkit_codex_eval.problems import check, program

if TYPE_CHECKING:
    from evalkit_sandbox import Limits, Outcome, Program, Standing

#: Seconds for a program and its test, as in the original.
SECONDS = 3.0


class Sample(NamedTuple):
    """One of the completions of a problem."""

    position: int
    number: int
    example: str

    def __repr__(self) -> str:
        return f"{self.example}, sample {self.number}"


class Tests:
    """The verifier of Codex-Eval: a completion passes if it passes its problem's tests."""

    def __init__(self, *, strict_wall: bool = False) -> None:
        self._strict_wall = strict_wall
        self._standing: Standing | None = None

    def ready(self, *, unsafe_code: bool) -> Mapping[str, Any]:
        """Prove the sandbox; below level B, refuse without the user's consent."""
        # Late, here and below: a list of benchmarks needs none of it.
        from evalkit_sandbox import prove, require

        if self._standing is None:
            self._standing = prove()
        require(self._standing, unsafe_code=unsafe_code)
        return self._standing.record(self._limits())

    def findings(self) -> Sequence[Finding]:
        """What a better sandbox would take, where this one is not the best."""
        from evalkit_sandbox import findings

        return tuple(findings(self._standing)) if self._standing else ()

    def verdicts(self, answers: Iterable[tuple[int, Example, Answer]]) -> Iterator[tuple[int, Verdict]]:
        """Yield the verdict on each answer; as many programs run at a time as there are cores."""
        from evalkit_sandbox import Sandbox, prove, require

        open_: dict[int, list[Outcome | None]] = {}

        def programs() -> Iterator[tuple[Sample, Program]]:
            for position, example, answer in answers:
                open_[position] = [None] * len(answer)
                about = check(example)
                for number, completion in enumerate(answer):
                    yield Sample(position, number, example.id), program(example, completion, about)

        standing = self._standing or prove()
        if standing is not self._standing:  # nobody has consented to anything
            require(standing, unsafe_code=False)
        with Sandbox(layers=standing.layers, limits=self._limits()) as sandbox:
            for sample, outcome in sandbox.run_all(programs()):
                outcomes = open_[sample.position]
                outcomes[sample.number] = outcome
                if all(outcomes):
                    del open_[sample.position]
                    yield sample.position, _verdict([one for one in outcomes if one])

    def _limits(self) -> Limits:
        from evalkit_sandbox import Limits

        return Limits(work=SECONDS, idle=SECONDS, wall=SECONDS if self._strict_wall else 0.0)


def _verdict(outcomes: list[Outcome]) -> Verdict:
    return Verdict(
        passed=tuple(one.passed for one in outcomes),
        reasons=tuple(one.reason for one in outcomes),
        measured={name: tuple(getattr(one, name) for one in outcomes) for name in ("wall", "cpu", "work", "memory")},
    )
