"""The backend `openai` against a fake API on loopback: what it sends, how it reads replies, what errors become."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.evalkit.killing import positions, stopped, until
from tests.plugins.openai_server import Call, Handler, Reply, Server, numbers, prompt_of, refused, said, written

from evalkit import Finding, GenerateRequest, Generation, Likelihood, LikelihoodRequest
from evalkit.errors import EvalkitError, Interrupted, ModelError
from evalkit.testing import check_backend
from evalkit_openai import OpenAI

SECRET = "sk-test-3f9c2b7d5e1a"
Make = Callable[..., tuple[OpenAI, Server]]


@pytest.fixture
def made() -> Iterator[Make]:
    """Start a server with a handler, and make a backend that asks it."""
    opened: list[Any] = []

    def make(handler: Handler, model: str = "fake", **options: Any) -> tuple[OpenAI, Server]:
        server = Server(handler).__enter__()
        backend = OpenAI(model, base_url=server.url, **options)
        opened.extend((server, backend))
        return backend, server

    yield make
    for one in reversed(opened):
        one.close() if isinstance(one, OpenAI) else one.__exit__()


def ask(backend: OpenAI, **fields: Any) -> Generation:
    """One request's response."""
    request = GenerateRequest(**{"prompt": "Say 7", "max_tokens": 8, "chat": True, **fields})
    ((_, response),) = backend.generate([(0, request)])
    return response


def letters(backend: OpenAI, continuations: tuple[str, ...] = (" A", " B", " C", " D"), **fields: Any) -> Likelihood:
    request = LikelihoodRequest(prompt="Which?\nAnswer:", continuations=continuations, **fields)
    ((_, response),) = backend.likelihood([(0, request)])
    return response


def top(tokens: dict[str, float]) -> dict[str, Any]:
    """The likeliest first tokens in the form of a chat's reply."""
    entries = [{"token": token, "logprob": logprob} for token, logprob in tokens.items()]
    body = said(next(iter(tokens)))
    body["choices"][0]["logprobs"] = {"content": [{**entries[0], "top_logprobs": entries}]}
    return body


# What is sent


def test_a_chat_request_says_what_the_request_says_and_no_more(made: Make) -> None:
    backend, server = made(numbers)
    response = ask(backend)
    assert backend.remarks() == ()
    assert server.calls[0].path == "/v1/chat/completions"
    assert server.calls[0].body == {
        "model": "fake",
        "messages": [{"role": "user", "content": "Say 7"}],
        "max_tokens": 8,
        "temperature": 0.0,
    }
    assert [text.text for text in response.texts] == ["7"]
    assert (response.usage.prompt_tokens, response.usage.completion_tokens) == (20, 2)


def test_a_completions_request_is_the_bare_prompt(made: Make) -> None:
    backend, server = made(lambda call: Reply(content=written(" 7")), api="completions")
    response = ask(backend, chat=False, answer_prefix=" ->", temperature=0.8, top_p=0.9, seed=11, stop=("\n",))
    assert server.calls[0].path == "/v1/completions"
    assert server.calls[0].body == {
        "model": "fake",
        "prompt": "Say 7 ->",
        "max_tokens": 8,
        "temperature": 0.8,
        "top_p": 0.9,
        "seed": 11,
        "stop": ["\n"],
    }
    assert response.texts[0].text == " 7"


@pytest.mark.parametrize(
    ("options", "turns"),
    [
        ({}, [("user", "Say 7\nIt is:")]),
        ({"prefix": "assistant"}, [("user", "Say 7"), ("assistant", "It is:")]),
    ],
)
def test_the_beginning_of_the_answer_goes_where_it_is_wanted(
    made: Make, options: dict[str, Any], turns: list[tuple[str, str]]
) -> None:
    backend, server = made(lambda call: Reply(content=said("It is: 7")), **options)
    response = ask(backend, answer_prefix="It is:")
    assert [(turn["role"], turn["content"]) for turn in server.calls[0].body["messages"]] == turns
    assert response.texts[0].text == " 7", "a server that repeats the beginning is not quoted with it"


def test_more_than_four_stops_are_cut_here(made: Make) -> None:
    backend, server = made(lambda call: Reply(content=said("one two END three", finish="length")))
    response = ask(backend, stop=("a1", "a2", "a3", "a4", "END"))
    assert server.calls[0].body["stop"] == ["a1", "a2", "a3", "a4"]
    assert (response.texts[0].text, response.texts[0].finish) == ("one two ", "stop")


@pytest.mark.parametrize("gives", [1, 2, 7])
def test_a_server_that_gives_fewer_texts_is_asked_for_the_rest(made: Make, gives: int) -> None:
    def handler(call: Call) -> Reply:
        return Reply(content=said("7", n=min(gives, call.body.get("n", 1))))

    backend, server = made(handler)
    response = ask(backend, n=5, temperature=1.0, seed=3)
    assert [text.text for text in response.texts] == ["7"] * 5
    seeds = [call.body["seed"] for call in server.calls]
    assert seeds[0] == 3 and len(set(seeds)) == len(seeds) == -(-5 // gives)


def test_a_server_that_refuses_so_many_texts_is_asked_for_fewer(made: Make) -> None:
    def handler(call: Call) -> Reply:
        n = call.body.get("n", 1)
        return refused(400, f"Field 'n': must be at most 2, got {n}") if n > 2 else Reply(content=said("7", n=n))

    backend, server = made(handler)
    assert len(ask(backend, n=5, temperature=1.0).texts) == 5
    assert [call.body.get("n", 1) for call in server.calls] == [5, 3, 2, 2, 1]


def test_extra_fields_are_sent(made: Make) -> None:
    backend, server = made(numbers, extra='{"reasoning_effort": "low"}')
    ask(backend)
    assert server.calls[0].body["reasoning_effort"] == "low"


def test_max_tokens_goes_under_the_name_that_the_model_wants(made: Make) -> None:
    def handler(call: Call) -> Reply:
        if "max_tokens" in call.body:
            text = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
            return refused(400, text, param="max_tokens", code="unsupported_parameter")
        return numbers(call)

    backend, server = made(handler)
    assert ask(backend).texts[0].text == "7"
    assert server.calls[-1].body["max_completion_tokens"] == 8
    ask(backend)
    assert len(server.calls) == 3
    assert "sent max_completion_tokens for max_tokens" in backend.account()
    assert backend.remarks() == ("sent max_completion_tokens for max_tokens",)


def test_a_refused_parameter_is_dropped_only_where_that_is_allowed(made: Make) -> None:
    def handler(call: Call) -> Reply:
        if "temperature" in call.body:
            return refused(400, "Unsupported value: 'temperature' does not support 0.0.", param="temperature")
        return numbers(call)

    backend, _ = made(handler)
    with pytest.raises(ModelError, match=r"refuses the parameter temperature .* -M drop=temperature leaves it out"):
        ask(backend)
    allowed, server = made(handler, drop="temperature,stop")
    assert ask(allowed, stop=("\n",)).texts[0].text == "7"
    assert not {"temperature", "stop"} & set(server.calls[0].body)


# How replies are read


@pytest.mark.parametrize(
    ("message", "text", "thought"),
    [
        ({"content": "7", "reasoning_content": "six and one"}, "7", "six and one"),
        ({"content": "7", "reasoning": "six and one"}, "7", "six and one"),
        ({"content": "<think>\nsix and one\n</think>\n\n7"}, "7", "six and one"),
        ({"content": "<think>six and"}, "", "six and"),
        ({"content": None, "refusal": "I will not."}, "I will not.", ""),
        ({"content": None}, "", ""),
        ({"content": "a <think> b"}, "a <think> b", ""),
    ],
)
def test_reasoning_is_kept_apart(made: Make, message: dict[str, Any], text: str, thought: str) -> None:
    backend, _ = made(lambda call: Reply(content=said("") | {"choices": [{"index": 0, "message": message}]}))
    found = ask(backend).texts[0]
    assert (found.text, found.thought) == (text, thought)


def test_texts_stand_in_the_order_of_their_index(made: Make) -> None:
    choices = [{"index": index, "message": {"content": str(index)}} for index in (2, 0, 1)]
    backend, _ = made(lambda call: Reply(content={"choices": choices}))
    assert [text.text for text in ask(backend, n=3, temperature=1.0).texts] == ["0", "1", "2"]


def test_an_answer_that_the_content_filter_stopped_has_failed(made: Make) -> None:
    backend, _ = made(lambda call: Reply(content=said("7", finish="content_filter")))
    assert ask(backend).error == "The server's content filter stopped the answer."


def test_the_contract_holds(made: Make) -> None:
    def handler(call: Call) -> Reply:
        if call.body.get("logprobs"):
            return Reply(content=top({"A": -0.5, "B": -1.5, "C": -2.5}))
        return Reply(content=said("7\n8", n=call.body.get("n", 1)))

    backend, _ = made(handler)
    check_backend(backend)


# Likelihoods


def test_letters_are_read_from_the_likeliest_first_tokens_of_a_chat(made: Make) -> None:
    backend, server = made(lambda call: Reply(content=top({"The": -0.1, "B": -1.0, " B": -1.0, "A": -2.0})))
    response = letters(backend)
    assert {**server.calls[0].body, "messages": []} == {
        "model": "fake",
        "messages": [],
        "max_tokens": 1,
        "temperature": 1.0,
        "logprobs": True,
        "top_logprobs": 20,
    }
    assert response.logprobs[0] == -2.0
    assert response.logprobs[1] == pytest.approx(-1.0 + 0.6931471805599453)
    assert response.logprobs[2:] == (-1e6, -1e6)


@pytest.mark.parametrize(
    "logprobs",
    [
        {"top_logprobs": [{" A": -2.0, " B": -1.0, "A": -0.5}]},
        {"content": [{"top_logprobs": [{"token": t, "logprob": v} for t, v in ((" A", -2.0), (" B", -1.0))]}]},
    ],
    ids=["of completions", "of a chat, as llama.cpp gives them"],
)
def test_letters_behind_plain_text_have_their_blank(made: Make, logprobs: dict[str, Any]) -> None:
    backend, server = made(lambda call: Reply(content=written(" B", logprobs=logprobs)), api="completions")
    assert letters(backend, (" A", " B")).logprobs == (-2.0, -1.0)
    assert server.calls[0].body["logprobs"] == 5


def test_no_letter_among_the_likeliest_tokens_is_no_answer(made: Make) -> None:
    backend, _ = made(lambda call: Reply(content=top({"The": -0.1, "Well": -3.0})))
    response = letters(backend)
    assert (response.logprobs, response.error) == ((), "")


def test_words_are_not_letters(made: Make) -> None:
    backend, _ = made(lambda call: Reply(content=top({"yes": -0.1})))
    assert letters(backend, (" yes", " no")).error.startswith("Only answer letters can be read")


def test_an_echo_gives_the_likelihood_of_any_continuation(made: Make) -> None:
    """A fake with a token for each word and log-probabilities that say which word it is, in vLLM's form."""

    def handler(call: Call) -> Reply:
        prompt = str(call.body["prompt"])
        words = prompt.replace("\n", " ").split(" ")
        starts = [sum(len(word) + 1 for word in words[:place]) for place in range(len(words))]
        offsets = [0, *(start - 1 for start in starts[1:]), len(prompt)]
        values = [None, *(-float(len(word)) for word in words[1:]), -99.0]
        logprobs = {"tokens": [], "token_logprobs": values, "text_offset": offsets}
        return Reply(content=written(f"{prompt} more", logprobs=logprobs))

    backend, server = made(handler, api="completions", logprobs="echo")
    response = letters(backend, (" yes", " no thanks"))
    assert response.logprobs == (-3.0, -8.0)
    assert response.lengths == (1, 2)
    assert {call.body["prompt"] for call in server.calls} == {"Which?\nAnswer: yes", "Which?\nAnswer: no thanks"}
    assert all(call.body["echo"] is True for call in server.calls)


def test_a_server_that_does_not_echo_ends_the_run(made: Make) -> None:
    backend, _ = made(lambda call: Reply(content=written(" x")), api="completions", logprobs="echo")
    with pytest.raises(ModelError, match="does not echo"):
        letters(backend)


@pytest.mark.parametrize(
    ("handler", "offered"),
    [
        (lambda call: Reply(content=top({"A": -0.1, "B": -2.0})), True),
        (lambda call: Reply(content=said("A")), False),
        (lambda call: refused(400, "logprobs are not supported", param="logprobs"), False),
        (lambda call: refused(422, "unknown field"), False),
    ],
    ids=["given", "left out", "refused", "unknown"],
)
def test_whether_log_probabilities_are_offered_is_asked_once(made: Make, handler: Handler, offered: bool) -> None:
    backend, server = made(handler)
    assert backend.answers("generate") is True
    assert server.calls == []
    assert (backend.answers("likelihood"), backend.answers("likelihood")) == (offered, offered)
    assert len(server.calls) == 1


def test_an_outage_does_not_decide_the_variant(made: Make) -> None:
    replies = iter([refused(503, "overloaded"), Reply(broken="dropped")])
    backend, _ = made(lambda call: next(replies, Reply(content=top({"A": -0.1, "B": -2.0}))))
    assert backend.answers("likelihood") is True


# Errors


@pytest.mark.parametrize(
    ("reply", "kind", "text"),
    [
        (refused(401, "Incorrect API key"), ModelError, "refuses the key .401: Incorrect API key"),
        (refused(403, "not in your country"), ModelError, "refuses the key .403"),
        (refused(404, "The model does not exist", code="model_not_found"), ModelError, "has no model 'fake'"),
        (refused(429, "You exceeded your current quota", code="insufficient_quota"), Interrupted, "wants to be paid"),
        (refused(402, "no credit"), Interrupted, "wants to be paid"),
        (Reply(status=429, headers={"retry-after": "86400"}), Interrupted, "asks to wait 86400 s"),
    ],
    ids=lambda one: str(one.status) if isinstance(one, Reply) else None,
)
def test_what_no_request_would_survive_ends_the_run_at_once(
    made: Make, reply: Reply, kind: type[EvalkitError], text: str
) -> None:
    backend, server = made(lambda call: reply, batch_size=2)
    asked = [(position, GenerateRequest(prompt=f"Say {position}", max_tokens=8)) for position in range(50)]
    with pytest.raises(kind, match=text):
        list(backend.generate(asked))
    assert len(server.calls) <= 2


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (
            refused(400, "This model's maximum context length is 10 tokens", code="context_length_exceeded"),
            "too long for the model (400: This model's maximum context length is 10 tokens).",
        ),
        (
            refused(400, "request (5001 tokens) exceeds the available context size", type="exceed_context_size_error"),
            "too long for the model",
        ),
        (
            refused(400, "max_tokens=5000 cannot be greater than max_model_len=2048.", param="max_tokens"),
            "too long for the model",
        ),
        (
            refused(
                400,
                "max_tokens is too large: 99999. This model supports at most 16384 completion tokens.",
                param="max_tokens",
            ),
            "too long for the model",
        ),
        (refused(400, "flagged", code="content_filter"), "content filter refused the prompt (400: flagged)."),
        (refused(429, "Request too large for fake on tokens per min"), "larger than the rate limit allows"),
        (refused(422, "what is this"), "The server refuses the request (422: what is this)."),
        (Reply(content={"error": {"code": 400, "message": "no"}}), "The server refuses the request (400: no)."),
    ],
    ids=[
        "context",
        "llama.cpp's context",
        "vLLM's max_tokens",
        "OpenAI's max_tokens",
        "filter",
        "too large",
        "other",
        "error with status 200",
    ],
)
def test_what_concerns_one_request_fails_that_one(made: Make, reply: Reply, text: str) -> None:
    backend, server = made(lambda call: reply if "13" in prompt_of(call) else numbers(call))
    asked = [(position, GenerateRequest(prompt=f"Say {position}", max_tokens=8)) for position in (12, 13, 14)]
    found = dict(backend.generate(asked))
    assert [found[position].texts[0].text for position in (12, 14)] == ["12", "14"]
    assert text in found[13].error
    assert len(server.calls) == 3


def test_a_server_that_is_not_there_is_said_soon() -> None:
    with Server(numbers) as server:
        url = server.url
    backend = OpenAI("fake", base_url=url)
    try:
        with pytest.raises(ModelError, match=r"127\.0\.0\.1 cannot be reached: .* Check base_url"):
            ask(backend)
    finally:
        backend.close()


def test_a_run_stops_when_nothing_is_answered_for_long(made: Make) -> None:
    backend, _ = made(lambda call: refused(500, "down"), patience=0.5, attempts=100)
    with pytest.raises(Interrupted, match=r"has answered nothing for \d+ s \(500: down\)"):
        ask(backend)


def test_answers_under_way_are_kept_when_the_run_ends(made: Make) -> None:
    async def handler(call: Call) -> Reply:
        if prompt_of(call) == "Say 3":
            return refused(401, "revoked")
        while backend._caller is None or backend._caller._gate.ended is None:  # all the others answer after that
            await asyncio.sleep(0.01)
        return Reply(content=said("yes"))

    backend, _ = made(handler, batch_size=4)
    asked = [(position, GenerateRequest(prompt=f"Say {position}", max_tokens=8)) for position in range(20)]
    kept = []
    with pytest.raises(ModelError, match="revoked"):
        for position, _response in backend.generate(asked):
            kept.append(position)
    assert sorted(kept) == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"base_url": "ftp://x"}, "should look like http"),
        ({"base_url": f"http://me:{SECRET}@host/v1"}, "holds a user name, a password or a query"),
        ({"drop": "temprature"}, "Did you mean 'temperature'"),
        ({"extra": "[1]"}, "should be a JSON object"),
        ({"logprobs": "echo"}, "Only a completions endpoint echoes"),
        ({"chat_template": "tulu"}, "has a template of its own"),
        ({"rpm": 0.0}, "rpm=0.0 cannot work"),
        ({"budget": "five"}, "expected an amount in US dollars"),
        ({"batch_size": 0}, "batch_size=0 cannot work"),
    ],
)
def test_options_that_cannot_work_are_said_at_once(options: dict[str, Any], text: str) -> None:
    with pytest.raises(EvalkitError, match=text) as error:
        OpenAI("fake", **options)
    assert SECRET not in str(error.value)


# Money


@pytest.fixture
def price_list(tmp_path: Path) -> str:
    """A dollar for each answer of ``said``: 20 tokens in, 2 out."""
    file = tmp_path / "prices.toml"
    file.write_text('date = 2026-05-01\n[[price]]\nmodel = "fake"\ninput = 40_000\noutput = 100_000\n')
    return str(file)


def command(server: Server, out: Path, *more: str, n: int = 20) -> list[str]:
    bench = Path(__file__).parent / "openai_numbers.py"
    run = ["run", "-m", "openai:fake", "-b", str(bench), "-B", f"n={n}", "-M", f"base_url={server.url}"]
    return [sys.executable, "-P", "-m", "evalkit", *run, "--out", str(out), *more]


def ran(command: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **env})


def test_a_budget_stops_the_run_and_the_next_start_goes_on(tmp_path: Path, price_list: str) -> None:
    with Server(numbers) as server:
        told = ran(command(server, tmp_path, "-M", "budget=12usd", "-M", f"prices={price_list}"))
        kept = len(server.calls)
        assert told.returncode == 75
        assert f"Stopped at the budget: {kept}.00 USD of 12.00 USD are spent" in told.stderr
        # The last answer might have cost 1.68 dollars: 8 tokens where 2 were needed, and an estimate for the prompt.
        assert 9 <= kept <= 12
        assert f"{kept}.00 USD at prices of 2026-05-01" in told.stderr
        again = ran(command(server, tmp_path, "-M", "budget=12usd", "-M", f"prices={price_list}"))
        assert again.returncode == 0
        assert len(server.calls) == 20


def test_a_budget_without_a_price_is_refused(made: Make) -> None:
    backend, _ = made(numbers, budget="5usd")
    with pytest.raises(ModelError, match="the list has none for 'fake'"):
        backend.open()


def test_the_shipped_price_list_knows_snapshots_and_says_its_date(made: Make) -> None:
    backend, _ = made(numbers, "gpt-4o-mini-2024-07-18")
    ask(backend)
    # 20 tokens at 0.15 and 2 at 0.60 USD a million.
    assert backend.account().endswith("20 + 2 tokens, 0.0000 USD at prices of 2026-06-21.")


def test_prices_hold_from_their_date_on(tmp_path: Path) -> None:
    import datetime

    from evalkit_openai import prices

    file = tmp_path / "prices.json"
    entry = {"model": "m", "input": 1, "output": 2}
    listed = [entry, {**entry, "from": "2026-03-01", "input": 10, "cached": 5}]
    file.write_text(json.dumps({"date": "2026-04-01", "price": listed}))
    before = prices.find("m", str(file), datetime.date(2026, 2, 28))
    after = prices.find("m", str(file), datetime.date(2026, 3, 1))
    assert before is not None and after is not None
    tokens = prices.Tokens(prompt=1_000_000, cached=500_000, completion=1_000_000)
    assert (before.cost(tokens), after.cost(tokens)) == (3.0, 9.5)
    assert prices.find("other", str(file), datetime.date(2026, 3, 1)) is None


# The key


def test_the_key_is_taken_out_of_the_environment_and_sent(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    backend, server = made(numbers, key_env="MY_KEY")
    ask(backend)
    assert server.calls[0].headers["authorization"] == f"Bearer {SECRET}"
    child = subprocess.run(
        [sys.executable, "-c", "import os; print(dict(os.environ))"], capture_output=True, check=True
    )
    assert SECRET.encode() not in child.stdout
    second, server = made(numbers, key_env="MY_KEY")
    ask(second)
    assert server.calls[0].headers["authorization"] == f"Bearer {SECRET}", "a judge finds it too"


def test_without_a_key_openai_itself_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ModelError, match="There is no key: set NO_SUCH_KEY"):
        OpenAI("gpt-4o", key_env="NO_SUCH_KEY").open()


def test_a_dry_run_misses_key_and_price_and_asks_no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    no_key = Finding(
        level="error", text="There is no key.", remedy="Set NO_SUCH_KEY, or name another with -M key_env=."
    )
    no_price = Finding(
        level="note",
        text="The price list has no price for 'unheard-of': what is spent is not counted.",
        remedy="Give one with -M prices=FILE; -M budget=5usd then ends a run before it costs more.",
    )
    assert OpenAI("gpt-4o", key_env="NO_SUCH_KEY").findings(tokens=0) == [no_key]
    assert OpenAI("unheard-of", key_env="NO_SUCH_KEY").findings(tokens=0) == [no_key, no_price]
    monkeypatch.setenv("MY_KEY", SECRET)
    assert OpenAI("gpt-4o", key_env="MY_KEY").findings(tokens=0) == []
    unpayable = OpenAI("unheard-of", key_env="MY_KEY", budget="5usd")
    assert [(one.level, one.text.partition(",")[0]) for one in unpayable.findings(tokens=0)] == [
        ("error", "A budget needs a price")
    ]
    broken = OpenAI("gpt-4o", key_env="MY_KEY", prices=str(tmp_path / "none.toml"))
    assert [one.level for one in broken.findings(tokens=0)] == ["error"]


def test_a_server_of_ones_own_needs_neither(made: Make) -> None:
    backend, server = made(numbers, model="unheard-of")
    assert (backend.findings(tokens=0), server.calls) == ([], [])


def test_a_server_that_repeats_the_key_is_not_quoted(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    backend, _ = made(lambda call: refused(401, f"Wrong key: {SECRET}"), key_env="MY_KEY")
    with pytest.raises(ModelError, match="Wrong key: <key>") as error:
        ask(backend)
    told = traceback.TracebackException.from_exception(error.value, capture_locals=True)
    assert SECRET not in "".join(told.format()).replace(f"SECRET = '{SECRET}'", "")


def test_a_planted_key_is_found_nowhere(tmp_path: Path) -> None:
    """Debug logs of every library, a run that fails, one that crashes with a traceback, and the list of processes."""
    answers = iter([refused(500, f"I saw {SECRET}"), refused(400, f"Bad header: Bearer {SECRET}")])
    seen: list[bytes] = []

    def handler(call: Call) -> Reply:
        seen.append(subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, check=True).stdout)
        return next(answers, None) or numbers(call)

    debug = tmp_path / "site"
    debug.mkdir()
    debug.joinpath("sitecustomize.py").write_text(
        f"import logging\nlogging.basicConfig(level=1, filename={str(tmp_path / 'debug.log')!r})\n"
    )
    env = {"OPENAI_API_KEY": SECRET, "OPENAI_LOG": "debug", "PYTHONPATH": str(debug), "EVALKIT_TRACEBACK": "1"}
    with Server(handler) as server:
        failing = ran(command(server, tmp_path / "runs", n=3), **env)
        assert failing.returncode == 3
        assert server.calls[0].headers["authorization"] == f"Bearer {SECRET}"
    with Server(lambda call: refused(401, f"{SECRET} is not valid")) as server:
        crashed = ran(command(server, tmp_path / "runs", n=3), **env)
        assert "Traceback" in crashed.stderr and "<key> is not valid" in crashed.stderr
    assert (tmp_path / "debug.log").stat().st_size > 1000
    told = [failing.stdout, failing.stderr, crashed.stdout, crashed.stderr]
    files = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) >= 5
    assert [one for one in (*files, *seen, *(text.encode() for text in told)) if SECRET.encode() in one] == []


# A whole run


def test_what_binds_a_run_is_the_model_and_what_changes_answers(tmp_path: Path) -> None:
    with Server(numbers) as server:
        told = ran(command(server, tmp_path, "-M", "rpm=60000", "-M", "drop=seed", "-M", "key_env=NONE", n=3))
    assert told.returncode == 0, told.stderr
    (file,) = tmp_path.glob("*/*/run.json")
    assert json.loads(file.read_text())["binds"]["model"] == {
        "backend": "openai",
        "name": "fake",
        "options": {"drop": "seed"},
        "fingerprint": {"base_url": server.url, "api": "chat"},
    }
    assert "notes" not in json.loads(file.read_text())
    assert (
        "openai:fake: 3 requests in 3 calls: 3 answered, 0 failed, 0 retried (0 for the rate limit), "
        "0 possibly paid twice (answer lost on its way), 60 + 6 tokens.\n" in told.stderr
    )


def test_the_letter_variant_is_chosen_before_the_run_and_recorded(tmp_path: Path, test_data: Path) -> None:
    with Server(lambda call: Reply(content=said("B"))) as server:
        more = ["-b", "mmlu", "--data", str(test_data / "mmlu" / "mmlu.zip"), "--limit", "3"]
        run = ["run", "-m", "openai:fake", "-M", f"base_url={server.url}", "--out", str(tmp_path), *more]
        told = ran([sys.executable, "-P", "-m", "evalkit", *run])
    assert told.returncode == 0, told.stderr
    (file,) = tmp_path.glob("mmlu-generate/*/run.json")
    assert json.loads(file.read_text())["binds"]["benchmark"] == "mmlu:generate"


def test_calls_that_were_given_up_stay_in_the_account(made: Make) -> None:
    """Who reads it may come late, after the loop has let go of them."""

    def handler(call: Call) -> Reply:
        return numbers(call) if prompt_of(call) == "Say 0" else Reply(broken="hanging")

    backend, server = made(handler)
    answers = backend.generate([(one, GenerateRequest(prompt=f"Say {one}", max_tokens=8)) for one in range(3)])
    assert next(iter(answers))[0] == 0
    until(lambda: len(server.calls) == 3)
    del answers
    until(lambda: backend._pace.in_flight == 0)
    assert "2 calls given up under way and possibly paid for nothing" in backend.account()


def test_an_interrupt_ends_it_within_seconds_and_keeps_what_came(tmp_path: Path) -> None:
    def hangs(call: Call) -> bool:
        return int(prompt_of(call).split()[-1]) >= 10

    def handler(call: Call) -> Reply:
        return Reply(broken="hanging") if hangs(call) else numbers(call)

    with Server(handler) as server:

        def met() -> bool:
            return any(map(hangs, server.calls))

        code, told = stopped(command(server, tmp_path, n=500), tmp_path, by=signal.SIGINT, after=10 * 100, met=met)
    assert code == 75
    assert f"Stopped: {len(positions(tmp_path))} of 500 responses are kept" in told
    assert set(positions(tmp_path)) <= set(range(10))
    assert "calls given up under way and possibly paid for nothing" in told
    assert "Traceback" not in told
