"""Mending: what a language model wrote and what failed goes back to one, a bounded number of times."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from asi_arch.analyst.explain import CURES
from asi_arch.errors import ModelError
from asi_arch.llm.answers import told
from asi_arch.llm.models import Models, Question
from asi_arch.loop.bench import failure_of
from asi_arch.loop.repeats import known_programs
from asi_arch.records import Attempt, Evidence, Experiment, Failure
from asi_arch.researcher.author import (
    AUTHOR,
    Desk,
    Edit,
    check_tool,
    source_fault,
    sourced,
)
from asi_arch.researcher.brief_text import OPS, failure_text, timeless, verdict_text
from asi_arch.researcher.novelty import source_hash
from asi_arch.researcher.offers import offers
from asi_arch.search.budgets.base import STOPPED
from asi_arch.space import Space

PROMPT = Path(__file__).parent / "prompts" / "mender.md"
# phases: what is not new is designed anew, and a stopped run is sound
NOT_MENDED = ("novelty", "author", STOPPED)
CURVE_POINTS = 6  # of a training that failed, the last ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """A mended program, as a whole source or as edits of the one that failed."""

    note: str = told("the cause, and what was changed, in a sentence or two")
    source: str = told("the whole program; leave it out when you give edits", "")
    edits: tuple[Edit, ...] = told("edits of the program that failed, in order", ())


class Mender:
    """Mends by the language model of the role `mender`. Holds no state; thread-safe.

    Args:
        models: the study's.
        space: gives the contract.
        desk: checks sources.
        attempts: that one experiment may have in all.
        experiments: gives all of the study.
    """

    def __init__(
        self,
        models: Models,
        space: Space,
        desk: Desk,
        attempts: int,
        experiments: Callable[[], Sequence[Experiment]],
    ) -> None:
        self._models, self._space, self._desk = models, space, desk
        self._attempts, self._experiments = attempts, experiments

    def mend(self, experiment: Experiment) -> Experiment | None:
        """Give a failed experiment with a mended source, to be recorded before it is measured.

        Returns:
            None when it did not fail, was not written by a model, cannot be mended (a repeat), has had its
            attempts, or when the mender gave no answer; then it ends as it stands.

        Raises:
            BudgetError, SetupError, StoppedError: as `Models.ask`.
        """
        proposal, failure = experiment.proposal, failure_of(experiment)
        if proposal is None or failure is None or failure.phase in NOT_MENDED or proposal.author != AUTHOR:
            return None
        if len(experiment.attempts) >= self._attempts or self._models.name("mender") is None:
            return None
        question = Question(
            role="mender",
            system=PROMPT.read_text(),
            prompt=self._told(experiment, failure),
            tools=(check_tool(self._desk, experiment.id),),
            experiment=experiment.id,
        )
        review = partial(self._review, source=proposal.source, known=self._known(experiment))
        try:
            answer = self._models.ask(Mended, question, review)
        except ModelError:  # the call says why
            return None
        bare = tuple(replace(run, bundle="") for run in experiment.evidence)
        attempt = Attempt(source=proposal.source, failure=failure, evidence=bare, note=answer.note.strip())
        mended = replace(proposal, source=sourced(answer.source, answer.edits, proposal.source))
        return replace(experiment, proposal=mended, evidence=(), attempts=(*experiment.attempts, attempt))

    def _known(self, experiment: Experiment) -> dict[str, int]:
        """Give the programs that a mended one may not be: all of other experiments, and its own tries."""
        others = known_programs(e for e in self._experiments() if e.id != experiment.id)
        return known_programs([experiment]) | others

    def _review(self, answer: Mended, source: str, known: dict[str, int]) -> str | None:
        fault = source_fault(answer.source, answer.edits, source)
        if fault is not None:
            return fault
        mended = sourced(answer.source, answer.edits, source)
        first = known.get(source_hash(mended))
        if first is not None:
            return f"this program is known: experiment {first} has it, or tried it; change what fails"
        rules = self._desk.fault(mended)
        return f"source: {rules}" if rules else None

    def _told(self, experiment: Experiment, failure: Failure) -> str:
        proposal, contract = experiment.proposal, self._space.contract
        assert proposal is not None
        cure = CURES.get(failure.kind) or CURES.get(failure.phase, "")
        sections = [
            ("Contract", contract),
            (f"What {OPS} offers", offers() if OPS in contract else ""),
            (f"The idea to keep: {proposal.name}", proposal.motivation),
            ("Attempts before, all failed", "\n".join(map(_attempt, experiment.attempts))),
            ("What failed", failure_text(failure) + (f"\nOften the cure: {cure}" if cure else "")),
            ("All verdicts on this program", _measured(experiment.evidence)),
            ("The program", f"```python\n{proposal.source.strip()}\n```"),
        ]  # fmt: skip
        return "\n\n".join(f"## {title}\n{body.strip()}" for title, body in sections if body.strip())


def _attempt(attempt: Attempt) -> str:
    failure = attempt.failure
    return (
        f"- failed in {failure.phase}: {timeless(failure.message)}\n  then this was changed: {attempt.note}"
    )


def _measured(evidence: Sequence[Evidence]) -> str:
    lines = [verdict_text(verdict) for run in evidence for verdict in run.checks]
    curve = evidence[-1].curve[-CURVE_POINTS:] if evidence else ()
    points = ", ".join(f"{loss:.3f} at step {step}" for step, loss in curve)
    return "\n".join([*lines, *([f"training loss: {points}"] if points else [])])
