"""The engine of the simulated space: a design's changes decide its quality, a run's seed its error."""

import json
import math
import platform
import random
import time
from collections.abc import Callable

from asi_arch.errors import CandidateError
from asi_arch.records import Cost, Evidence, Failure, Job, Metric, Progress, Stage, Verdict, text_hash
from asi_arch.spaces.simulated.curves import STEPS as FULL
from asi_arch.spaces.simulated.curves import curve
from asi_arch.spaces.simulated.design import Design, read_design, size
from asi_arch.spaces.simulated.landscape import Landscape, published

WORLD = Landscape()
MOVES = 5 / 3  # moves that the symbolic researcher makes for a child, on average: a generation's way
Report = Callable[[Progress], None]


def examine(job: Job, report: Report) -> Evidence:
    """Check a design and, when a stage is given, draw a run of it; a fault of its is evidence too."""
    begin, cpu = time.perf_counter(), time.process_time()
    bundle, failure, verdicts = job.bundle, None, []
    points: tuple[tuple[int, float], ...] = ()
    metrics: dict[str, Metric] = {}
    cost = Cost()
    try:
        if not bundle:
            report(Progress(phase="check", total=1))
            bundle = json.dumps(read_design(job.source))
            verdicts.append(Verdict(name="source", passed=True, message="one list of known changes"))
        design = tuple(json.loads(bundle))
        cost = cost_of(design)
        if job.stage is not None:
            points, score = _run(design, job.stage, job.seed)
            last, loss = points[-1]
            report(Progress(phase="train", done=last, total=job.stage.steps, note=f"loss {loss:.3f}"))
            metrics = {"score": Metric(value=score, standard_error=0.0)}
    except CandidateError as error:
        failure = Failure(phase=error.phase, kind=error.kind, message=error.message)
        if error.phase != "train":
            verdicts.append(Verdict(name=error.phase, passed=False, message=error.message))
    return Evidence(
        stage=job.stage.name if job.stage else "checks",
        seed=job.seed,
        source_hash=text_hash(job.source),
        graph_hash=text_hash(bundle) if bundle else "",
        bundle=bundle,
        checks=tuple(verdicts),
        failure=failure,
        curve=points,
        metrics=metrics,
        cost=cost,
        seconds=time.perf_counter() - begin,
        cpu_seconds=time.process_time() - cpu,
        versions={"python": platform.python_version()},
    )


def quality(design: Design, world: Landscape = WORLD) -> float:
    """Give the inherited quality of a design: each change is a share of a generation from the one before."""
    x = world.seed
    for end in range(2, len(design) + 1):
        x = world.child(x, random.Random("simulated/" + "/".join(design[:end])), 1 / MOVES)
    return x


def truth(design: Design, world: Landscape = WORLD) -> float:
    """Give the true quality of a design, on the latent scale: what many runs would show."""
    return quality(design, world) + world.own(random.Random("own/" + "/".join(design)))


def cost_of(design: Design) -> Cost:
    """Give what a design costs: a path more is a quarter more work, a state more doubles the state."""
    return Cost(
        parameters=1000,
        mixer_parameters=1000,
        flops_per_token=1000.0 * 1.25 ** size(design, "path"),
        state_bytes=4096 * 2 ** size(design, "state"),
    )


def _run(design: Design, stage: Stage, seed: int) -> tuple[tuple[tuple[int, float], ...], float]:
    """Give the curve of a run, and its fitness on the published scale."""
    name = "/".join(design)
    if len(design) > 1 and random.Random(f"failed/{name}").random() < WORLD.failed:
        raise CandidateError("train", "nan", f"the loss is not finite at step {stage.steps // 20}")
    draw = random.Random(f"run/{name}/{stage.name}/{seed}")
    u = truth(design) + WORLD.error(draw) * math.sqrt(FULL / stage.steps)
    points = tuple((step * stage.steps // FULL, loss) for step, loss in curve(u, draw))
    return points, published(u)
