"""How an experiment of a model came about: its brief, what was refused and mended, and its calls."""

from collections.abc import Sequence
from statistics import median

from asi_arch.calls import Call
from asi_arch.records import Experiment, Failure
from asi_arch.report.parts import Part, difference
from asi_arch.report.tables import Table, duration
from asi_arch.search.budgets.base import STOPPED

BRIEF = "# Brief of experiment"
CALL_COLUMNS = ("call", "role", "model", "tools used", "answers", "tokens in/out", "price", "time")


def brief_part(calls: Sequence[Call]) -> list[Part]:
    """Give the parts of the brief that the author was given last, each with its first line and length."""
    told = [m.text for call in calls for turn in call.turns[:1] for m in turn.asked if BRIEF in m.text]
    if not told:
        return []
    sections = told[-1].split("\n## ")[1:]
    lines = []
    for section in sections:
        title, _, body = section.partition("\n")
        first = next((line for line in body.splitlines() if line.strip()), "")
        lines.append(f"{title} ({len(body.splitlines())} lines): {first[:100]}")
    return [Part(title="brief", body="\n".join(lines))]


def refused_part(experiment: Experiment) -> list[Part]:
    """Give what the id proposed before and was refused."""
    lines = [
        f"{repeat.name or 'a proposal'}: {repeat.reason or f'repeats experiment {repeat.of}'}"
        for repeat in experiment.repeats
    ]
    return [Part(title="refused before", body="\n".join(lines))] if lines else []


def attempt_parts(experiment: Experiment) -> list[Part]:
    """Give every attempt's failure, and the difference to the next one that mended it."""
    assert experiment.proposal is not None
    sources = [*(attempt.source for attempt in experiment.attempts), experiment.proposal.source]
    parts = []
    for number, attempt in enumerate(experiment.attempts, start=1):
        told = f"{failure_line(attempt.failure)}\nmended: {attempt.note}"
        parts.append(Part(title=f"attempt {number} failed", body=told))
        names = (f"attempt {number}", f"attempt {number + 1}")
        change = difference(sources[number - 1], sources[number], *names)
        parts.append(Part(title=f"attempt {number} to {number + 1}", body=change, is_diff=True))
    return parts


def failure_line(failure: Failure) -> str:
    """Give a failure with its trace, if it has one."""
    told = f"in {failure.phase} ({failure.kind}): {failure.message}"
    if failure.phase == STOPPED:
        told = f"by the budget {failure.kind}, and no fault: {failure.message}"
    return "\n".join(filter(None, (told, failure.trace)))


def judgement_part(experiment: Experiment) -> list[Part]:
    """Give a judge's draws, their median and how far they agree."""
    judgement = experiment.judgement
    if judgement is None:
        return []
    aspects = tuple(judgement.draws[0])
    rows = []
    for number, draw in enumerate(judgement.draws, start=1):
        marks = [draw[aspect] for aspect in aspects]
        reason = judgement.reasons[number - 1] if number <= len(judgement.reasons) else ""
        rows.append((f"draw {number}", reason, *(f"{m:g}" for m in marks), f"{sum(marks) / len(marks):.2f}"))
    agreed = f"median of the draws; they differ by {judgement.spread:.2f}"
    middle = (f"{median(draw[aspect] for draw in judgement.draws):g}" for aspect in aspects)
    rows.append(("mark", agreed, *middle, f"{judgement.mark:.2f}"))
    table = Table(columns=("judge", "reason", *aspects, "mean"), rows=tuple(rows), text_columns=2)
    return [Part(title="judge (1 to 10, the seed is 5)", body=table)]


def finding_part(experiment: Experiment) -> list[Part]:
    """Give what an experiment taught, and what an analyst said of it part by part."""
    finding = experiment.finding
    if finding is None:
        return []
    lines = [finding.text, *(f"{title}: {text}" for title, text in finding.sections.items())]
    lines += [f"knowledge sought for the next brief: {finding.query}"] if finding.sections else []
    return [Part(title="finding", body="\n".join(lines))]


def call_parts(calls: Sequence[Call]) -> list[Part]:
    """Give every call of an experiment with what it cost, and what went wrong in it and what was done."""
    if not calls:
        return []
    rows = (*map(_row, calls), _sum(calls))
    parts = [Part(title="calls", body=Table(columns=CALL_COLUMNS, rows=rows, text_columns=4))]
    faults = [
        f"call {call.id}: {fault.kind}: {fault.message}: {fault.action}"
        for call in calls
        for turn in call.turns
        for fault in turn.faults
    ]
    faults += [f"call {call.id} gave no answer: {call.error}" for call in calls if call.error]
    return [*parts, Part(title="faults of calls", body="\n".join(faults))] if faults else parts


def _row(call: Call) -> tuple[str, ...]:
    used = [use.tool for turn in call.turns if turn.answer for use in turn.answer.uses]
    tools = [name for name in dict.fromkeys(used) if name != "final_result"]
    counts = ", ".join(f"{name} {used.count(name)}" for name in tools)
    answers = sum(turn.answer is not None for turn in call.turns)
    return (str(call.id), call.role, call.model, counts or "-", str(answers), *_spent([call]))


def _sum(calls: Sequence[Call]) -> tuple[str, ...]:
    answers = sum(turn.answer is not None for call in calls for turn in call.turns)
    return ("all", "", "", "", str(answers), *_spent(calls))


def _spent(calls: Sequence[Call]) -> tuple[str, str, str]:
    """Give tokens, price and time. A price that is unknown is not taken for 0."""
    turns = [turn for call in calls for turn in call.turns]
    prices = [turn.dollars for turn in turns if turn.answer is not None]
    known = [price for price in prices if price is not None]
    price = f"${sum(known):.4f}" if known else "unknown"
    if known and len(known) < len(prices):
        price += f" and {len(prices) - len(known)} unknown"
    tokens = f"{sum(t.tokens_in for t in turns):,}/{sum(t.tokens_out for t in turns):,}"
    return tokens, price, duration(sum(turn.seconds for turn in turns))
