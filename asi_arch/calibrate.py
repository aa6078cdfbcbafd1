"""Baselines over several seeds: the table that a study's gains are read against, and its noise."""

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from asi_arch.analyst.statistics import metric_value, pooled_noise
from asi_arch.engineer.pool import LocalPool
from asi_arch.records import Evidence, Job, Stage, from_json, text_hash, to_json
from asi_arch.space import Space

FILE = "runs.jsonl"
Runs = Mapping[str, Sequence[Evidence]]


def measure_baselines(
    space: Space, stage: Stage, seeds: int, workers: int, folder: Path, tell: Callable[[str], None]
) -> Runs:
    """Run every baseline and reference at a stage with seeds 0 to `seeds` - 1; give the runs by name.

    Each run is a line of `folder`/runs.jsonl as soon as it has ended, so that a measurement that was
    stopped goes on where it was, and more seeds may be added later. A run is made again when its
    source or the stage's steps or rate have changed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = _read(folder / FILE)
    jobs = [
        Job(space=space.name, name=name, source=space.baseline_source(name), seed=seed, stage=stage,
            enforce=name not in space.references)
        for seed in range(seeds)
        for name in space.baselines()
    ]  # fmt: skip
    writing = threading.Lock()

    def run(job: Job) -> None:
        evidence = replace(pool.run(job), bundle="")
        with writing:
            _append(folder / FILE, key(job), evidence)
            known[key(job)] = evidence
        end = evidence.failure.message if evidence.failure else "done"
        tell(f"{job.name}, seed {job.seed}: {end} ({evidence.cpu_seconds:.0f} s of processor time)")

    with LocalPool(space, workers) as pool, ThreadPoolExecutor(workers) as threads:
        list(threads.map(run, [job for job in jobs if key(job) not in known]))
    runs: dict[str, list[Evidence]] = {name: [] for name in space.baselines()}
    for job in jobs:
        if known[key(job)].metrics and known[key(job)].failure is None:
            runs[job.name].append(known[key(job)])
    return runs


def key(job: Job) -> str:
    """Give what tells one run from another: name, source, stage and seed."""
    assert job.stage is not None
    stage = f"{job.stage.name}/{job.stage.steps}/{job.stage.learning_rate:g}"
    return f"{job.name}/{text_hash(job.source)}/{stage}/{job.seed}"


def noise_of(space: Space, runs: Runs) -> dict[str, float | None]:
    """Give each metric's standard deviation of one run, pooled over the baselines; None without repeats.

    References are left out: what breaks the rules of the space may also have another noise.
    """
    groups = [group for name, group in runs.items() if name not in space.references]
    return {
        spec.name: pooled_noise([metric_value(run, spec.name) for run in group] for group in groups)
        for spec in space.metrics
    }


def _append(path: Path, name: str, evidence: Evidence) -> None:
    line = json.dumps({"key": name, "evidence": json.loads(to_json(evidence))})
    with path.open("ab+") as file:
        if file.tell() and path.read_bytes()[-1:] != b"\n":
            file.write(b"\n")  # after a line that a kill cut off
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> dict[str, Evidence]:
    """Give the runs of a file; a last line that was cut off by a kill is no run."""
    known = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        known[entry["key"]] = from_json(Evidence, json.dumps(entry["evidence"]))
    return known
