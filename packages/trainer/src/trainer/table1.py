"""Table 1 of the paper (arXiv 2306.04751v1) as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reported:
    """A row of the table; lengths are means over messages, in tokens of the LLaMA tokenizer without template."""

    instances: int
    rounds: float
    prompt: float
    completion: float


#: Name of the source -> what the paper says of it.
TABLE_1 = {
    "super_ni": Reported(96_913, 1.0, 291.1, 38.7),
    "cot": Reported(100_000, 1.0, 266.0, 53.2),
    "flan_v2": Reported(100_000, 1.0, 355.7, 31.2),
    "dolly": Reported(15_011, 1.0, 118.1, 91.3),
    "oasst1": Reported(34_795, 1.6, 34.8, 212.5),
    "self_instruct": Reported(82_439, 1.0, 41.5, 29.3),
    "unnatural_instructions": Reported(68_478, 1.0, 107.8, 23.6),
    "alpaca": Reported(52_002, 1.0, 27.8, 64.6),
    "code_alpaca": Reported(20_022, 1.0, 35.6, 67.8),
    "gpt4_alpaca": Reported(52_002, 1.0, 28.0, 161.8),
    "baize": Reported(210_311, 3.1, 17.6, 52.8),
    "sharegpt": Reported(168_864, 3.2, 71.0, 357.8),
}
