"""What is run, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What a program must satisfy; written by a benchmark, never by a model."""

    #: Source of the names that the test stands on: the problem's helpers and imports, and a stand-in for its function.
    setup: str
    #: Source that defines `function`, which takes the candidate's function and raises where it finds fault.
    test: str
    #: The function that a program must define.
    entry_point: str
    function: str = "check"
    #: A program that passes, to see how long one may take; empty for none.
    reference: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One untrusted program and the check that it must pass."""

    source: str
    check: Check


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a program.

    ``reason`` is one of `REASONS`, with the detail that is named there behind a space.
    """

    reason: str
    #: Seconds on the clock, and of processor time.
    wall: float
    cpu: float
    #: Seconds of work: of processor time on a quiet machine of a known speed.
    work: float
    #: Bytes in memory at most.
    memory: int

    @property
    def passed(self) -> bool:
        """Whether the program passed its check."""
        return self.reason == "passed"


#: All that can become of a program; the first alone is a success.
REASONS = {
    "passed": "the check found no fault",
    "wrong-answer": "the check found a fault",
    "exception": "the program or its check raised; NAME of the class",
    "syntax-error": "it is not Python",
    "ended-early": "it left before it had answered",
    "killed": "its process was ended by a SIGNAL",
    "timed-out": "it worked (cpu) or waited (wall) too long",
    "out-of-memory": "it asked for more memory than it may have",
    "not-plain": "it answered with something else than plain data",
    "too-large": "it answered with more than an answer can hold",
    "malformed": "it tried to answer by itself, past its own function",
}
