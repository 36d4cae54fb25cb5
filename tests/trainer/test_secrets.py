"""What is secret does not reach a log."""

from __future__ import annotations

import pytest

from trainer.watching.secrets import redact


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("OPENAI_API_KEY=abc123 evalkit run", "OPENAI_API_KEY=*** evalkit run"),
        ("run --api-key abc123 --model m", "run --api-key *** --model m"),
        ("run --api-key=abc --model m", "run --api-key=*** --model m"),
        ('{"password": "two words", "n": 1}', '{"password": "*** words", "n": 1}'),
        ("curl -H 'Authorization: Bearer abcdef.123456'", "curl -H 'Authorization: Bearer ***'"),
        ("git clone https://me:pw@host/x", "git clone https://***@host/x"),
        ("token hf_abcdefghijklmnop is bad", "token *** is bad"),
        ("AKIAABCDEFGHIJKLMNOP", "***"),
    ],
)
def test_a_secret_is_struck_out(text: str, told: str) -> None:
    assert redact(text, {}) == told


@pytest.mark.parametrize(
    "text",
    [
        "evalkit run -m hf:out/model -b gsm --out runs",
        "12 tokens a second, tokens = 4096",
        '{"max_tokens": 512, "n": 1}',
        "monkey=x",
        "https://host:8000/v1",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text, {}) == text


def test_what_the_environment_calls_a_secret_is_struck_out_wherever_it_stands() -> None:
    environment = {"JUDGE_TOKEN": "correct horse", "HOME": "/home/me/long", "TOKENIZERS_PARALLELISM": "false-ish"}
    assert (
        redact("said correct horse in /home/me/long, false-ish", environment) == "said *** in /home/me/long, false-ish"
    )
