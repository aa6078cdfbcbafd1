"""Which model has which role: read from settings and environment; nothing is imported, asked or written."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from urllib.parse import urlsplit

from asi_arch.errors import SetupError
from asi_arch.settings import Settings

ROLES = ("designer", "mender", "judge", "analyst", "novelty", "summariser", "reader", "extractor")
KEYS = {
    "openai": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY",),
    "google": ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
}
REPLAY = "replay"
BASE_URLS = {"openai": "OPENAI_BASE_URL", "anthropic": "ANTHROPIC_BASE_URL"}  # names in the environment
BARE_HOST = re.compile(r"@(localhost\b.*|[^@/]+:\d+\b.*|(?:\d+\.){3}\d+\b.*|[^@/]+\.[a-z]{2,}(?:/.*)?)$")
"""An address without http://. Names of models hold an @ too: claude-opus-4@20250514, @cf/meta/llama."""
LEAST_KEY = 6  # characters; a shorter value is a placeholder, and hiding it would garble every text


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A model by name. name: of the model, or the path of a replay. url: "" for the provider's own."""

    provider: str
    name: str
    url: str = ""

    def __str__(self) -> str:
        """Give it as it stands in the settings."""
        return f"{self.provider}:{self.name}"


def specs(settings: Settings, environ: Mapping[str, str]) -> dict[str, Spec]:
    """Give the model of every role that has one.

    Raises:
        SetupError: a setting names no model that can be asked.
    """
    found = {}
    for role in ROLES:
        key = f"model_{role}"
        text = getattr(settings, key)
        if text or settings.model:
            found[role] = _read(key if text else "model", text or settings.model, settings, environ)
    return found


def spec_of(key: str, text: str, settings: Settings, environ: Mapping[str, str]) -> Spec | None:
    """Give the model that the text of a setting names; None when it has no form of one.

    Raises:
        SetupError: its server's address is none.
    """
    provider, colon, rest = text.partition(":")
    return _read(key, text, settings, environ) if colon and rest and provider in KEYS else None


class Key(str):
    """A provider's key: a text that does not show itself where values are shown, as in a trace."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Give a placeholder."""
        return "[key]"


def key_of(spec: Spec, environ: Mapping[str, str]) -> Key:
    """Give the key of a model's provider.

    Returns:
        The key; "" for a server with an address of its own, which may need none, and for a replay.

    Raises:
        SetupError: the provider needs a key and the environment has none.
    """
    names = KEYS.get(spec.provider, ())
    key = next((environ[name] for name in names if environ.get(name)), "")
    if names and not key and not spec.url:
        raise SetupError(
            f"model '{spec}' needs a key: export {' or '.join(names)}, or set model = \"\" to go without"
        )
    return Key(key)


def require_package(spec: Spec) -> None:
    """See that a provider's client is there. Raises SetupError with the cure when it is not."""
    if spec.provider == "google" and not (find_spec("google") and find_spec("google.genai")):
        raise SetupError(f"model '{spec}' needs a package: pip install 'asi-arch[google]' -c constraints.txt")


def hider(environ: Mapping[str, str]) -> Callable[[str], str]:
    """Give a function that replaces every provider's key in a text by "[key]".

    It replaces halves of characters too, by "?": neither a file nor a request could hold them.
    """
    values = [environ.get(name, "") for names in KEYS.values() for name in names]
    keys = [Key(value) for value in values if len(value) >= LEAST_KEY]

    def hide(text: str) -> str:
        for key in keys:
            text = text.replace(key, repr(key))
        return text.encode("utf-8", "replace").decode()

    return hide


def describe(settings: Settings, environ: Mapping[str, str]) -> str:
    """Give one line that says which model has which role, and which keys are missing.

    Raises:
        SetupError: as `specs`.
    """
    named = specs(settings, environ)
    if not named:
        return (
            'no language model: set model = "PROVIDER:NAME" and export its key to have one (docs/models.md)'
        )
    by_model: dict[Spec, list[str]] = {}
    for role, spec in named.items():
        by_model.setdefault(spec, []).append(role)
    parts = [_part(spec, roles, environ) for spec, roles in by_model.items()]
    without = [role for role in ROLES if role not in named]
    return "; ".join(parts) + (f"; no model for {', '.join(without)}" if without else "")


def _part(spec: Spec, roles: list[str], environ: Mapping[str, str]) -> str:
    where = f" at {spec.url}" if spec.url else ""
    names = KEYS.get(spec.provider, ())
    missing = names and not spec.url and not any(environ.get(name) for name in names)
    key = f" ({' or '.join(names)} is not set)" if missing else ""
    return f"{spec}{where} for {'every role' if len(roles) == len(ROLES) else ', '.join(roles)}{key}"


def _read(key: str, text: str, settings: Settings, environ: Mapping[str, str]) -> Spec:
    provider, colon, rest = text.partition(":")
    if not colon or not rest or provider not in (*KEYS, REPLAY):
        known = ", ".join(f"{name}:NAME" for name in KEYS)
        raise SetupError(
            f"setting {key!r} is {text!r}; write {known} or {REPLAY}:PATH, and openai:NAME with model_url "
            "for any server that speaks OpenAI's protocol"
        )
    if provider == REPLAY:
        return Spec(provider=provider, name=rest)
    name, url = rest, ""
    for scheme in ("@http://", "@https://"):
        if scheme in rest:
            name, _, tail = rest.partition(scheme)
            url = scheme[1:] + tail
    if found := BARE_HOST.search(name):
        raise SetupError(
            f"setting {key!r} is {text!r}; write the address with its scheme, such as @http://{found[1]}"
        )
    if not url:
        own = settings.model_url if provider == "openai" else ""
        url = own or environ.get(BASE_URLS.get(provider, ""), "")
    return Spec(provider=provider, name=name, url=_checked(url))


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise SetupError(f"address {url!r} of a model's server is no http(s)://HOST[:PORT][/PATH]")
    if parts.username or parts.password or parts.query:
        raise SetupError(
            f"address of a model's server at {parts.hostname!r} holds a password or a query; keys belong "
            "into the environment, from where they are never written down"
        )
    return url.rstrip("/")
