"""What a coding agent is told: plain text with numbers and units that names the next step."""

from collections.abc import Sequence
from dataclasses import replace
from time import monotonic

from asi_arch.analyst.explain import CURES
from asi_arch.analyst.statistics import mean_metric
from asi_arch.records import Brief, Evidence, Experiment, Failure, Progress, Verdict
from asi_arch.report.story import tell
from asi_arch.report.tables import Table, figure, gain_cell, heading, leaderboard, words
from asi_arch.report.view import View, by_fitness, cost_of, fitness_of, standing
from asi_arch.researcher.brief_text import brief_text, failure_text, timeless, verdict_text
from asi_arch.seats.claims import NEXT
from asi_arch.seats.seats import Standing, progress_words
from asi_arch.settings import is_without

BOARD = 5  # candidates in a brief's table
IDEA = 240  # characters of an open design's motivation
MEASURED = ("gradients", "cost", "state", "budget")  # checks whose figures a design must keep an eye on
CURVE = (0.1, 0.2, 0.4, 0.7, 1.0)  # of the steps: where a learning curve is told
FORMULAS = {
    "gain": "Fitness is the mean over the metrics of sigmoid(gain over the seed / (2 x noise)), where "
    "noise is the standard deviation of a difference of two runs, given above. 0.5 is the seed, 0.62 is "
    "better by one noise, 0.73 by two",
    "paper": "Fitness is the mean of a loss term and a benchmark term (and a judge's, if there is one), "
    "each 0.5 at the seed and near 1 when 10 % better",
}


def brief_answer(brief: Brief, view: View, standing: Standing, short: bool) -> str:
    """Give a brief with what else an agent must know; short leaves out contract and operators."""
    told = replace(brief, contract="") if short else brief
    parent, id = brief.parent, brief.id
    sections = [
        ("How the score is made", _scoring(view)),
        (
            f"What the checks measured on the parent #{parent.id}; the same limits hold for you",
            _limits(parent),
        ),
        ("Standing", _board(view, BOARD) + standing_text(standing)),
        ("Designed or measured by others at this moment; do something else", _open(standing, id)),
        ("What is expected of you now", _expected(brief, view)),
    ]
    tail = "\n\n".join(f"## {title}\n{body.strip()}" for title, body in sections if body.strip())
    return f"{brief_text(told, view.space.metrics)}\n\n{tail}"


def checks_answer(checked: Evidence, twin: tuple[int, str] | None, id: int) -> str:
    """Give all verdicts on a source, what to do about the failed one, and the next step."""
    lines = [verdict_text(verdict) for verdict in checked.checks if verdict.passed]
    failure = checked.failure
    if failure is not None:
        again = "Mend it and call check again with the whole new source."
        return "\n".join(["FAILED. Nothing was trained.", *_failed(failure, checked.checks), *lines, again])
    if twin is not None:
        lines.append(
            f"But it is not new: the same {twin[1]} as experiment {twin[0]}; submit would refuse it. "
            f"read_experiment({twin[0]}) shows it. Change the mechanism."
        )
        return "\n".join([f"All {len(lines) - 1} checks passed.", *lines])
    following = (
        f"submit(experiment={id}, ...) with this source" if id else "submit it for the experiment you hold"
    )
    return "\n".join([f"All {len(lines)} checks passed.", *lines, f"Next: {following}."])


def result_answer(view: View, experiment: Experiment) -> str:
    """Give all that came out of an experiment that has ended."""
    title = f"#{experiment.id} {experiment.name} {standing(experiment)}"
    if experiment.failure is not None:
        lines = [f"{title}: no score.", *_failed(experiment.failure, _verdicts(experiment))]
    else:
        lines = [f"{title}: fitness {fitness_of(experiment):.3f}. {_rank(view, experiment)}"]
        lines += [_metrics(view, experiment).to_markdown().rstrip(), _details(view, experiment)]
        lines += _curves(view, experiment)
        passed = [verdict for verdict in _verdicts(experiment) if verdict.passed]
        lines.append(f"Checks: all {len(passed)} passed.")
    if experiment.finding is not None:
        lines.append(f"Finding: {timeless(experiment.finding.text)}")
    return "\n".join([*lines, f"Next: {NEXT}."])


def waiting_answer(experiment: Experiment, standing: Standing, now: tuple[Progress, float] | None) -> str:
    """Say how far an experiment is that has not ended."""
    id = experiment.id
    if experiment.status == "claimed":
        return f"#{id} was not handed in yet: check its source, then submit(experiment={id}, ...)."
    again = f"Call wait_for_result({id}) again."
    if now is not None:
        progress, since = now
        seconds = monotonic() - since
        return f"#{id} is being measured: {progress_words(progress)}, for {seconds:.0f} s so far. {again}"
    others = [e.id for e in standing.open if e.status == "proposed" and e.id < id]
    ahead = f", with {len(others)} handed in before it" if others else ""
    told = f"#{id} is handed in and waits, or another process measures it{ahead}."
    return f"{told} {again} {standing.fault}".rstrip()


def board_answer(view: View, standing: Standing, top: int) -> str:
    """Give the table of all baselines and the best candidates."""
    return (
        f"{_board(view, top)}{standing_text(standing)}\n"
        "The arrow says which way a metric is better. A gain is against the mean of the seed's runs, "
        "positive is better, with the standard deviation of one seed run behind ±. Single runs are leads, "
        "not discoveries. read_experiment(ID) tells the story of one and gives its source."
    )


def story_answer(view: View, experiment: Experiment) -> str:
    """Give an experiment's story and its source."""
    proposal = experiment.proposal
    if experiment.status == "claimed" or proposal is None:
        author = proposal.author if proposal else "nobody yet"
        return f"#{experiment.id} has no design yet; it is in the hands of {author}."
    parts = []
    for part in tell(view, experiment):
        body = part.body if isinstance(part.body, str) else part.body.to_markdown()
        parts.append(f"## {part.title}\n{body.strip()}")
    return "\n\n".join([*parts, f"## source\n```python\n{proposal.source.strip()}\n```"])


def standing_text(standing: Standing) -> str:
    """Say in a line how far the study is."""
    left = max(0, standing.goal - standing.ended - len(standing.open))
    told = (
        f"{standing.ended} of {standing.goal} candidates have ended; open: {len(standing.open)}; "
        f"briefs left: {left or 'none'}."
    )
    if standing.measured < standing.baselines:
        told += (
            f" {standing.measured} of {standing.baselines} baselines are measured; the others are under way."
        )
    return f"{told} {standing.fault}".rstrip()


def done_answer(standing: Standing) -> str:
    """Say that the study wants no further candidate."""
    waiting = [f"#{e.id}" for e in standing.open]
    verb = "has" if len(waiting) == 1 else "have"
    still = f" {', '.join(waiting)} {verb} not ended: wait_for_result tells." if waiting else ""
    return (
        f"The study has the {standing.goal} candidates that it was made for; there is no further "
        f"brief.{still} You are done: look at leaderboard, and tell your user what was learned. For more, "
        f"the user raises the setting `experiments` (asi-arch mcp --set experiments={2 * standing.goal})."
    )


def _scoring(view: View) -> str:
    stage = view.space.stages[view.settings.stage]
    steps, name = view.settings.steps or stage.steps, view.settings.fitness
    return (
        f"Each design is trained once, {steps} steps at stage {stage.name}, with the recipe and the data "
        f"that all have; what counts is measured by the study, not by you. {view.space.recipe}\n"
        f"{FORMULAS[name]}. The target is the first row of the table below."
    )


def _limits(parent: Experiment) -> str:
    shown = [f"- {v.name}: {timeless(v.message)}" for v in _verdicts(parent) if v.name in MEASURED]
    return "\n".join(shown)


def _open(standing: Standing, id: int) -> str:
    lines = []
    for e in standing.open:
        if e.proposal is None or e.id == id:
            continue
        parents = ", ".join(f"#{parent}" for parent in e.proposal.parents)
        idea = f"{e.proposal.name}: {e.proposal.motivation[:IDEA]}" if e.proposal.source else "being designed"
        lines.append(f"- #{e.id}, from {parents or 'nothing'}, by {e.proposal.author}: {idea}")
    return "\n".join(lines)


def _expected(brief: Brief, view: View) -> str:
    minutes, id = view.settings.claim_minutes, brief.id
    blind = is_without(view.settings, "cognition")
    more = "read_experiment gives" if blind else "search_cognition and read_experiment give"
    rests = "" if blind else ", cognitions=[ids that it rests on]"
    again = "You handed in what was known already (above); read why.\n" if brief.repeats else ""
    return (
        f"{again}You hold experiment {id} for {minutes:g} minutes; every call that names it starts them "
        "anew. One design, new and complete:\n"
        "1. Find what in the parent's mechanism causes its weakest figure. "
        f"{more} more than this brief does.\n"
        "2. Write the whole source under the contract: one change that matters, or two that need each "
        "other.\n"
        f"3. check(source=..., experiment={id}) until all checks pass.\n"
        f"4. submit(experiment={id}, name=..., motivation=..., source=...{rests}). "
        f"The parent is #{brief.parent.id} unless you give parents. The motivation says what is weak "
        "and why, what you change, why that acts on the cause, and what you expect of each metric; it names "
        "experiments that the idea follows from as #12, and is compared with the result.\n"
        f"5. wait_for_result({id}), read the finding, then get_brief(short=true) for the next. "
        f"give_up({id}) hands the brief back."
    )


def _failed(failure: Failure, verdicts: Sequence[Verdict]) -> list[str]:
    """Give each failed verdict with its cure, or a failure that none tells, and the tail of its trace."""
    lines = []
    for verdict in (v for v in verdicts if not v.passed):
        lines += [verdict_text(verdict), *_cure(CURES.get(verdict.name))]
    if not lines:
        return [failure_text(failure), *_cure(CURES.get(failure.kind) or CURES.get(failure.phase))]
    return lines + [failure.trace.strip()] * bool(failure.trace.strip())


def _cure(cure: str | None) -> list[str]:
    return [f"  what often mends it: {cure}"] if cure else []


def _verdicts(experiment: Experiment) -> list[Verdict]:
    """Give every check once, with the last verdict on it."""
    return list({v.name: v for run in experiment.evidence for v in run.checks}.values())


def _board(view: View, top: int) -> str:
    table = leaderboard(view, top, full=False).to_markdown()
    breaks = ", ".join(view.space.references)
    return f"{table}\n" + (f"A reference ({breaks}) breaks the rules and is no rival. " if breaks else "")


def _rivals(view: View) -> list[Experiment]:
    return list(by_fitness(e for e in view.baselines() if e.kind == "baseline"))


def _rank(view: View, experiment: Experiment) -> str:
    ranked = by_fitness(view.candidates())
    place = 1 + [e.id for e in ranked].index(experiment.id) if experiment in ranked else 0
    rank = f"Rank {place} of {len(ranked)} candidates with a score." if place else ""
    rival = _rivals(view)[0]
    ahead = fitness_of(experiment) - fitness_of(rival)
    against = f"The best baseline is #{rival.id} {rival.name} with {fitness_of(rival):.3f} ({ahead:+.3f})."
    return f"{rank} {against}".strip()


def _metrics(view: View, experiment: Experiment) -> Table:
    """Give each metric beside the parent's, the seed's with its noise, and the best baseline's."""
    by_id = {e.id: e for e in view.experiments}
    parents = experiment.proposal.parents if experiment.proposal else ()
    others = [by_id[id] for id in parents[:1]] + _rivals(view)[:1]
    others = list({e.id: e for e in others if view.runs(e)}.values())
    seed, runs, rows = view.seed_runs(), view.runs(experiment), []
    for spec in view.space.metrics:
        cells = [heading(spec), figure(mean_metric(runs, spec.name))]
        cells += [figure(mean_metric(view.runs(e), spec.name)) for e in others]
        cells += [figure(mean_metric(seed, spec.name)), gain_cell(spec, runs, seed)]
        rows.append(tuple(cells))
    names = [f"#{e.id} {e.name}" for e in others]
    columns = ("metric", f"#{experiment.id}", *names, "seed's mean", "gain over seed ±noise of a run")
    return Table(columns=columns, rows=tuple(rows))


def _curves(view: View, experiment: Experiment) -> list[str]:
    """Say how the training loss fell, beside the parent's and the seed's: whether it was learned sooner."""
    by_id = {e.id: e for e in view.experiments}
    parents = experiment.proposal.parents[:1] if experiment.proposal else ()
    known = [(f"#{experiment.id}", view.runs(experiment))]
    known += [(f"#{id}", view.runs(by_id[id])) for id in parents]
    known.append(("the seed", view.seed_runs()))
    told: dict[str, str] = {}
    for name, runs in known:
        curve = runs[-1].curve if runs else ()
        points = [curve[round(part * (len(curve) - 1))] for part in CURVE] if curve else []
        words_of = ", ".join(f"{loss:.2f} at {step}" for step, loss in dict(points).items())
        if words_of:
            told.setdefault(words_of, name)
    curves = "; ".join(f"{name} {words_of}" for words_of, name in told.items())
    return [f"Training loss, all tasks, by step: {curves}."] if curves else []


def _details(view: View, experiment: Experiment) -> str:
    """Give the finer figures and the cost in a line each."""
    last, cost = view.runs(experiment)[-1], cost_of(experiment)
    fine = [f"{words(name)} {figure(metric.value)}" for name, metric in last.details.items()]
    costs = [f"{words(n)} {figure(getattr(cost, n))}" for n in cost.__slots__ if getattr(cost, n)]
    lines = [f"In detail: {', '.join(fine)}."] if fine else []
    return "\n".join([*lines, f"Cost: {', '.join(costs)}."])
