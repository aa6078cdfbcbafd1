"""What an answer cost, from a maintained table of prices: what it does not know is unknown, never free."""

from typing import Any

from asi_arch.errors import SetupError
from asi_arch.llm.roles import Spec

MILLION = 1_000_000


def price(spec: Spec, names: tuple[str, ...], usage: Any, given: tuple[float, float] | None) -> float | None:
    """Give the price of one answer in dollars, or None when it is unknown.

    A model at an address that the table does not know is not priced by its name: a server of one's own
    may call its model as it likes.

    Args:
        spec: of the model.
        names: of the model, as the provider and as the settings call it; the first that is known counts.
        usage: tokens, as a provider counted them: `input_tokens`, `output_tokens`, `cache_read_tokens`.
        given: dollars per million tokens, in and out, for what the table does not know.
    """
    from genai_prices import calc_price

    if not usage.input_tokens and not usage.output_tokens:
        return None  # the server did not count
    for name in names:
        try:
            if spec.url:
                return float(calc_price(usage, name, provider_api_url=spec.url).total_price)
            return float(calc_price(usage, name, provider_id=spec.provider).total_price)
        except (LookupError, ValueError):
            continue
    if given is None:
        return None
    dollars: float = (usage.input_tokens * given[0] + usage.output_tokens * given[1]) / MILLION
    return dollars


def given_prices(text: str) -> tuple[float, float] | None:
    """Read the setting `model_prices`: "0.25/2" is dollars per million tokens in and out.

    Raises:
        SetupError: it is not two numbers.
    """
    if not text:
        return None
    try:
        tokens_in, tokens_out = (float(part) for part in text.split("/"))
    except ValueError:
        tokens_in = tokens_out = -1.0
    if not (0 <= tokens_in < MILLION and 0 <= tokens_out < MILLION):
        raise SetupError(f"setting 'model_prices' needs IN/OUT in dollars, such as '0.25/2', not {text!r}")
    return tokens_in, tokens_out
