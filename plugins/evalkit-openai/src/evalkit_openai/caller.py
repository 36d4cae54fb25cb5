"""Makes one call until it has an answer or can never have one: retries, back-off, and what the server wants changed."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evalkit.errors import EvalkitError, Interrupted, ModelError
from evalkit_openai import fault, reply
from evalkit_openai.account import Account
from evalkit_openai.fault import Again, Refused, Unfit
from evalkit_openai.gate import Gate
from evalkit_openai.key import Key
from evalkit_openai.pace import Pace
from evalkit_openai.prices import Tokens
from evalkit_openai.settings import Settings

if TYPE_CHECKING:
    import openai

#: Seconds before the first retry and at most; each waits about twice as long as the one before.
BACKOFF, LONGEST_BACKOFF = 0.5, 60.0
#: Rate-limit refusals of one request, while others are answered, after which it has failed.
MOST_LIMITED = 100
#: Tries at a server from which nothing was ever heard.
FIRST_CONTACT = 5


class Caller:
    """Sends requests to one endpoint; belongs to the loop in which it is made."""

    def __init__(self, settings: Settings, key: Key | None, pace: Pace, account: Account) -> None:
        self._settings = settings
        self._key = key or Key("")
        self._account = account
        self._gate = Gate(pace, account)
        self._client = client(settings, self._key)
        self._heard = time.monotonic()
        self._ever_heard = False
        self._unreached = 0
        #: Parameter -> what the server takes in its place.
        self._renamed: dict[str, str] = {}
        #: The most texts that the server gives for one call.
        self.most_texts = 1 << 30

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.close()

    async def call(self, body: Mapping[str, Any], needs: Tokens) -> Mapping[str, Any]:
        """The server's reply to a request that needs at most so many tokens.

        Raises Refused where this request cannot be answered, Unfit for a parameter that the caller may change, and
        EvalkitError for what ends the run.
        """
        broken = limited = 0
        while True:
            try:
                return await self._once(self._translated(body), needs, fresh=not broken)
            except Unfit as error:
                if not self._rename(error.parameter, str(error)):
                    raise
                continue
            except Again as error:
                again = error
            limited += again.kind == "limited"
            self._unreached += again.kind == "unreachable"
            # In an outage it is not this request's fault.
            broken += again.kind == "broken" and not self._gate.outage
            self._give_up(again, broken, limited)
            self._account.retried += 1
            self._account.limited += again.kind == "limited"
            # A refusal for now already holds the gate; a second wait would only add to it.
            pause = again.wait or 0.0
            if again.kind != "limited":
                pause = max(
                    pause, min(LONGEST_BACKOFF, BACKOFF * 2 ** min(broken - 1, 20)) * random.uniform(0.75, 1.25)
                )
            await self._gate.rest(pause)

    async def _once(self, body: Mapping[str, Any], needs: Tokens, *, fresh: bool) -> Mapping[str, Any]:
        cost = self._account.most(needs)
        ticket = await self._gate.enter(needs.prompt + needs.completion, cost)
        headers: Mapping[str, str] = {}
        try:
            headers, found = await self._send(body)
            used = reply.tokens(found)
        except Again as error:
            again = error
            self._account.lost += again.lost
            self._account.lost_cost += cost if again.lost else 0.0
            if again.kind == "limited":
                self._gate.leave(cost, lambda pace: pace.limited(ticket, again.headers, again.wait))
            else:
                self._gate.leave(cost, lambda pace: pace.failed(ticket, fresh=fresh, wait=again.wait))
            raise
        except EvalkitError as error:
            self._gate.leave(cost, lambda pace: pace.dropped(ticket))
            self._gate.end(error)
            raise
        except asyncio.CancelledError:
            self._gate.leave(cost, lambda pace: pace.dropped(ticket), given_up=True)
            raise
        except BaseException:  # refused for good
            self._gate.leave(cost, lambda pace: pace.dropped(ticket))
            raise
        self._heard, self._ever_heard = time.monotonic(), True
        self._account.pay(used)
        self._gate.leave(cost, lambda pace: pace.answered(ticket, headers, used.prompt + used.completion))
        return found

    async def _send(self, body: Mapping[str, Any]) -> tuple[Mapping[str, str], Mapping[str, Any]]:
        import openai

        chat = self._settings.api == "chat"
        create: Any = self._client.chat.completions if chat else self._client.completions
        try:
            raw = await asyncio.wait_for(
                create.with_raw_response.create(**body, extra_body=dict(self._settings.extra) or None),
                self._settings.timeout,
            )
            headers, content = raw.headers, raw.http_response.content
        except openai.APIStatusError as error:
            told = fault.of_status(error.status_code, error.body, error.response.headers, self._settings)
            raise self._without_key(told, error.response.headers) from None
        except (openai.APIConnectionError, TimeoutError) as error:
            raise self._without_key(fault.of_connection(error)) from None
        found = reply.parse(content)
        if "error" in found and not found.get("choices"):
            raise self._without_key(fault.of_body(found, self._settings)) from None
        reply.choices(found)
        return headers, found

    def _without_key(self, error: Exception, headers: Mapping[str, str] | None = None) -> Exception:
        error.args = tuple(self._key.redact(part) if isinstance(part, str) else part for part in error.args)
        if isinstance(error, Again):
            error.headers = headers or {}
        return error

    def _give_up(self, again: Again, broken: int, limited: int) -> None:
        """Raise what a fault has become that was met too often or for too long."""
        silence = time.monotonic() - self._heard
        where = f"The server at {self._settings.host}"
        if again.kind == "unreachable" and not self._ever_heard and self._unreached >= FIRST_CONTACT:
            raise self.ends(ModelError(f"{where} cannot be reached: {again}. Check base_url and that the server runs."))
        if (again.wait or 0.0) > self._settings.patience:
            raise self.ends(Interrupted(f"{where} asks to wait {again.wait:.0f} s. Repeat the command then to go on."))
        if silence > self._settings.patience:
            raise self.ends(
                Interrupted(f"{where} has answered nothing for {silence:.0f} s ({again}). Repeat the command to go on.")
            )
        if broken >= self._settings.attempts:
            raise Refused(f"Failed {broken} times, the last time so: {again}.")
        if limited >= MOST_LIMITED:
            raise Refused(f"Refused {limited} times by the rate limit: {again}.")

    def ends(self, error: EvalkitError) -> EvalkitError:
        """Let nothing more out, for a reason that the caller of this then raises."""
        self._gate.end(error)
        return error

    def _translated(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {self._renamed.get(name, name): value for name, value in body.items()}

    def _rename(self, parameter: str, text: str) -> bool:
        """Whether the server wants a parameter under another name, which it gets from now on."""
        if parameter != "max_tokens" or "max_completion_tokens" not in text:
            return False
        self._renamed["max_tokens"] = "max_completion_tokens"
        self._account.remarks["sent max_completion_tokens for max_tokens"] = None
        return True


def client(settings: Settings, key: Key) -> openai.AsyncOpenAI:
    """The official client; it retries nothing by itself."""
    import openai

    return openai.AsyncOpenAI(
        api_key=key.reveal() or "none",
        base_url=settings.base_url,
        max_retries=0,
        timeout=openai.Timeout(settings.timeout, connect=min(10.0, settings.timeout)),
    )
