"""Threads that wait: a few workers share tasks until these run out, or a person says stop."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Task = TypeVar("Task")
LOOK_SECONDS = 0.1  # between two looks at the stop event


def share(
    tasks: Iterator[Task],
    workers: int,
    do: Callable[[Task, int], None],
    stop: threading.Event,
    abandon: Callable[[], None],
) -> None:
    """Have workers take tasks in turn and do them; return when all are done or given up.

    Args:
        tasks: asked for the next one by one worker at a time.
        workers: threads at once.
        do: called with a task and its worker's number from 0 on.
        stop: once set, no further task is taken.
        abandon: called once after `stop`, or after an exception: it makes those who wait in `do`
            return or raise soon.

    Raises:
        Exception: the first that a task raised, after all workers have ended.
    """
    taking, halt = threading.Lock(), threading.Event()

    def work(slot: int) -> None:
        while not (stop.is_set() or halt.is_set()):
            with taking:
                task = next(tasks, None)
            if task is None:
                return
            do(task, slot)

    broken: list[Future[None]] = []
    with ThreadPoolExecutor(workers, thread_name_prefix="worker") as threads:
        futures = [threads.submit(work, slot) for slot in range(workers)]
        try:
            while not (stop.is_set() or broken):
                done, waiting = wait(futures, LOOK_SECONDS, FIRST_EXCEPTION)
                broken = [future for future in done if future.exception()]
                if not waiting:
                    break
        finally:
            halt.set()
            if not all(future.done() for future in futures):
                abandon()
    for future in (*broken, *futures):
        future.result()
