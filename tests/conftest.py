"""What tests share: one warm pool for the whole run, since starting it costs an import of torch."""

import signal
from collections.abc import Iterator

import pytest

from asi_arch.engineer.pool import LocalPool
from asi_arch.space import load_space

# a shell starts what runs in the background deaf to Ctrl-C, and every program inherits that
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def pool() -> Iterator[LocalPool]:
    with LocalPool(load_space("linear_attention"), workers=2) as warm:
        yield warm
