"""The engine of spaces whose candidates are mixers: check one, train it, measure it."""

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import Any

import torch
from torch import nn

from asi_arch.engineer.bundle import Bundle, GraphMixer, Place
from asi_arch.engineer.candidate import Candidate
from asi_arch.engineer.checks.common import (
    CUTS,
    LENGTHS,
    TRACED_TOKENS,
    TRAIN_LENGTHS,
    Check,
    lengths_of,
)
from asi_arch.engineer.checks.order import all_checks
from asi_arch.engineer.checks.suspicion import Scored, too_good
from asi_arch.engineer.checks.trained import trained_causality
from asi_arch.engineer.cost import measure
from asi_arch.engineer.evaluate import evaluate
from asi_arch.engineer.function import function_hash
from asi_arch.engineer.sandbox import call
from asi_arch.engineer.source import require_source
from asi_arch.engineer.tasks.text import fingerprint
from asi_arch.engineer.train import Recipe, train
from asi_arch.errors import CandidateError
from asi_arch.records import Cost, Evidence, Failure, Job, Metric, Progress, Split, Verdict, text_hash
from asi_arch.search.budgets.base import failure_of_stop
from asi_arch.space import Space, load_space

CHECK_LAYERS = 8
OTHER_SIZE = (128, 4)  # width and heads that are never trained here: a mixer must build at any
TRANSLATE_SECONDS = 600.0  # of the wall clock; processor time has a tighter limit
SPLITS: tuple[Split, ...] = ("train", "validation")
FLOPS_LIMIT = 2.0  # of the seed's model
SECONDS_LIMIT = 4.0  # of the seed's mixer, forward and backward at the stage's size
GRAPH_ERRORS = (RuntimeError, IndexError, ValueError, TypeError)  # what a validated graph may still raise
BUFFER_LIMIT = 4096  # numbers of a mixer that are no parameters, and so are not counted as such
Report = Callable[[Progress], None]


class _Server:
    """What the warm server knows before it forks: where the wall is, and the seed's graphs."""

    wall: str = ""
    seeds: dict[str, Candidate] = {}  # noqa: RUF012 - filled once, before the first fork


def warm(argument: str) -> None:
    """Load what every job needs; argument: the wall's address, a space's name.

    Called once in the server process, before it forks the first job.
    """
    torch.set_num_threads(1)
    torch.optim.AdamW([nn.Parameter(torch.zeros(1))], fused=True).step()  # imports what training needs
    for split in SPLITS:
        fingerprint(split)  # reads the text
    _Server.wall, name = argument.split(" ")
    space = load_space(name)
    _Server.seeds[name] = _translate(space, space.baseline_source(space.seed))


def examine(job: Job, report: Report) -> Evidence:
    """Check a source and, when a stage is given, train it; a fault of its is evidence too."""
    space = load_space(job.space)
    run = _Run(space, job, report)
    try:
        return run.evidence()
    except CandidateError as error:
        failure = Failure(phase=error.phase, kind=error.kind, message=error.message, trace=error.trace)
        named = error.phase in ("source", "contract", "graph", "determinism", "budget")
        if named and not any(v.name == error.phase for v in run.verdicts):
            run.verdicts.append(Verdict(name=error.phase, passed=False, message=error.message))
        return run.record(failure=failure)


class _Run:
    """One job: what has been measured so far, so that a failure loses none of it."""

    def __init__(self, space: Space, job: Job, report: Report) -> None:
        self.space, self.job, self.report = space, job, report
        self.model: ModuleType = import_module(space.model)
        self.verdicts: list[Verdict] = []
        self.known: dict[str, Any] = {}
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def record(self, **values: Any) -> Evidence:
        """Give the evidence as it stands."""
        stage = self.job.stage.name if self.job.stage else "checks"
        return Evidence(
            stage=stage,
            seed=self.job.seed,
            source_hash=text_hash(self.job.source),
            checks=tuple(self.verdicts),
            seconds=time.perf_counter() - self.wall,
            cpu_seconds=time.process_time() - self.cpu,
            versions=versions(),
            **self.known,
            **values,
        )

    def evidence(self) -> Evidence:
        """Run the job."""
        recipe: Recipe = self.model.RECIPE
        places = stage_places(recipe)
        if self.job.bundle:
            bundle = Bundle(self.job.bundle)
        else:
            bundle = self._gate(recipe)
        text = bundle.subset(places, (recipe.length,))
        self.known |= {"bundle": text, "graph_hash": Bundle(text).hash()}
        failed = next((v for v in self.verdicts if not v.passed), None)
        if failed is not None and self.job.enforce:
            return self.record(failure=Failure(phase=failed.name, kind="check", message=failed.message))
        if self.job.stage is None:
            return self.record()
        return self._train(Bundle(text), recipe)

    def _gate(self, recipe: Recipe) -> Bundle:
        """Translate and run every check that needs no training."""
        self.verdicts.append(require_source(self.job.source))
        self.report(Progress(phase="translate"))
        candidate = _translate(self.space, self.job.source)
        self.verdicts += _translated(candidate, recipe)
        todo = all_checks()
        for i, check in enumerate(todo):
            self.report(Progress(phase="check", done=i, total=len(todo) + 1, note=check.__name__))
            self.verdicts.append(_run_check(check, candidate))
        self.report(Progress(phase="check", done=len(todo), total=len(todo) + 1, note="budget"))
        seed = _Server.seeds[self.space.name]
        self.verdicts.append(_run_check(lambda c: _budget(c, seed, self.model), candidate, "budget"))
        if all(verdict.passed for verdict in self.verdicts):
            self.known["function_hash"] = function_hash(candidate)
        return candidate.bundle

    def _train(self, bundle: Bundle, recipe: Recipe) -> Evidence:
        assert self.job.stage is not None
        places = stage_places(recipe)
        mixers = [
            GraphMixer(bundle, place, recipe.length, self.job.seed * 64 + place.layer) for place in places
        ]
        model = self.model.build(mixers, recipe, self.job.seed)
        self.known["cost"] = _model_cost(bundle, model, mixers, recipe)
        try:
            trained = train(model, self.job.stage, recipe, self.job.seed, self.report, self.job.stop)
        except GRAPH_ERRORS as error:
            message = f"the graph fails: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
            raise CandidateError("train", "graph", message) from error
        self.known["curve"] = trained.curve
        if trained.stopped and self.job.stop is not None:
            failure = failure_of_stop(self.job.stop, trained.stopped)
            return self.record(failure=failure, stopped_at=trained.curve[-1][0])
        self.report(Progress(phase="evaluate"))
        model.eval()
        self.verdicts.append(trained_causality(model, recipe))
        if not self.verdicts[-1].passed and self.job.enforce:
            failed = self.verdicts[-1]
            return self.record(failure=Failure(phase=failed.name, kind="check", message=failed.message))
        metrics, details = evaluate(model.float(), recipe, self.job.split)
        require_metrics(self.space, metrics)
        verdict = self._suspicion(model, mixers, metrics)
        self.verdicts += [verdict] if verdict else []
        if verdict and not verdict.passed and self.job.enforce:
            return self.record(failure=Failure(phase=verdict.name, kind="check", message=verdict.message))
        seed_mixer = GraphMixer(_Server.seeds[self.space.name].bundle, places[0], recipe.length, 0)
        self.known["cost"] = replace(
            self.known["cost"],
            tokens_per_second=trained.tokens_per_second,
            peak_bytes=trained.peak_bytes,
            relative_seconds=relative_seconds(mixers[0], seed_mixer, recipe),
        )
        return self.record(metrics=metrics, details=details)

    def _suspicion(
        self, model: nn.Module, mixers: Sequence[GraphMixer], metrics: Mapping[str, Metric]
    ) -> Verdict | None:
        """Examine a score that is too good, on the graphs of the bundle that is on record."""
        recipe: Recipe = self.model.RECIPE
        checked, length = Bundle(self.known["bundle"]), (recipe.length,)
        graphs = [
            {mode == "train": checked.graph(place, mode, length) for mode in ("train", "eval")}
            for place in stage_places(recipe)
        ]
        same = checked.hash() == self.known["graph_hash"] and graphs == [mixer.graphs for mixer in mixers]
        scored = Scored(model=model, recipe=recipe, metrics=metrics, same_graph=same,
                        graph_hash=checked.hash())  # fmt: skip
        return too_good(scored, self.space.metrics, self.job.reference)


def stage_places(recipe: Recipe) -> tuple[Place, ...]:
    """Give the places of the layers that a recipe trains."""
    width, heads = recipe.d_model, recipe.num_heads
    return tuple(Place(d_model=width, num_heads=heads, layer=i) for i in range(recipe.num_layers))


def require_metrics(space: Space, metrics: Mapping[str, Metric]) -> None:
    """Raise CandidateError, phase `evaluate`, when a metric of a space has no value."""
    missing = [spec.name for spec in space.metrics if spec.name not in metrics]
    if missing:
        raise CandidateError("evaluate", "missing", f"no value of {', '.join(missing)}")


def versions() -> dict[str, str]:
    """Give the versions that a number depends on."""
    return {
        "asi-arch": version("asi-arch"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "device": "cpu",
        "text": "/".join(map(fingerprint, SPLITS)),
    }


def _ask_wall(source: str, configs: Sequence[dict[str, Any]]) -> Bundle:
    request = json.dumps({"source": source, "configs": configs}).encode()
    try:
        return Bundle(call(_Server.wall, request, TRANSLATE_SECONDS))
    except CandidateError as error:
        if error.phase:
            raise
        message = f"making the graphs: {error.message}"
        raise CandidateError("graph", error.kind, message) from None


def _translate(space: Space, source: str) -> Candidate:
    """Have the wall turn a source into graphs for every check and for the stage.

    Raises:
        CandidateError: whatever is wrong with the source or its graphs.
    """
    recipe: Recipe = import_module(space.model).RECIPE
    layers, lengths = list(range(CHECK_LAYERS)), lengths_of(source)
    size = (recipe.d_model, recipe.num_heads)  # of what is trained, so that no size can be told apart
    bundle = _ask_wall(
        source,
        [
            _config(*size, [0], _sweep(lengths)),
            _config(*size, layers, [[False, [64]], [False, [257]]], raw=True),
            _config(*size, list(range(recipe.num_layers)),
                    [[True, [recipe.length]], [False, [recipe.length]]]),
            _config(*OTHER_SIZE, [0], [[False, [33]]], raw=True),
        ],
    )  # fmt: skip
    places = [Place(d_model=size[0], num_heads=size[1], layer=layer) for layer in layers]
    seen: dict[tuple[int, ...], Place] = {}
    for place in places:
        seen.setdefault(tuple(bundle.number(place, "raw", (t,)) for t in (64, 257)), place)
    distinct = list(seen.values())
    if len(distinct) > 1:
        others = [place.layer for place in distinct[1:]]
        bundle = bundle.joined(_ask_wall(source, [_config(*size, others, _sweep(lengths))]))
    return Candidate(bundle, distinct, stage_places(recipe), (recipe.length, *lengths))


def _config(
    d_model: int, num_heads: int, layers: list[int], traces: list[Any], raw: bool = False
) -> dict[str, Any]:
    return {"d_model": d_model, "num_heads": num_heads, "layers": layers, "traces": traces, "raw": raw}


def _sweep(lengths: Sequence[int]) -> list[list[Any]]:
    """Give every trace that the checks need of one layer."""
    traces: list[list[Any]] = [[False, [length]] for length in lengths]
    traces += [[True, [length]] for length in TRAIN_LENGTHS]
    for cut in CUTS:
        traces += [[False, list(cut[: i + 1])] for i in range(len(cut))]
    return traces + [[False, [1] * (i + 1)] for i in range(TRACED_TOKENS)]


def _translated(candidate: Candidate, recipe: Recipe) -> list[Verdict]:
    """Give the verdicts that a translation earns by itself."""
    for place, mode, length in candidate.traced((), TRAIN_LENGTHS):
        candidate.graph(place, mode, (length,))
        candidate.tensors(place, 0.0, torch.float32)
    graph = candidate.graph(candidate.places[0], "eval", (64,))
    kinds = len(candidate.places)
    graphs = "one graph" if kinds == 1 else f"{kinds} different graphs"
    layers = f"layers 0 to {CHECK_LAYERS - 1} have {graphs}"
    contract = f"(x, state) -> (y, state) for T 1 to {max(LENGTHS):,}, B 5 and 7; {layers}"
    size = f"{len(graph.nodes)} operators at T = 64, {len(candidate.bundle.traces)} calls traced, all allowed"
    return [
        Verdict(name="contract", passed=True, message=contract),
        Verdict(name="graph", passed=True, message=size),
    ]


def _run_check(check: Check, candidate: Candidate, name: str = "") -> Verdict:
    try:
        return check(candidate)
    except CandidateError as error:
        message = error.message
    except GRAPH_ERRORS as error:
        message = f"the graph fails: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
    return Verdict(name=name or check.__name__, passed=False, message=message)


def _budget(candidate: Candidate, seed: Candidate, model: ModuleType) -> Verdict:
    """Parameters fit the seed's total; FLOPs and seconds stay near the seed's."""
    recipe: Recipe = model.RECIPE
    built = [_build(c.bundle, model, recipe) for c in (candidate, seed)]
    ours, theirs = (
        _model_cost(c.bundle, m, x, recipe) for c, (m, x) in zip((candidate, seed), built, strict=True)
    )
    flops = ours.flops_per_token / theirs.flops_per_token
    seconds = relative_seconds(built[0][1][0], built[1][1][0], recipe)
    message = (
        f"mixer {ours.mixer_parameters:,} parameters (seed {theirs.mixer_parameters:,}), "
        f"total {ours.parameters:,} at SwiGLU width {ours.hidden_width}; "
        f"FLOPs x {flops:.2f} (limit {FLOPS_LIMIT:.0f}), "
        f"seconds of the mixer x {seconds:.1f} (limit {SECONDS_LIMIT:.0f})"
    )
    fixed = sum(b.numel() for b in built[0][1][0].buffers() if b.is_floating_point())
    if fixed > BUFFER_LIMIT:
        message = f"buffers hold {fixed:,} fixed numbers (limit {BUFFER_LIMIT:,}); make them parameters"
    passed = flops <= FLOPS_LIMIT and seconds <= SECONDS_LIMIT and fixed <= BUFFER_LIMIT
    return Verdict(name="budget", passed=passed, message=message)


def _build(bundle: Bundle, model: ModuleType, recipe: Recipe) -> tuple[nn.Module, list[GraphMixer]]:
    mixers = [GraphMixer(bundle, place, recipe.length, place.layer) for place in stage_places(recipe)]
    return model.build(mixers, recipe, 0), mixers


def _model_cost(bundle: Bundle, model: Any, mixers: Sequence[GraphMixer], recipe: Recipe) -> Cost:
    """Give what is known before training: sizes, FLOPs and the state."""
    costs = [measure(bundle.graph(place, "eval", (recipe.length,)), 1) for place in stage_places(recipe)]
    width = int(model.blocks[0].mlp.down.shape[0])
    around = 2 * recipe.d_model * (3 * width * recipe.num_layers + recipe.vocab)  # SwiGLUs and logits
    state = sum(torch.Size(shape).numel() for c in costs for shape in c.shapes[1:])
    return Cost(
        parameters=sum(p.numel() for p in model.parameters()),
        mixer_parameters=sum(p.numel() for p in mixers[0].parameters()),
        hidden_width=width,
        flops_per_token=sum(c.flops for c in costs) / recipe.length + around,
        state_bytes=4 * state,
    )


def relative_seconds(mixer: nn.Module, seed: nn.Module, recipe: Recipe) -> float:
    """Time forward and backward of two mixers in turns and give the ratio of the fastest runs."""
    x = torch.randn(16, recipe.length, recipe.d_model, generator=torch.Generator().manual_seed(0))
    best = [float("inf"), float("inf")]
    for _ in range(5):
        for i, module in enumerate((mixer, seed)):
            begin = time.process_time()
            module(x.clone().requires_grad_()).sum().backward()
            best[i] = min(best[i], time.process_time() - begin)
            module.zero_grad(set_to_none=True)
    return best[0] / best[1]
