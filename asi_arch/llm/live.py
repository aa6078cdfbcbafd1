"""Answers from a provider: one request at a time, tried again with growing waits when that can help."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic_ai.exceptions import (
    ModelAPIError,
    ModelConnectionError,
    ModelHTTPError,
    ModelQuotaExceededError,
    ModelTimeoutError,
    UnexpectedModelBehavior,
)
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings

from asi_arch.calls import Fault, Turn
from asi_arch.llm.prices import given_prices, price
from asi_arch.llm.providers import make_model, takes_temperature
from asi_arch.llm.roles import Spec
from asi_arch.llm.source import Reply, Request
from asi_arch.llm.transcript import answer_of, cleaned
from asi_arch.settings import Settings

AGAIN = ("408", "409", "425", "429", "timeout", "connection", "garbled")  # and every status from 500 on
NEVER_AGAIN = "gave up"
NO_TEMPERATURE = "this model takes no temperature"
TRIES = 6  # of one request
FIRST_WAIT = 1.0  # seconds before the second try; each further wait is twice as long
LONGEST_WAIT = 60.0
PATIENCE_SECONDS = 300.0  # a provider that asks for a longer wait is given up


@dataclass(frozen=True, slots=True)
class _Trouble:
    fault: Fault
    warm: bool  # a temperature was sent
    retry_after: float = 0.0


class Live:
    """A source that asks a provider. Made and used on one event loop.

    Args:
        spec: of the model.
        key: of the provider; "" for none.
        settings: the study's.
        hide: takes keys out of a text.
    """

    def __init__(self, spec: Spec, key: str, settings: Settings, hide: Callable[[str], str]) -> None:
        self._spec, self._settings, self._hide = spec, settings, hide
        self._model = make_model(spec, key)
        self._prices = given_prices(settings.model_prices)
        self._temperature = settings.model_temperature if settings.model_temperature >= 0 else None
        self._open = False

    async def answer(self, request: Request) -> Reply:
        """Ask until there is an answer or no hope; see `Source.answer`."""
        faults: list[Fault] = []
        if not self._open:
            self._open = True
            await self._model.__aenter__()
        if self._temperature is not None and not takes_temperature(self._model):
            self._temperature = None
            faults.append(Fault(kind="setting", message=NO_TEMPERATURE, action="left it out"))
        began = time.monotonic()
        tries, response = 0, None
        while response is None and (not tries or faults[-1].action != NEVER_AGAIN):
            trouble, response = await self._try(request.raw)
            tries += 1
            if trouble is not None:
                action = await self._mend(trouble, tries)
                faults.append(replace(trouble.fault, action=action))
        turn = Turn(asked=(), faults=tuple(faults), seconds=time.monotonic() - began)
        return Reply(turn=turn, model=str(self)) if response is None else self._reply(response, turn)

    async def close(self) -> None:
        """Close the provider's connections."""
        if self._open:
            await self._model.__aexit__(None, None, None)

    def __str__(self) -> str:
        """Give the model's name as in the settings."""
        return str(self._spec)

    async def _try(self, raw: Any) -> tuple[_Trouble | None, ModelResponse | None]:
        messages, parameters = raw
        warm = self._temperature is not None
        try:
            async with asyncio.timeout(self._settings.model_seconds):
                return None, await self._ask(self._model, messages, parameters)
        except TimeoutError:
            message = f"no answer within {self._settings.model_seconds:g} s (model_seconds)"
            return _Trouble(Fault(kind="timeout", message=message, action=""), warm), None
        except (ModelAPIError, UnexpectedModelBehavior) as error:
            kind, message = _kind(error), _message(error)
            if kind == "connection":
                address = self._spec.url or f"the address of {self._spec.provider}"
                message = f"{message.rstrip('.')}, at {address}"
            fault = Fault(kind=kind, message=self._hide(message), action="")
            return _Trouble(fault, warm, getattr(error, "retry_after", None) or 0.0), None

    async def _ask(
        self, model: Model, messages: list[ModelMessage], parameters: ModelRequestParameters
    ) -> ModelResponse:
        options = self._options()
        prepared = model.prepare_messages(messages, parameters)
        if self._settings.model_stream == "off":
            return await model.request(prepared, options, parameters)
        async with model.request_stream(prepared, options, parameters) as stream:
            async for _ in stream:
                pass
            return stream.get()

    def _options(self) -> ModelSettings:
        # Never announced: a second system message in mid-conversation, which many servers refuse.
        options = ModelSettings(max_retries=0, framing_announcement="never")
        if self._temperature is not None:
            options["temperature"] = self._temperature
        if self._settings.model_tokens:
            options["max_tokens"] = self._settings.model_tokens
        return options

    async def _mend(self, trouble: _Trouble, tries: int) -> str:
        """Wait or change what can help, and give it in words; `NEVER_AGAIN` when nothing can."""
        fault = trouble.fault
        if fault.kind == "400" and "temperature" in fault.message and trouble.warm:
            self._temperature = None
            return "asked again without a temperature"
        again = fault.kind in AGAIN or (fault.kind.isdigit() and int(fault.kind) >= 500)
        if not again or tries >= TRIES or trouble.retry_after > PATIENCE_SECONDS:
            return NEVER_AGAIN
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (tries - 1)) * random.uniform(0.75, 1.0)
        if trouble.retry_after:
            wait = trouble.retry_after * random.uniform(1.0, 1.25)  # not all workers at once
        await asyncio.sleep(wait)
        return f"waited {wait:.1f} s and asked again"

    def _reply(self, response: ModelResponse, turn: Turn) -> Reply:
        response = cleaned(response, self._hide)  # a server may repeat a key
        answer, usage = answer_of(response), response.usage
        name = response.model_name or self._spec.name
        turn = replace(
            turn,
            answer=answer,
            model=name,
            tokens_in=usage.input_tokens,
            tokens_cached=usage.cache_read_tokens,
            tokens_out=usage.output_tokens,
            dollars=price(self._spec, (name, self._spec.name), usage, self._prices),
        )
        return Reply(turn=turn, model=str(self._spec), raw=response)


def _kind(error: Exception) -> str:
    if isinstance(error, ModelQuotaExceededError):
        return "quota"
    if isinstance(error, ModelHTTPError):
        return str(error.status_code)
    if isinstance(error, ModelTimeoutError):
        return "timeout"
    return "connection" if isinstance(error, ModelConnectionError) else "garbled"


def _message(error: Exception) -> str:
    """Give a provider's own words in one line, without what the library wraps around them."""
    body = getattr(error, "body", None)
    while isinstance(body, Mapping):
        body = body.get("error", body.get("message"))
    return " ".join(str(body or error).split())[:500]
