"""One private event loop in a thread of its own, on which every conversation of this process runs."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError, wait
from typing import Any, TypeVar

from asi_arch.errors import StoppedError

T = TypeVar("T")
LOOK_SECONDS = 0.1  # between two looks at the stop event
CLOSE_SECONDS = 10.0  # that given-up work has to end
THREADS = 1024  # for tools and writes: as many as there may be workers


class Loop:
    """Runs coroutines for threads that wait. Thread-safe; its own thread starts with the first of them.

    The libraries that speak to providers bind their connections to one loop, so there is one for all.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, T], stop: threading.Event) -> T:
        """Wait for a coroutine's result; give it up when `stop` is set, or at Ctrl-C.

        Raises:
            StoppedError: it was given up. What it had begun in threads goes on until it returns there.
        """
        if stop.is_set():
            work.close()
            raise StoppedError("the study stops; nothing more is asked")
        future = asyncio.run_coroutine_threadsafe(work, self._running())
        try:
            while not wait((future,), LOOK_SECONDS).done:
                if stop.is_set():
                    raise StoppedError("the study stops; a model's answer is not waited for")
            return future.result()
        except CancelledError:
            raise StoppedError("the models were closed while one was asked") from None
        finally:
            future.cancel()

    def close(self, last: Callable[[], Awaitable[None]]) -> None:
        """Give up all work, then run `last` and end the thread; nothing when it never began. Idempotent."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(_end(last), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="models", daemon=True)
                self._thread.start()
                asyncio.run_coroutine_threadsafe(_prepare(), self._loop).result()
            return self._loop


async def _prepare() -> None:
    import anyio.to_thread

    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS


async def _end(last: Callable[[], Awaitable[None]]) -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
    await last()
    await asyncio.get_running_loop().shutdown_asyncgens()
