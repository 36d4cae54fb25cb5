"""The backend itself: its options, and how requests become calls and calls responses."""

from __future__ import annotations

import datetime
import importlib
import os
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from evalkit.backend import Backend, Indexed, Tokenizer
from evalkit.errors import ModelError
from evalkit.types import Finding, GenerateRequest, Generation, Likelihood, LikelihoodRequest
from evalkit_openai import key, prices, settings
from evalkit_openai.account import Account
from evalkit_openai.pace import MOST, Pace
from evalkit_openai.settings import Api, Logprobs, Settings

if TYPE_CHECKING:
    from evalkit_openai.caller import Caller
    from evalkit_openai.engine import Engine

T = TypeVar("T")
R = TypeVar("R", Generation, Likelihood)

OPENAI = "https://api.openai.com/v1"
#: Requests begun for each that may be under way: enough that those which wait for a retry keep none from being sent.
AHEAD = 4


class OpenAI(Backend):
    """A model behind an OpenAI-compatible API.

    The key stands in the environment, in OPENAI_API_KEY or where ``key_env`` says, and is taken out of it; or in the
    keyring under the service ``evalkit``. ``batch_size`` is how many requests may be under way at once; ``auto`` finds
    out. ``tokenizer`` names the checkpoint whose tokenizer counts and cuts, and renders chats for completions.
    """

    can = frozenset({"generate", "likelihood"})
    # The address is part of the fingerprint, in one spelling.
    speed_options = frozenset(
        {
            "attempts",
            "base_url",
            "batch_size",
            "budget",
            "key_env",
            "patience",
            "prices",
            "rpm",
            "timeout",
            "tpm",
        }
    )

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api: Api = "chat",
        key_env: str = "OPENAI_API_KEY",
        batch_size: int | Literal["auto"] = "auto",
        rpm: float | None = None,
        tpm: float | None = None,
        timeout: float = 600.0,
        attempts: int = 10,
        patience: float = 900.0,
        budget: str | None = None,
        prices: str | None = None,
        logprobs: Logprobs = "auto",
        prefix: Literal["user", "assistant"] = "user",
        drop: str = "",
        extra: str = "",
        tokenizer: str | None = None,
        chat_template: str | None = None,
    ) -> None:
        # First of all, so that nothing that is started from here on inherits it.
        self._key_env = key_env
        self._key = key.take(key_env)
        if not model:
            raise ModelError("Name the model: --model openai:gpt-4o-mini.")
        for name, value in {"rpm": rpm, "tpm": tpm, "timeout": timeout, "attempts": attempts}.items():
            if value is not None and value <= 0:
                raise ModelError(f"{name}={value} cannot work: give more than 0.")
        if batch_size != "auto" and batch_size < 1:
            raise ModelError(f"batch_size={batch_size} cannot work: give 1 or more, or auto.")
        if chat_template and not (api == "completions" and tokenizer):
            raise ModelError("A chat endpoint has a template of its own; another needs api=completions and tokenizer=.")
        if logprobs == "echo" and api != "completions":
            raise ModelError("Only a completions endpoint echoes: add -M api=completions.")
        self._settings = Settings(
            model=model,
            api=api,
            base_url=settings.read_url(base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI),
            prefix=prefix,
            drop=settings.read_drop(drop),
            extra=settings.read_extra(extra),
            timeout=timeout,
            attempts=attempts,
            patience=patience,
        )
        self._most = MOST if batch_size == "auto" else batch_size
        self._pace = Pace(time.monotonic, most=self._most, rpm=rpm, tpm=tpm)
        self._account = Account(model=f"openai:{model}", budget=_budget(budget))
        self._prices = prices
        self._logprobs = logprobs
        self._tokenizer_name, self._chat_template = tokenizer, chat_template
        self._tokenizer: Any = None
        self._engine: Engine | None = None
        self._caller: Caller | None = None
        self._offered: bool | None = None

    @property
    def has_chat_template(self) -> bool:
        """A chat endpoint renders chats itself; a completions endpoint takes what the tokenizer renders."""
        return self._settings.api == "chat" or super().has_chat_template

    def answers(self, kind: str) -> bool:
        """Whether the server answers a kind of request; whether it tells log-probabilities, it is asked once."""
        if kind != "likelihood" or self._logprobs != "auto":
            return kind in self.can and not (kind == "likelihood" and self._logprobs == "no")
        if self._offered is None:
            from evalkit_openai import likelihood

            engine, caller = self._opened()
            self._offered = engine.result(likelihood.offered(caller, self._settings, self.tokenizer()))
        return self._offered

    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer of the checkpoint named by ``tokenizer``; None without one."""
        if self._tokenizer is None and self._tokenizer_name:
            try:
                tokenize = importlib.import_module("evalkit_tokenize")
            except ImportError:
                raise ModelError("tokenizer= needs evalkit-tokenize: pip install evalkit-openai[tokenizer].") from None
            self._tokenizer = tokenize.load(self._tokenizer_name, chat_template=self._chat_template)
        tokenizer: Tokenizer | None = self._tokenizer
        return tokenizer

    def fingerprint(self) -> Mapping[str, str]:
        """The address, without any secret, and the tokenizer's files; a server says nothing of its weights."""
        marks = {"base_url": self._settings.base_url, "api": self._settings.api}
        if self.tokenizer() is not None:
            marks["tokenizer"] = self._tokenizer.fingerprint()
        return marks

    def findings(self, *, tokens: int) -> Sequence[Finding]:
        """Whether key and price are there; the server is not asked."""
        found = []
        theirs = self._settings.base_url == OPENAI
        if theirs and self._found_key() is None:
            found.append(
                Finding(
                    level="error",
                    text="There is no key.",
                    remedy=f"Set {self._key_env}, or name another with -M key_env=.",
                )
            )
        try:
            price = self._price()
        except ModelError as error:
            return (*found, Finding(level="error", text=str(error)))
        if theirs and price is None:
            found.append(
                Finding(
                    level="note",
                    text=f"The price list has no price for {self._settings.model!r}: what is spent is not counted.",
                    remedy="Give one with -M prices=FILE; -M budget=5usd then ends a run before it costs more.",
                )
            )
        return found

    def open(self) -> None:
        """Get ready to send; raises ModelError where the key or, with a budget, the price is missing."""
        self._opened()

    def generate(self, requests: Iterable[Indexed[GenerateRequest]]) -> Iterator[Indexed[Generation]]:
        """Yield each generation when all its texts are there."""
        from evalkit_openai.generate import generation

        _, caller = self._opened()
        answer = partial(generation, caller=caller, settings=self._settings, tokenizer=self.tokenizer())
        return self._answered(requests, answer)

    def likelihood(self, requests: Iterable[Indexed[LikelihoodRequest]]) -> Iterator[Indexed[Likelihood]]:
        """Yield each likelihood when all its continuations are read."""
        from evalkit_openai import likelihood

        _, caller = self._opened()
        answer = partial(
            likelihood.likelihood,
            caller=caller,
            settings=self._settings,
            tokenizer=self.tokenizer(),
            by_echo=self._logprobs == "echo",
        )
        return self._answered(requests, answer)

    def account(self) -> str:
        """What was sent, answered, retried and paid since the backend was made."""
        return self._account.line()

    def remarks(self) -> Sequence[str]:
        """The parameters that went under another name."""
        return tuple(self._account.remarks)

    def close(self) -> None:
        """Cancel what is under way."""
        if self._engine is not None and self._caller is not None:
            self._engine.stop(self._caller.close())
            self._engine = self._caller = None

    def _answered(
        self, requests: Iterable[Indexed[T]], answer: Callable[[T], Coroutine[Any, Any, R]]
    ) -> Iterator[Indexed[R]]:
        engine, _ = self._opened()
        account = self._account

        for position, response in engine.results(requests, answer, ahead=AHEAD * self._most):
            account.failed += bool(response.error)
            account.answered += not response.error
            yield position, response

    def _opened(self) -> tuple[Engine, Caller]:
        if self._engine is None or self._caller is None:
            from evalkit_openai.engine import Engine

            if self._found_key() is None and self._settings.base_url == OPENAI:
                raise ModelError(f"There is no key: set {self._key_env}, or name another variable with -M key_env=.")
            self._account.price = self._price()
            self._engine = Engine()
            self._caller = self._engine.result(self._made_caller())
        return self._engine, self._caller

    def _found_key(self) -> key.Key | None:
        self._key = self._key or key.from_keyring(self._key_env)
        return self._key

    async def _made_caller(self) -> Caller:
        from evalkit_openai.caller import Caller

        return Caller(self._settings, self._key, self._pace, self._account)

    def _price(self) -> prices.Price | None:
        model = self._settings.model
        found = prices.find(model, self._prices, datetime.datetime.now(datetime.UTC).date())
        if found is None and self._account.budget is not None:
            raise ModelError(f"A budget needs a price, and the list has none for {model!r}: give one with -M prices=.")
        return found


def _budget(text: str | None) -> float | None:
    return prices.read_budget(text)
