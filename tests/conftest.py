"""What tests share: one warm pool for the whole run, since starting it costs an import of torch."""

from collections.abc import Iterator

import pytest

from asi_arch.engineer.pool import LocalPool
from asi_arch.space import load_space


@pytest.fixture(scope="session")
def pool() -> Iterator[LocalPool]:
    with LocalPool(load_space("linear_attention"), workers=2) as warm:
        yield warm
