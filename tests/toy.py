"""What tests of the loop share: a pool without processes, and a researcher that draws moves blindly.

As a program it runs a study: `python tests/toy.py FOLDER EXPERIMENTS WORKERS SECONDS_A_JOB`. It says
"go" before it touches the folder, so that a test can kill it at any instant after that.
"""

import importlib
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

from asi_arch.records import Brief, Evidence, Experiment, Job, Progress, Proposal
from asi_arch.spaces.toy.engine import examine
from asi_arch.spaces.toy.grammar import grammar
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


class Wanderer:
    """Applies one to three moves of the toy grammar, drawn evenly."""

    def propose(self, brief: Brief) -> Proposal:
        toy, draw = grammar(), random.Random(f"{brief.seed}/{brief.id}/{brief.attempt}")
        design, _ = toy.read(source_of(brief.parent))
        taken: list[str] = []
        for _ in range(draw.randint(1, 3)):
            move = draw.choice(toy.moves())
            other = toy.read(source_of(draw.choice(brief.references)))[0] if brief.references else None
            changed = move.change(design, other)
            if changed is not None:
                design = changed
                taken.append(move.name)
        name = toy.title(design)
        return Proposal(
            name=name,
            motivation="Why not?",
            source=toy.render(design, name, "Why not?"),
            author="wanderer",
            parents=(brief.parent.id,),
            references=tuple(reference.id for reference in brief.references),
            moves=tuple(taken),
        )


def source_of(experiment: Experiment) -> str:
    assert experiment.proposal is not None
    return experiment.proposal.source


def toy_study(folder: Path, pool: HerePool | None = None, **values: int | float | str) -> Study:
    given = {"space": "toy", "workers": 1, "experiments": 12} | values
    return Study.open_or_create(folder, given, researcher=Wanderer(), pool=pool or HerePool())


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
            [(v.stage, v.seed, v.graph_hash, v.checks, v.failure, v.curve, v.metrics) for v in e.evidence],
        )
        for e in study.archive.experiments()
    ]


def main() -> None:
    folder, experiments, workers, seconds = sys.argv[1:]
    importlib.import_module("bm25s")  # slow, and otherwise waits for the first brief
    print("go", flush=True)
    study = toy_study(
        Path(folder), HerePool(float(seconds)), experiments=int(experiments), workers=int(workers)
    )
    study.run()
    study.close()


if __name__ == "__main__":
    main()
