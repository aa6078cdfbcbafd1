"""Findings by rule: what a change did to each task, to size, speed and state, said for the next brief."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from asi_arch.analyst.fitness import gain, scale_at
from asi_arch.analyst.statistics import mean, mean_metric, runs_at, seed_noise
from asi_arch.records import Cost, Evidence, Experiment, Failure, Finding
from asi_arch.search.budgets.base import STOPPED
from asi_arch.space import MetricSpec, Space

Scored = tuple[Experiment, float]
DOCSTRING = re.compile(r'\s*[rR]?"""([^\n"]*)')
IDEA = 140  # characters of a docstring that stand for a change without moves
SAME = 0.02  # relative change of a size or a cost that is not worth a sentence
SAME_SPEED = 0.10  # of a time, which is noisy on a shared machine

CURES: Mapping[str, str] = {
    "source": "mend the line that is named; import what the contract allows, define the class that it names",
    "contract": "keep the constructor's and the forward's signature, and give output and state of its shapes",
    "graph": "write tensor code without .item(), without control flow on data and without attribute writes",
    "finite": "normalise queries and keys, bound decays and gates, and guard every division and exponent",
    "causality": "let position t read positions up to t only: check shifts, padding, masks, norms over T",
    "continuation": "carry in the state all that the next token needs: positions and convolution tails too",
    "batch": "never mix rows: no statistics over the batch, no reshape that folds batch into time or heads",
    "determinism": "draw nothing at random in forward",
    "gradients": "use every parameter on the way to the output, and let no gate start fully shut",
    "cost": "keep work and memory linear in T: use the chunked operators, no T x T matrix and no loop over T",
    "state": "keep the state's size constant in T: a summary, not a cache of the past",
    "budget": "narrow the projections or drop a path until parameters, FLOPs and time fit the seed's budget",
    "trained_causality": "look for a path that leaks later tokens once its gate has opened in training",
    "too_good": "look for a path, however faint, by which later tokens or other rows reach an output",
    "train": "lower the risk of divergence: norms before gates, bounded decay, smaller initial outputs",
    "evaluate": "look for outputs that grow with the number of tokens",
    "novelty": "change the structure itself: names, order and constants make no new graph",
    "timeout": "do less work for each token: fewer paths, or one operator in place of a loop",
    "memory": "keep fewer tensors of size T alive: no expanded per-token state",
    "nan": "normalise queries and keys, bound decays and gates, and guard every division and exponent",
}
"""What would mend a failure, by its phase or, for a failure of kind timeout, memory or nan, by its kind."""


def explain(
    experiment: Experiment,
    parent: Experiment | None,
    siblings: Sequence[Experiment],
    seed: Sequence[Evidence],
    space: Space,
) -> Finding:
    """Give what an experiment taught, from measured figures only.

    Args:
        experiment: with its evidence and its fitness or failure; the last evidence names the stage.
        parent: None for a baseline or a person's own architecture.
        siblings: other experiments with the same parent.
        seed: the seed's runs at the stage of the experiment; empty while none is measured.
        space: names the metrics and their scales.

    The text depends on the arguments alone. The noise that it speaks of is the metric's scale, that of a
    difference between two single runs; a smaller change is called not distinguishable, whichever way
    it points.
    """
    if experiment.failure is not None and experiment.failure.phase == STOPPED:
        message = experiment.failure.message
        return Finding(text=f"{_opening(experiment, parent, 0)} It was {message}.", query="learn faster")
    if experiment.failure is not None:
        return _explain_failure(experiment, experiment.failure, parent)
    stage = experiment.evidence[-1].stage
    runs = runs_at(experiment, stage)
    sentences = [_opening(experiment, parent, len(runs))]
    relatives = [] if parent is None else [(f"#{parent.id}", runs_at(parent, stage))]
    if seed and not _same_runs(runs, seed) and (parent is None or not _same_runs(relatives[0][1], seed)):
        relatives.append(("the seed", tuple(seed)))
    for name, reference in relatives:
        if reference:
            sentences += [_tasks(name, runs, reference, space), _costs(name, runs, reference)]
    if _same_runs(runs, seed):
        sentences.append(_seed_figures(runs, space))
    others = [(s, s.fitness.value) for s in siblings if s.fitness is not None and s.id != experiment.id]
    moves = experiment.proposal.moves if experiment.proposal else ()
    sentences += [_rank(experiment, others), *_moves(moves, others)]
    weakest, query = _weakest(runs, seed, space)
    sentences.append(weakest)
    return Finding(text=" ".join(s for s in sentences if s), query=query)


def _opening(experiment: Experiment, parent: Experiment | None, runs: int) -> str:
    proposal = experiment.proposal
    name = proposal.name if proposal else "unnamed"
    over = f" (mean of {runs} runs)" if runs > 1 else ""
    if parent is None:
        return f"#{experiment.id} {name}{over}."
    if proposal and proposal.moves:
        changed = f"by {_listed(_words(m) for m in proposal.moves)}"
    else:
        idea = first_line(proposal.source) if proposal else ""
        changed = f"to '{idea}'" if idea else "by a new source"
    return f"#{experiment.id} {name}{over}: #{parent.id} changed {changed}."


def first_line(source: str) -> str:
    """Give the first line of a source's docstring, its author's own short words; "" where there is none."""
    found = DOCSTRING.match(source)  # no parser: a source may be anything
    text = found[1] if found else ""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= IDEA else line[: IDEA - 3] + "..."


def _tasks(name: str, runs: Sequence[Evidence], reference: Sequence[Evidence], space: Space) -> str:
    parts = [_task(spec, runs, reference) for spec in space.metrics]
    return f"Against {name}: " + "; ".join(parts) + "."


def _task(spec: MetricSpec, runs: Sequence[Evidence], reference: Sequence[Evidence]) -> str:
    value = mean_metric(runs, spec.name)
    change = mean(gain(spec, run, reference) for run in runs)
    scale = scale_at(spec, runs[0].stage)
    measured = f"{spec.title} {value:.4g} {spec.unit}".rstrip()
    if abs(change) < scale:
        return f"{measured}, within the noise of {scale:.2g}: not distinguishable"
    verdict = f"{'better' if change > 0 else 'worse'} by {abs(change):.3g}"
    return f"{measured}, {verdict}, {abs(change) / scale:.1f} times the noise"


def _costs(name: str, runs: Sequence[Evidence], reference: Sequence[Evidence]) -> str:
    own, other = runs[-1].cost, reference[-1].cost
    parts = [
        _ratio("mixer parameters", own.mixer_parameters, other.mixer_parameters, SAME),
        _ratio("FLOPs a token", own.flops_per_token, other.flops_per_token, SAME),
        _ratio("decoding state", own.state_bytes, other.state_bytes, SAME),
        _ratio("time of a mixer's step", *_times(own, other), SAME_SPEED),
    ]
    changed = [part for part in parts if part]
    return f"Cost against {name}: {', '.join(changed)}." if changed else ""


def _times(own: Cost, other: Cost) -> tuple[float, float]:
    if own.relative_seconds and other.relative_seconds:
        return own.relative_seconds, other.relative_seconds
    if own.tokens_per_second and other.tokens_per_second:
        return 1 / own.tokens_per_second, 1 / other.tokens_per_second
    return 0.0, 0.0


def _ratio(noun: str, own: float, other: float, same: float) -> str:
    if not own or not other or abs(own / other - 1) < same:
        return ""
    ratio = own / other
    return f"{noun} {ratio:.1f} times as large" if ratio >= 2 else f"{noun} {ratio - 1:+.0%}"


def _seed_figures(runs: Sequence[Evidence], space: Space) -> str:
    parts = []
    for spec in space.metrics:
        noise = seed_noise(runs, spec.name)
        beside = "" if noise is None else f" (noise of a run {noise:.2g})"
        parts.append(f"{spec.title} {mean_metric(runs, spec.name):.4g} {spec.unit}".rstrip() + beside)
    return "The seed: " + "; ".join(parts) + "."


def _rank(experiment: Experiment, others: Sequence[Scored]) -> str:
    if experiment.fitness is None:
        return ""
    own = experiment.fitness.value
    if not others:
        return f"Fitness {own:.3f}."
    rank = 1 + sum(value > own for _, value in others)
    best, highest = max(others, key=lambda scored: (scored[1], -scored[0].id))
    beside = f"the best of the others is #{best.id} with {highest:.3f}"
    return f"Fitness {own:.3f}, rank {rank} of {len(others) + 1} siblings; {beside}."


def _moves(moves: Sequence[str], others: Sequence[Scored]) -> list[str]:
    sentences = []
    for move in moves:
        having = [value for s, value in others if s.proposal and move in s.proposal.moves]
        lacking = [value for s, value in others if s.proposal and move not in s.proposal.moves]
        if having and lacking:
            sentences.append(
                f"Siblings with '{_words(move)}' average {mean(having):.3f} ({len(having)}), "
                f"without it {mean(lacking):.3f} ({len(lacking)})."
            )
    return sentences


def _weakest(runs: Sequence[Evidence], seed: Sequence[Evidence], space: Space) -> tuple[str, str]:
    """Give the sentence on the weakest task, and the words that recall cognitions for it.

    A task in which even a perfect score would be within the noise is not the weakest beside one with room.
    """
    if not seed:
        return "", " ".join(f"{spec.title} {_words(spec.name)}" for spec in space.metrics)
    in_scales = {
        spec.name: mean(gain(spec, run, seed) for run in runs) / scale_at(spec, runs[0].stage)
        for spec in space.metrics
    }
    room = {s.name: _room(s, runs) / scale_at(s, runs[0].stage) for s in space.metrics}
    open_tasks = [s for s in space.metrics if room[s.name] >= 1] or space.metrics
    spec = min(open_tasks, key=lambda s: in_scales[s.name])
    distance = in_scales[spec.name]
    words = ["weak" if distance < 1 else "improve", spec.title, _words(spec.name)]
    words += _low_details(runs[-1], spec)
    if runs[-1].cost.relative_seconds > 1 + 2 * SAME_SPEED:
        words.append("slow training, more time for each step")
    query = " ".join(dict.fromkeys(" ".join(words).split()))
    full = [f"{s.title} ({room[s.name]:.1f})" for s in space.metrics if room[s.name] < 1]
    spent = f" Even a perfect score would gain less than the noise in {_listed(full)}." if full else ""
    if _same_runs(runs, seed):
        return spent.strip(), query
    weakest = f"Its weakest task is {spec.title} ({distance:+.1f} times the noise against the seed)."
    return weakest + spent if len(space.metrics) > 1 else "", query


def _room(spec: MetricSpec, runs: Sequence[Evidence]) -> float:
    """Give how much a metric can still gain, in its unit: losses end at 0, others have no known end."""
    return math.inf if spec.higher_is_better else mean_metric(runs, spec.name)


def _low_details(run: Evidence, spec: MetricSpec) -> list[str]:
    """Give the name of the lowest accuracy among the details of a metric's task, if it has one."""
    task = spec.name.split("_")[0]
    own = {n: m.value for n, m in run.details.items() if n.startswith(task) and "accuracy" in n}
    return [_words(min(own, key=lambda n: (own[n], n)))] if own else []


def _explain_failure(experiment: Experiment, failure: Failure, parent: Experiment | None) -> Finding:
    kind = f" ({failure.kind})" if failure.kind and failure.kind != failure.phase else ""
    message = failure.message.strip().rstrip(".")
    cure = CURES.get(failure.kind) or CURES.get(failure.phase, "")
    opening = _opening(experiment, parent, 0)
    text = f"{opening} Failed in {failure.phase}{kind}: {message}."
    if cure:
        text += f" To mend it: {cure}."
    return Finding(text=text, query=f"{_words(failure.phase)} {_words(failure.kind)} {cure}".strip())


def _same_runs(runs: Sequence[Evidence], others: Sequence[Evidence]) -> bool:
    return bool(runs) and bool(others) and runs[0].source_hash == others[0].source_hash


def _words(name: str) -> str:
    return name.replace("_", " ")


def _listed(words: Iterable[str]) -> str:
    items = list(words)
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]
