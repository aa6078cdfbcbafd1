"""The price of the wall: cold start, warm start, 20 s of a candidate, and each check, in one process.

    python benchmarks/wall.py [--rounds 7] [--seconds 20] [--sources delta_net mamba2]

Side by side stand a child behind the wall at the strongest level of this machine, a child of a server with
nothing in force, and a plain subprocess that imports torch and traces the same source. Every round runs
every row once, so a change of the machine's load meets all alike; a price is the median over the rounds of
the ratio within a round. Ratios of processor time, which each child counts itself, are steadier.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from asi_arch.engineer.isolation import Isolation, detect
from asi_arch.engineer.pool import WALL_LIMITS, LocalPool
from asi_arch.engineer.sandbox import RESULT, Server
from asi_arch.engineer.surroundings import environment
from asi_arch.records import Job, Progress
from asi_arch.space import load_space

SPACE = load_space("linear_attention")
WORKER = ("wall:translate", "asi_arch.engineer.worker:warm")
PLAIN = """
import sys, torch
from wall import translate
torch.set_num_threads(1)
translate(sys.stdin.buffer.read(), lambda answer: print(answer[1:].decode()))
"""
WALL, FORK, SUBPROCESS = "behind the wall", "a fork, nothing in force", "a plain subprocess"
Times = dict[str, list[tuple[float, float]]]  # seconds, and seconds of processor time
Run = Callable[[bytes], float]


def translate(text: bytes, send: Callable[[bytes], None]) -> None:
    """Translate as the worker does, and answer with the processor time that it took (in a child)."""
    from asi_arch.engineer.worker import translate

    translate(text, lambda answer: None)
    send(RESULT + repr(time.process_time()).encode())


def variables() -> dict[str, str]:
    made = environment(trusted=False)
    made["PYTHONPATH"] += os.pathsep + str(Path(__file__).parent)
    return made


def request(source: str, times: int = 1) -> bytes:
    """Ask for three traces of each of `times` layers."""
    traces = [[True, [33]], [False, [33]], [False, [31, 33]]]
    config = {"d_model": 64, "num_heads": 4, "layers": list(range(times)), "traces": traces}
    return json.dumps({"source": source, "configs": [config]}).encode()


def start(isolation: Isolation) -> Server:
    server = Server(*WORKER, WALL_LIMITS, variables(), isolation)
    server.address()
    return server


def ask(server: Server, text: bytes) -> float:
    return float(server.call(text, 600))


def plain(text: bytes) -> float:
    command = [sys.executable, "-c", PLAIN]
    return float(subprocess.run(command, input=text, env=variables(), check=True, capture_output=True).stdout)


def timed(run: Callable[[], float]) -> tuple[float, float]:
    begin = time.perf_counter()
    processor = run()
    return time.perf_counter() - begin, processor


def rounds(rows: Mapping[str, Callable[[], float]], count: int) -> Times:
    times: Times = {name: [] for name in rows}
    for _ in range(count):
        for name, run in rows.items():
            times[name].append(timed(run))
    return times


def cold_start(isolation: Isolation) -> float:
    """Start and close a server. Its processor time is not known: bubblewrap does not wait for it."""
    start(isolation).close()
    return math.nan


def repetitions(run: Run, source: str, seconds: float) -> int:
    """Give how many layers take about so long."""
    few, many = (run(request(source, times)) for times in (2, 6))
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
    if any(map(math.isnan, values)):
        return ""
    low, _, high = statistics.quantiles(values, n=4)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def table(title: str, times: Times, base: str, digits: int) -> Table:
    shown = Table(title=title)
    shown.add_column("", no_wrap=True)
    for column in ("seconds: median (quartiles)", f"ratio to {base}", "ratio of processor time"):
        shown.add_column(column, justify="right")
    for name, own in times.items():
        pairs = list(zip(own, times[base], strict=True))
        ratios = [spread([a[i] / b[i] for a, b in pairs], 3) for i in (0, 1)]
        shown.add_row(name, spread([seconds for seconds, _ in own], digits), *ratios)
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
    starts = {WALL: partial(cold_start, isolation), FORK: partial(cold_start, Isolation())}
    console.print(table("cold start: a server until it is ready, and its end", rounds(starts, few), FORK, 1))
    wall, fork = start(isolation), start(Isolation())
    try:
        ways: dict[str, Run] = {WALL: partial(ask, wall), FORK: partial(ask, fork), SUBPROCESS: plain}
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
