"""The engine of the toy space: check a rule, fit it to noisy points, measure it where there was no noise."""

import math
import platform
import random
import time
from collections.abc import Callable, Sequence

from asi_arch.errors import CandidateError
from asi_arch.records import Cost, Evidence, Failure, Job, Metric, Progress, Stage, Verdict, text_hash
from asi_arch.search.budgets.base import failure_of_stop, judge
from asi_arch.spaces.toy.rule import KINDS, Term, from_bundle, read_rule, to_bundle

POINTS = 32
NOISE = 0.15  # standard deviation of a point
MOST_FLOPS = 64
CURVE_POINTS = 10
INSIDE = tuple(-1 + 2 * i / 64 for i in range(65))  # where the points lie
OUTSIDE = tuple(1 + 0.5 * i / 16 for i in range(1, 17))  # beyond them
LITERAL = "one literal, nothing to run"
Report = Callable[[Progress], None]


def examine(job: Job, report: Report) -> Evidence:
    """Check a rule and, when a stage is given, fit it; a fault of its is evidence too."""
    begin, cpu = time.perf_counter(), time.process_time()
    run = _Run(job, report)
    failure = None
    try:
        run.measure()
        failure = failure_of_stop(job.stop, run.stopped) if job.stop and run.stopped else None
    except CandidateError as error:
        failure = Failure(phase=error.phase, kind=error.kind, message=error.message)
    return Evidence(
        stage=job.stage.name if job.stage else "checks",
        seed=job.seed,
        source_hash=text_hash(job.source),
        graph_hash=text_hash(run.bundle) if run.bundle else "",
        function_hash=_function(from_bundle(run.bundle)) if run.bundle and failure is None else "",
        bundle=run.bundle,
        checks=tuple(run.verdicts),
        failure=failure,
        curve=tuple(run.curve),
        metrics=run.metrics,
        stopped_at=run.curve[-1][0] if run.stopped else 0,
        cost=run.cost,
        seconds=time.perf_counter() - begin,
        cpu_seconds=time.process_time() - cpu,
        versions={"python": platform.python_version()},
    )


class _Run:
    """One job: what is known so far, so that a failure loses none of it."""

    def __init__(self, job: Job, report: Report) -> None:
        self.job, self.report = job, report
        self.bundle = job.bundle
        self.verdicts: list[Verdict] = []
        self.curve: list[tuple[int, float]] = []
        self.metrics: dict[str, Metric] = {}
        self.stopped = ""
        self.cost = Cost()

    def measure(self) -> None:
        """Run the job. Raises CandidateError for the candidate's faults."""
        if not self.job.bundle:
            self._check()
        terms = from_bundle(self.bundle)  # from here on the graph, not the source
        self.cost = _cost(terms)
        if self.job.stage is not None:
            weights = self._fit(terms, self.job.stage)
            if self.stopped:
                return
            self.report(Progress(phase="evaluate"))
            self.metrics = {
                "inside": _error(terms, weights, INSIDE),
                "outside": _error(terms, weights, OUTSIDE),
            }

    def _check(self) -> None:
        self.report(Progress(phase="check", total=3))
        try:
            terms = read_rule(self.job.source)
        except CandidateError as error:
            if error.phase != "source":
                self._verdict("source", True, LITERAL)
            self._verdict(error.phase, False, error.message)
            raise
        self.bundle = to_bundle(terms)
        self._verdict("source", True, LITERAL)
        self._verdict("graph", True, f"{len(terms)} terms, all allowed")
        flops = _cost(terms).flops_per_token
        message = f"{flops:.0f} FLOPs a value, the limit is {MOST_FLOPS}"
        self._verdict("budget", flops <= MOST_FLOPS, message)
        if flops > MOST_FLOPS and self.job.enforce:
            raise CandidateError("budget", "check", message)

    def _verdict(self, name: str, passed: bool, message: str) -> None:
        self.verdicts.append(Verdict(name=name, passed=passed, message=message))

    def _fit(self, terms: tuple[Term, ...], stage: Stage) -> list[float]:
        """Descend the mean squared error from small random weights; the bias is the last weight.

        The error is a quadratic form, so a step costs terms^2, however many points there are.
        """
        draw = random.Random(f"toy/{self.job.seed}")
        rows, targets = _points(terms, draw)
        hessian = [
            [_mean([r[i] * r[j] for r in rows]) for j in range(len(rows[0]))] for i in range(len(rows[0]))
        ]
        slope = [_mean([r[i] * y for r, y in zip(rows, targets, strict=True)]) for i in range(len(rows[0]))]
        weights = [draw.gauss(0, 0.1) for _ in slope]
        every = max(1, stage.steps // CURVE_POINTS)
        for step in range(1, stage.steps + 1):
            rate = stage.learning_rate * (1 - (step - 1) / stage.steps)
            gradient = [_dot(row, weights) - s for row, s in zip(hessian, slope, strict=True)]
            weights = [w - rate * g for w, g in zip(weights, gradient, strict=True)]
            if step % every == 0 or step == stage.steps:
                errors = [_dot(row, weights) - y for row, y in zip(rows, targets, strict=True)]
                loss = _dot(errors, errors) / POINTS  # a power would raise where this gives inf
                if not loss < 1e6:
                    raise CandidateError("train", "nan", f"the loss diverged by step {step}; lower the gains")
                self.curve.append((step, loss))
                self.report(Progress(phase="train", done=step, total=stage.steps, note=f"loss {loss:.3f}"))
                self.stopped = judge(self.curve, self.job.stop).reason
                if self.stopped:
                    break
        return weights


def target(x: float) -> float:
    """Give the curve that rules are fitted to: a wave on a parabola, with a kink."""
    return 0.6 * math.sin(5 * x) + 0.5 * x * x - 0.4 * x + 0.5 * max(0.0, x - 0.3)


def _points(terms: Sequence[Term], draw: random.Random) -> tuple[list[list[float]], list[float]]:
    """Give the features of noisy training points, a constant 1 last, and the points' heights."""
    places = [draw.uniform(-1, 1) for _ in range(POINTS)]
    heights = [target(x) + draw.gauss(0, NOISE) for x in places]
    return [[term(x) for term in terms] + [1.0] for x in places], heights


def _function(terms: Sequence[Term]) -> str:
    """Give a hash of what terms are as functions, so that equal waves of two phases are one."""
    places = (*INSIDE, *OUTSIDE)
    return text_hash(repr(sorted([round(term(x), 9) + 0.0 for x in places] for term in terms)))


def _error(terms: Sequence[Term], weights: Sequence[float], places: Sequence[float]) -> Metric:
    """Give the root mean squared error against the noiseless curve, and its standard error over places."""
    squares = [(_dot([*(t(x) for t in terms), 1.0], weights) - target(x)) ** 2 for x in places]
    error = math.sqrt(_mean(squares))
    variance = _mean([(s - error * error) ** 2 for s in squares]) / len(squares)
    return Metric(value=error, standard_error=math.sqrt(variance) / (2 * error) if error else 0.0)


def _cost(terms: Sequence[Term]) -> Cost:
    flops = sum(KINDS[term.kind].flops + 2 for term in terms) + 1
    return Cost(parameters=len(terms) + 1, mixer_parameters=len(terms) + 1, flops_per_token=float(flops))


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
