"""What tests of the loop share: a pool without processes, and what of a study can be compared.

As a program it runs a study: `python tests/toy.py FOLDER EXPERIMENTS WORKERS SECONDS_A_JOB [KEY=VALUE...]`.
It says "go" before it touches the folder, so that a test can kill it at any instant after that.
"""

import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

from asi_arch.records import Evidence, Experiment, Job, Progress
from asi_arch.settings import given_values
from asi_arch.spaces.toy.engine import examine
from asi_arch.study import Study


class HerePool:
    """Runs the toy engine in the thread that asks, after a nap."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.jobs: list[Job] = []

    def run(self, job: Job, report: Callable[[Progress], None]) -> Evidence:
        self.jobs.append(job)
        time.sleep(self.seconds)
        return examine(job, report)

    def close(self) -> None:
        pass


def source_of(experiment: Experiment) -> str:
    assert experiment.proposal is not None
    return experiment.proposal.source


def toy_study(folder: Path, pool: HerePool | None = None, **values: int | float | str) -> Study:
    given = {"space": "toy", "workers": 1, "experiments": 12} | values
    return Study.open_or_create(folder, given, pool=pool or HerePool())


def copy_study(folder: Path, copy: Path) -> Path:
    """Copy a study that nobody has open into a new folder, and give that."""
    copy.mkdir()
    for name in ("study.db", "settings.toml"):
        (copy / name).write_bytes((folder / name).read_bytes())
    return copy


def outcome(study: Study) -> list[tuple[object, ...]]:
    """All that two runs of one study must agree on: everything but times and versions."""
    return [
        (
            e.id,
            e.kind,
            e.status,
            e.proposal,
            e.failure,
            e.fitness,
            e.finding,
            e.repeats,
            [(a.source, a.failure, a.note) for a in e.attempts],
            [(v.stage, v.seed, v.graph_hash, v.checks, v.failure, v.curve, v.metrics) for v in e.evidence],
        )
        for e in study.archive.experiments()
    ]


def main() -> None:
    folder, experiments, workers, seconds, *values = sys.argv[1:]
    importlib.import_module("bm25s")  # slow, and otherwise waits for the first brief
    print("go", flush=True)
    given = given_values(overrides=[f"experiments={experiments}", f"workers={workers}", *values])
    study = toy_study(Path(folder), HerePool(float(seconds)), **given)
    study.run()
    study.close()


if __name__ == "__main__":
    main()
