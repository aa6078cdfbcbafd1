"""Models of the providers by name: the only file that knows their clients."""

from collections.abc import Mapping
from typing import Any

from pydantic_ai.models import Model

from asi_arch.llm.roles import Spec

OPENAI_URL = "https://api.openai.com/v1"
ANTHROPIC_URL = "https://api.anthropic.com"
NO_KEY = "none"  # clients insist on one; a server of one's own may not


def make_model(spec: Spec, key: str) -> Model:
    """Make the library's model for a spec; nothing is sent."""
    if spec.provider == "anthropic":
        return _anthropic(spec, key)
    if spec.provider == "google":
        return _google(spec, key)
    return _openai(spec, key)


def takes_temperature(model: Model) -> bool:
    """Tell whether a model takes a temperature, as its name tells: those that reason do not."""
    profile: Mapping[str, Any] = {**model.profile}
    reasons = profile.get("openai_supports_reasoning", False)
    may_pause = profile.get("openai_supports_reasoning_effort_none", False)
    by_default = profile.get("thinking_enabled_by_default", False)
    refused = profile.get("anthropic_disallows_sampling_settings", False)
    return not refused and (not reasons or (may_pause and not by_default))


def _openai(spec: Spec, key: str) -> Model:
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

    if not spec.url:
        return OpenAIChatModel(spec.name, provider=OpenAIProvider(base_url=OPENAI_URL, api_key=key))
    provider = OpenAICompatibleProvider("openai-compatible", base_url=spec.url, api_key=key or NO_KEY)
    return OpenAIChatModel(spec.name, provider=provider)


def _anthropic(spec: Spec, key: str) -> Model:
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    provider = AnthropicProvider(base_url=spec.url or ANTHROPIC_URL, api_key=key or NO_KEY)
    return AnthropicModel(spec.name, provider=provider)


def _google(spec: Spec, key: str) -> Model:
    from pydantic_ai.models.google import GoogleModel
    from pydantic_ai.providers.google import GoogleProvider

    return GoogleModel(spec.name, provider=GoogleProvider(api_key=key or NO_KEY, base_url=spec.url or None))
