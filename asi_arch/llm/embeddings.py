"""Texts as vectors by a provider that speaks OpenAI's protocol; not counted in a study's budget."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from asi_arch.errors import SetupError
from asi_arch.llm.roles import Spec, hider, key_of, spec_of
from asi_arch.settings import Settings

PROVIDER = "openai"
BATCH = 128  # texts in a request
TRIES = 5  # of a request, by the client, with growing waits
NO_KEY = "none"  # the client insists on one; a server of one's own may not


class Embeddings:
    """A provider's model of embeddings. Thread-safe: the client is.

    Args:
        spec: of the model.
        key: of the provider; "" for none.
        seconds: time limit of a request.
        hide: takes keys out of a text.
    """

    def __init__(self, spec: Spec, key: str, seconds: float, hide: Callable[[str], str]) -> None:
        self._spec, self._key, self._seconds, self._hide = spec, key, seconds, hide
        self._client: Any = None
        self.name = f"{spec}@{spec.url}" if spec.url else str(spec)

    def ask(self, texts: Sequence[str]) -> list[list[float]]:
        """Give one vector a text, in their order.

        Raises:
            SetupError: none came; one line that says why, without the key.
        """
        from openai import OpenAI, OpenAIError

        if self._client is None:
            self._client = OpenAI(
                api_key=self._key or NO_KEY,
                base_url=self._spec.url or None,
                timeout=self._seconds,
                max_retries=TRIES - 1,
            )
        rows: list[list[float]] = []
        for start in range(0, len(texts), BATCH):
            batch = list(texts[start : start + BATCH])
            try:
                reply = self._client.embeddings.create(
                    model=self._spec.name, input=batch, encoding_format="float"
                )
            except (OpenAIError, ValueError) as error:
                raise self._fault(" ".join(str(error).split())[:300]) from None
            found = sorted(reply.data or (), key=lambda item: int(item.index))
            rows += [list(item.embedding) for item in found]
            if len(found) != len(batch) or len({len(row) for row in rows}) != 1:
                raise self._fault(f"{len(found)} vectors came for {len(batch)} texts, or of several lengths")
        return rows

    def _fault(self, why: str) -> SetupError:
        cure = 'try again, name another model, or set embedding = "none"'
        return SetupError(self._hide(f"embedding model '{self.name}' gave no vectors: {why}; {cure}"))


def open_embeddings(settings: Settings, environ: Mapping[str, str]) -> Embeddings:
    """Give the model of embeddings that the setting `embedding` names; nothing is sent.

    Raises:
        SetupError: it names none, or its key is missing.
    """
    spec = spec_of("embedding", settings.embedding, settings, environ)
    if spec is None or spec.provider != PROVIDER:
        raise SetupError(
            f"setting 'embedding' is {settings.embedding!r}; write none, local, or openai:NAME (with "
            "model_url or @http://HOST/v1 for any server that speaks OpenAI's protocol)"
        )
    return Embeddings(spec, key_of(spec, environ), settings.model_seconds, hider(environ))
