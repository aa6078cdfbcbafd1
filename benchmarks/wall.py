"""The price of the wall: cold start, warm start, 20 s of a candidate, and each check, in one process.

    python benchmarks/wall.py [--rounds 7] [--seconds 20] [--sources delta_net mamba2]

Side by side stand a child behind the wall at the strongest level of this machine, a child of a server with
nothing in force, and a plain subprocess that imports torch and traces the same source. Every round runs
every row once, so a change of the machine's load meets all alike; a price is the median over the rounds of
the ratio within a round.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from rich.console import Console
from rich.table import Table

from asi_arch.engineer.isolation import Isolation, detect
from asi_arch.engineer.pool import WALL_LIMITS, LocalPool
from asi_arch.engineer.sandbox import Server
from asi_arch.engineer.surroundings import environment
from asi_arch.records import Job, Progress
from asi_arch.space import load_space

SPACE = load_space("linear_attention")
WORKER = ("asi_arch.engineer.worker:translate", "asi_arch.engineer.worker:warm")
PLAIN = """
import sys, torch
from asi_arch.engineer import worker
torch.set_num_threads(1)
worker.translate(sys.stdin.buffer.read(), lambda answer: None)
"""
WALL, FORK, SUBPROCESS = "behind the wall", "a fork, nothing in force", "a plain subprocess"
Seconds = dict[str, list[float]]
Run = Callable[[bytes], object]


def request(source: str, times: int = 1) -> bytes:
    """Ask for three traces of each of `times` layers."""
    traces = [[True, [33]], [False, [33]], [False, [31, 33]]]
    config = {"d_model": 64, "num_heads": 4, "layers": list(range(times)), "traces": traces}
    return json.dumps({"source": source, "configs": [config]}).encode()


def start(isolation: Isolation) -> Server:
    server = Server(*WORKER, WALL_LIMITS, environment(trusted=False), isolation)
    server.address()
    return server


def plain(text: bytes) -> None:
    subprocess.run([sys.executable, "-c", PLAIN], input=text, env=environment(trusted=False), check=True)


def timed(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def rounds(rows: Mapping[str, Callable[[], object]], count: int) -> Seconds:
    seconds: Seconds = {name: [] for name in rows}
    for _ in range(count):
        for name, run in rows.items():
            seconds[name].append(timed(run))
    return seconds


def cold_starts(isolation: Isolation, count: int) -> Seconds:
    """Start and close a server of each kind; a subprocess has no start but its own."""
    rows = {WALL: lambda: start(isolation).close(), FORK: lambda: start(Isolation()).close()}
    return rounds(rows, count)


def repetitions(run: Run, source: str, seconds: float) -> int:
    """Give how many layers take about so long."""
    few, many = (timed(partial(run, request(source, times))) for times in (2, 6))
    return max(1, round(seconds / ((many - few) / 4)))


def checks(pool: LocalPool, source: str) -> dict[str, float]:
    """Give the seconds of each phase of a job without training, by its progress."""
    marks: list[tuple[str, float]] = [("source", time.perf_counter())]

    def note(progress: Progress) -> None:
        marks.append((progress.note or progress.phase, time.perf_counter()))

    evidence = pool.run(Job(space=SPACE.name, name="benchmark", source=source), note)
    assert evidence.failure is None, evidence.failure
    ends = [*(at for _, at in marks[1:]), time.perf_counter()]
    return {name: end - at for (name, at), end in zip(marks, ends, strict=True)}


def spread(values: Sequence[float], digits: int) -> str:
    low, _, high = statistics.quantiles(values, n=4)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def table(title: str, seconds: Seconds, base: str, digits: int) -> Table:
    shown = Table(title=title)
    shown.add_column("", no_wrap=True)
    for column in ("seconds: median (quartiles)", f"beside {base}: ratio (quartiles)"):
        shown.add_column(column, justify="right")
    for name, own in seconds.items():
        ratios = [a / b for a, b in zip(own, seconds[base], strict=True)]
        shown.add_row(name, spread(own, digits), spread(ratios, 3))
    return shown


def table_of_checks(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> Table:
    shown = Table(title="seconds of each check: median (quartiles)")
    shown.add_column("check", no_wrap=True)
    for name in runs:
        shown.add_column(name, justify="right")
    for check in next(iter(runs.values()))[0]:
        shown.add_row(check, *(spread([run[check] for run in own], 2) for own in runs.values()))
    shown.add_row("all", *(spread([sum(run.values()) for run in own], 1) for own in runs.values()))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=20.0, help="of the long candidate")
    parser.add_argument("--sources", nargs="+", default=["delta_net", "mamba2"])
    options = parser.parse_args()
    console, isolation = Console(width=None if sys.stdout.isatty() else 120), detect()
    console.print(f"isolation {isolation.state}")
    few = max(3, options.rounds // 2)
    source = SPACE.baseline_source(options.sources[0])
    console.print(table("cold start: a server until it is ready", cold_starts(isolation, few), FORK, 1))
    wall, fork = start(isolation), start(Isolation())
    try:
        ways: dict[str, Run] = {
            WALL: lambda text: wall.call(text, 600),
            FORK: lambda text: fork.call(text, 600),
            SUBPROCESS: plain,
        }
        times = repetitions(ways[FORK], source, options.seconds)
        texts = {
            "warm start: a request that needs no trace": (request("x = 1"), options.rounds, 3),
            f"three traces of {options.sources[0]}": (request(source), options.rounds, 2),
            f"{3 * times} traces, about {options.seconds:.0f} s": (request(source, times), few, 1),
        }
        for title, (text, count, digits) in texts.items():
            rows = {name: partial(run, text) for name, run in ways.items()}
            console.print(table(title, rounds(rows, count), FORK, digits))
    finally:
        wall.close()
        fork.close()
    with LocalPool(SPACE, workers=1) as pool:
        sources = {name: SPACE.baseline_source(name) for name in options.sources}
        pool.run(Job(space=SPACE.name, name="start", source="import os"))
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in sources}
        for _ in range(few):
            for name, text_of in sources.items():
                runs[name].append(checks(pool, text_of))
        console.print(table_of_checks(runs))


if __name__ == "__main__":
    main()
