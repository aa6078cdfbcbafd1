"""How a typed answer tells its model what goes into each field."""

from dataclasses import field
from typing import Any


def told(description: str, default: str | tuple[()] | None = None) -> Any:
    """Give a field of an answer with what its model is told of it."""
    metadata = {"description": description}
    return field(metadata=metadata) if default is None else field(default=default, metadata=metadata)
