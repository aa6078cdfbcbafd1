"""What a person sees while a study runs: a live board on a terminal, plain lines without one."""

import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TextIO

from asi_arch.controls import name_controls
from asi_arch.records import Experiment, Progress
from asi_arch.report.tables import duration, leaderboard
from asi_arch.report.view import View, by_fitness, fitness_of, is_stopped

NEWS = 6  # lines of the latest findings
BAR = 24  # characters of a progress bar
ENDED = ("finished", "failed")
SHOWN = 3  # candidates, and as many baselines, on the board


@dataclass(slots=True)
class Slot:
    """One worker: its experiment, how far that is, and since when (monotonic seconds)."""

    experiment: Experiment
    progress: Progress
    since: float


@dataclass(slots=True)
class Board:
    """What is known of a running study, from the experiments of its start and all that ended since.

    clock: monotonic seconds; given, so that a test can stop time. begin: when this run began.
    first: when its first candidate began, from which its pace counts. ended: candidates in all;
    ended_here: those of this run.
    """

    view: View
    clock: Callable[[], float] = time.monotonic
    slots: dict[int, Slot] = field(default_factory=dict)
    news: deque[str] = field(default_factory=lambda: deque(maxlen=NEWS))
    begin: float = 0.0
    first: float | None = None
    ended: int = 0
    ended_here: int = 0
    known: dict[int, Experiment] = field(default_factory=dict)
    best: Experiment | None = None
    rival: Experiment | None = None

    def __post_init__(self) -> None:
        """Count what an earlier run of the study left."""
        self.begin = self.clock()
        for experiment in self.view.experiments:
            self.count(experiment)
        self.ended_here = 0

    def start(self, experiment: Experiment) -> None:
        """Take note that an experiment began."""
        if experiment.kind == "candidate" and self.first is None:
            self.first = self.clock()

    def count(self, experiment: Experiment) -> None:
        """Take an ended experiment into the totals."""
        self.known[experiment.id] = experiment
        if experiment.kind == "candidate" and experiment.status in ENDED:
            self.ended += 1
            self.ended_here += 1
        if experiment.fitness is None:
            return
        if experiment.kind == "candidate":
            self.best = _fitter(self.best, experiment)
        elif experiment.kind == "baseline":  # a reference breaks the rules, so it is no rival
            self.rival = _fitter(self.rival, experiment)

    def per_hour(self) -> float | None:
        """Give candidates an hour of this run, or None before the first."""
        passed = 0.0 if self.first is None else self.clock() - self.first
        return self.ended_here / passed * 3600 if self.ended_here and passed > 0 else None

    def seconds_left(self) -> float | None:
        """Guess the time until the study's end from this run's pace, or None without a pace."""
        settings, pace = self.view.settings, self.per_hour()
        guesses = []
        if pace:
            guesses.append(max(0, settings.experiments - self.ended) / pace * 3600)
        if settings.hours:
            guesses.append(max(0.0, settings.hours * 3600 - (self.clock() - self.begin)))
        return min(guesses, default=None)

    def headline(self) -> str:
        """Give counts, pace and time left in one line."""
        baselines = [e for e in self.known.values() if e.kind != "candidate"]
        measured = sum(e.status in ENDED for e in baselines)
        parts = [f"{measured} of {len(baselines)} baselines"] if measured < len(baselines) else []
        parts.append(f"{self.ended} of {self.view.settings.experiments} candidates")
        pace, left = self.per_hour(), self.seconds_left()
        if pace:
            parts.append(f"{pace:.0f} an hour")
        parts.append(f"{duration(self.clock() - self.begin)} passed")
        if left is not None:
            parts.append(f"about {duration(left)} left")
        return ", ".join(parts)

    def standing(self) -> str:
        """Say what the best candidate is against the best baseline."""
        if self.rival is None:
            return "measuring the baselines"
        rival = f"best baseline {self.rival.name} {fitness_of(self.rival):.3f}"
        if self.best is None:
            return f"no candidate yet; {rival}"
        return f"best #{self.best.id} {self.best.name} {fitness_of(self.best):.3f}; {rival}"


class PlainWatch:
    """Writes one line for each event, for logs and pipes."""

    def __init__(self, board: Board, out: TextIO = sys.stdout) -> None:
        self._board, self._out, self._lock = board, out, threading.Lock()

    def __enter__(self) -> "PlainWatch":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to put back."""

    def started(self, experiment: Experiment, slot: int) -> None:
        """Write that an experiment runs."""
        self._board.start(experiment)
        self.message(f"experiment {experiment.id} started: {_about(experiment)}")

    def progress(self, slot: int, progress: Progress) -> None:
        """Write nothing: a log has no use for it."""

    def finished(self, experiment: Experiment, slot: int) -> None:
        """Write an experiment's result and how the study stands."""
        with self._lock:
            self._board.count(experiment)
            line = f"{_result(experiment)} ({self._board.headline()}; {self._board.standing()})"
        self.message(line)

    def message(self, text: str) -> None:
        """Write a line with the time of day before it."""
        with self._lock:
            self._out.write(f"[{time.strftime('%H:%M:%S')}] {text}\n")
            self._out.flush()


class LiveWatch:
    """Draws the board on a terminal, four times a second."""

    def __init__(self, board: Board, console: Any) -> None:
        from rich.live import Live

        self._board, self._lock = board, threading.RLock()
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=4)

    def __enter__(self) -> "LiveWatch":
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def started(self, experiment: Experiment, slot: int) -> None:
        """Show a worker's new experiment."""
        with self._lock:
            self._board.start(experiment)
            self._board.slots[slot] = Slot(experiment, Progress(phase="start"), self._board.clock())

    def progress(self, slot: int, progress: Progress) -> None:
        """Show how far a worker is."""
        with self._lock:
            if slot in self._board.slots:
                self._board.slots[slot].progress = progress

    def finished(self, experiment: Experiment, slot: int) -> None:
        """Take a worker's experiment off and add its result to the news."""
        with self._lock:
            self._board.slots.pop(slot, None)
            self._board.count(experiment)
            self._board.news.append(_result(experiment))

    def message(self, text: str) -> None:
        """Add a line to the news."""
        with self._lock:
            self._board.news.append(text)

    def _draw(self) -> Any:
        from rich.console import Group
        from rich.panel import Panel
        from rich.text import Text

        with self._lock:
            board = self._board
            head = Text(board.headline(), no_wrap=True, overflow="ellipsis")
            best = _draw_best(board)
            workers = _draw_workers(board)
            news = Text("\n".join(board.news) or "no result yet", no_wrap=True, overflow="ellipsis")
        settings = board.view.settings
        named = name_controls(settings.without, settings.selection)
        title = f"study in the space {board.view.space.name}" + (f", {named}" if named else "")
        return Group(
            Panel(head, title=title, title_align="left"),
            Panel(best, title="best so far", title_align="left"),
            Panel(workers, title="workers", title_align="left"),
            Panel(news, title="latest results, the newest last", title_align="left"),
        )


@contextmanager
def stop_on_interrupt(stop: threading.Event, tell: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Make the first Ctrl-C (or SIGTERM) set `stop`, and the second one raise KeyboardInterrupt.

    Gives a function that waits until what there was to tell has been told. Only in the main thread;
    the handlers before are put back at the end. Telling has a thread of its own, because a handler may
    have interrupted the very lock that telling needs.
    """
    telling: list[threading.Thread] = []

    def handle(signum: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        text = "stopping: the next run does again what runs now; press Ctrl-C again to stop at once"
        telling.append(threading.Thread(target=tell, args=(text,)))
        telling[-1].start()

    def told() -> None:
        for thread in telling:
            thread.join()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _draw_workers(board: Board) -> Any:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column(width=BAR)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for number, slot in sorted(board.slots.items()):
        done, total = slot.progress.done, slot.progress.total
        bar = ProgressBar(total=total or None, completed=done, width=BAR, pulse=not total)
        name = f"#{slot.experiment.id} {slot.experiment.name}"
        far = f"{done}/{total}" if total else ""
        passed = duration(board.clock() - slot.since)
        table.add_row(str(number + 1), name, slot.progress.phase, bar, far, f"{passed}  {slot.progress.note}")
    if not board.slots:
        table.add_row("", "none at work", "", "", "", "")
    return table


def _draw_best(board: Board) -> Any:
    """Draw the best candidates among the best baselines and the seed, each with its scores."""
    from rich.table import Table
    from rich.text import Text

    view = replace(board.view, experiments=tuple(board.known.values()))
    rivals = by_fitness(e for e in view.baselines() if view.kind(e) == "baseline")[:SHOWN]
    seed = [e for e in view.baselines() if view.kind(e) == "seed"]
    few = (*seed, *rivals, *view.best(SHOWN))  # the leaderboard puts them in order
    standing = leaderboard(replace(view, experiments=few), SHOWN, full=False)
    shown = [i for i, title in enumerate(standing.columns) if i < 4 or title.startswith("gain")]
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for i in shown:
        words = i < standing.text_columns
        table.add_column(Text(standing.columns[i]), justify="left" if words else "right", no_wrap=True)
    for i, row in enumerate(standing.rows):
        table.add_row(*(Text(row[j]) for j in shown), style="bold" if i in standing.marked else "")
    return table


def _fitter(known: Experiment | None, new: Experiment) -> Experiment:
    return new if known is None or fitness_of(new) > fitness_of(known) else known


def _about(experiment: Experiment) -> str:
    proposal = experiment.proposal
    if proposal is None or not proposal.parents:
        return experiment.name
    return f"{proposal.name}, a child of #{proposal.parents[0]}"


def _result(experiment: Experiment) -> str:
    start = f"experiment {experiment.id} {experiment.name}"
    if experiment.failure is not None and is_stopped(experiment):
        return f"{start} was {experiment.failure.message}"
    if experiment.failure is not None:
        return f"{start} failed in {experiment.failure.phase}: {experiment.failure.message}"
    if experiment.fitness is None:
        return f"{start} ended without a fitness"
    return f"{start} finished: fitness {fitness_of(experiment):.3f}"
