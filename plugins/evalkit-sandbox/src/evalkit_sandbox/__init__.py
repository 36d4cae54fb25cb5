"""Runs untrusted Python programs against checks that they cannot touch."""

from __future__ import annotations

from evalkit_sandbox.command import command
from evalkit_sandbox.inside.layers import LAYERS, Limits
from evalkit_sandbox.levels import Standing, findings, prove, require
from evalkit_sandbox.program import REASONS, Check, Outcome, Program
from evalkit_sandbox.sandbox import Sandbox

__all__ = [
    "LAYERS",
    "REASONS",
    "Check",
    "Limits",
    "Outcome",
    "Program",
    "Sandbox",
    "Standing",
    "command",
    "findings",
    "prove",
    "require",
]
