"""What a person sees of reruns: a bar for each worker on a terminal, and a line for every run that ended."""

import threading
import time
from typing import TYPE_CHECKING

from asi_arch.discoveries import Rerun
from asi_arch.loop.verify import Watcher
from asi_arch.records import Evidence, Experiment, Progress
from asi_arch.report.tables import duration

if TYPE_CHECKING:
    from rich.console import Console

WORDS = {
    "screen": "again at the search's stage",
    "rate": "at learning rate",
    "claim": "for the claim",
    "seconds": "in equal seconds",
    "part": "in parts",
}


class RerunWatch(Watcher):
    """Tells of reruns on a console; made for a `with`."""

    def __init__(self, console: "Console") -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn())
        self._console, self._lock = console, threading.Lock()
        self._bars = Bars(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._all = self._bars.add_task("runs of this step", total=None)
        self._slots: dict[int, TaskID] = {}

    def __enter__(self) -> "RerunWatch":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def planned(self, count: int) -> None:
        """Show how many runs come next."""
        self._bars.reset(self._all, total=count)
        self.message(f"{count} run{'s' if count > 1 else ''} to do next")

    def started(self, rerun: Rerun, experiment: Experiment, slot: int) -> None:
        """Show a worker's run."""
        with self._lock:
            if slot in self._slots:
                self._bars.remove_task(self._slots[slot])
            self._slots[slot] = self._bars.add_task(f"  {told(rerun, experiment)}", total=None)

    def progress(self, slot: int, progress: Progress) -> None:
        """Show how far a worker's run is."""
        if progress.total and slot in self._slots:
            self._bars.update(self._slots[slot], completed=progress.done, total=progress.total)

    def ended(self, rerun: Rerun, experiment: Experiment, evidence: Evidence, seconds: float) -> None:
        """Write a run's result."""
        self._bars.advance(self._all)
        scores = ", ".join(f"{name} {metric.value:.4g}" for name, metric in evidence.metrics.items())
        if evidence.failure is not None:
            scores = f"failed in {evidence.failure.phase}: {evidence.failure.message}"
        self.message(f"{told(rerun, experiment)}: {scores} ({duration(seconds)})")

    def message(self, text: str) -> None:
        """Write a line with the time of day before it."""
        self._console.print(f"[{time.strftime('%H:%M:%S')}] {text}", soft_wrap=True, markup=False)


def told(rerun: Rerun, experiment: Experiment) -> str:
    """Say in a few words what a rerun is."""
    what = WORDS[rerun.purpose]
    if rerun.purpose == "rate":
        what = f"{what} {rerun.stage.learning_rate:g}"
    if rerun.purpose == "part":
        what = (
            f"without {rerun.part}" if rerun.source else f"whole{f', as {rerun.part}' if rerun.part else ''}"
        )
    stage = f"{rerun.stage.name} of {rerun.stage.steps} steps"
    return f"#{experiment.id} {experiment.name} {what}, {stage}, seed {rerun.seed}"
