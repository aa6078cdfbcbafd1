"""A researcher that is a language model: one agent designs and implements, with the study at its hands."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from asi_arch.errors import ModelError
from asi_arch.llm.answers import told
from asi_arch.llm.models import Models, Question
from asi_arch.records import Brief, Experiment, Proposal
from asi_arch.researcher.brief import weakness
from asi_arch.researcher.brief_text import brief_text, experiment_text, results_text
from asi_arch.space import Space

AUTHOR = "model"
PROMPTS = Path(__file__).parent / "prompts"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{2,59}")
LEAST_MOTIVATION = 60  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One passage of a source, replaced."""

    search: str = told("a passage that occurs exactly once, to the character")
    replace: str = told("what takes its place")


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """An architecture: the idea, and its program as a whole source or as edits of the parent's."""

    name: str = told("short, CamelCase, says what it is")
    motivation: str = told("what is weak and why, what changes, why it helps, what to expect")
    cognitions: tuple[str, ...] = told("ids of the knowledge that it rests on", ())
    source: str = told("the whole program; leave it out when you give edits", "")
    edits: tuple[Edit, ...] = told("edits of the parent's source, in order; leave out with a source", ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What one experiment has to say to this parent."""

    id: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summaries:
    """One summary for each experiment that was given."""

    summaries: tuple[Summary, ...]


class Desk(Protocol):
    """What an author may look up and try. Called from several threads at once; the texts hold no times."""

    def search(self, query: str) -> str:
        """Give the pieces of knowledge nearest to a query."""
        ...

    def knows(self, cognition: str) -> bool:
        """Tell whether there is a piece of knowledge of an id."""
        ...

    def read(self, id: int) -> str:
        """Give an experiment with its source, or say that there is none."""
        ...

    def check(self, source: str, id: int) -> str:
        """Run every check before training on a source that is meant for an experiment; give the verdicts."""
        ...

    def fault(self, source: str) -> str:
        """Give what the rules on sources say against a source, at once; "" when they pass it."""
        ...


class Author:
    """Proposes by the language model of the role `designer`. Holds no state; thread-safe.

    Args:
        models: the study's.
        space: whose architectures are designed.
        desk: what the tools look into.
    """

    def __init__(self, models: Models, space: Space, desk: Desk) -> None:
        self._models, self._space, self._desk = models, space, desk

    def propose(self, brief: Brief) -> Proposal:
        """Give a proposal for a brief; it obeys the rules on sources, and may be a known one.

        Raises:
            ModelError: the model gave no answer that can be used.
            BudgetError, SetupError, StoppedError: as `Models.ask`.
        """
        assert brief.parent.proposal is not None, "a parent has a source"
        parent = brief.parent.proposal.source
        question = Question(
            role="designer",
            system=(PROMPTS / "designer.md").read_text(),
            prompt=brief_text(brief, self._space.metrics, self._summaries(brief)),
            tools=tools(self._desk, brief.id),
            experiment=brief.id,
        )
        design = self._models.ask(Design, question, lambda found: self._review(found, parent))
        return Proposal(
            name=design.name,
            motivation=design.motivation.strip(),
            source=sourced(design.source, design.edits, parent),
            author=AUTHOR,
            parents=(brief.parent.id,),
            references=tuple(e.id for e in brief.references),
            cognitions=tuple(dict.fromkeys(design.cognitions)),
        )

    def _review(self, design: Design, parent: str) -> str | None:
        """Give what is wrong with a design as far as its text tells, for the model."""
        if not NAME.fullmatch(design.name):
            return f"name: {design.name!r} must be 3 to 60 letters, digits and '_', starting with a letter"
        if len(design.motivation.strip()) < LEAST_MOTIVATION:
            return "motivation: say what is weak and why, what you change, why it helps, and what to expect"
        unknown = [id for id in design.cognitions if not self._desk.knows(id)]
        if unknown:
            return (
                f"cognitions: there is no {', '.join(unknown)}; name ids of the brief or of search_cognition"
            )
        return source_fault(design.source, design.edits, parent) or self._rules(design, parent)

    def _rules(self, design: Design, parent: str) -> str | None:
        fault = self._desk.fault(sourced(design.source, design.edits, parent))
        return f"source: {fault}" if fault else None

    def _summaries(self, brief: Brief) -> dict[int, str]:
        """Give fresh summaries of a brief's references; none without a summariser, or when it fails.

        They are made for each brief anew, and are no part of any experiment: that is where briefs of one
        parent get their variety from.
        Source: arXiv:2507.18074, Section 3 (summaries of references by a model, for each sampling).
        """
        if not brief.references or self._models.name("summariser") is None:
            return {}
        wanted = sorted(e.id for e in brief.references)

        def review(found: Summaries) -> str | None:
            ids = sorted(summary.id for summary in found.summaries)
            return None if ids == wanted else f"give one summary for each of {wanted}, not {ids}"

        question = Question(
            role="summariser",
            system=(PROMPTS / "summariser.md").read_text(),
            prompt=self._to_sum_up(brief.parent, brief.references),
            experiment=brief.id,
        )
        try:
            answer = self._models.ask(Summaries, question, review)
        except ModelError:  # the call says why; the brief shows the references' own motivations
            return {}
        return {summary.id: summary.text for summary in answer.summaries}

    def _to_sum_up(self, parent: Experiment, references: Sequence[Experiment]) -> str:
        metrics = self._space.metrics
        name = parent.name or "unnamed"
        weak = (
            f"# The parent: #{parent.id} {name}\n{results_text(parent, metrics)}\nWeak at: {weakness(parent)}"
        )
        return "\n\n".join([weak, *(f"# {experiment_text(e, metrics)}" for e in references)])


def tools(desk: Desk, id: int) -> tuple[Callable[..., str], ...]:
    """Give the tools of whoever writes a source for an experiment."""

    def search_cognition(query: str) -> str:
        """Search what papers know.

        Args:
            query: a weakness or a mechanism in a few words, such as "recall of many pairs".
        """
        return desk.search(query)

    def read_experiment(id: int) -> str:
        """Read an experiment of this study: idea, figures, what it taught, and its source.

        Args:
            id: its number.
        """
        return desk.read(id)

    return search_cognition, read_experiment, check_tool(desk, id)


def check_tool(desk: Desk, id: int) -> Callable[[str], str]:
    """Give the tool that checks a source for an experiment."""

    def check(source: str) -> str:
        """Run all checks that stand before training on a program, and get every verdict.

        Args:
            source: the whole program.
        """
        return desk.check(source, id)

    return check


def source_fault(source: str, edits: Sequence[Edit], before: str) -> str | None:
    """Give what is wrong with a source, or with edits of the source before, for the model."""
    if bool(source.strip()) == bool(edits):
        return "give either `source` or `edits`, not both and not neither"
    for number, edit in enumerate(edits, start=1):
        count = before.count(edit.search) if edit.search else 0
        if count != 1:
            return (
                f"edit {number}: its search text occurs {count} times in the source as edits left it; "
                "copy a passage that occurs exactly once, or give the whole source"
            )
        before = before.replace(edit.search, edit.replace)
    return None


def sourced(source: str, edits: Sequence[Edit], before: str) -> str:
    """Give the source that an answer means; `source_fault` has passed it."""
    for edit in edits:
        before = before.replace(edit.search, edit.replace)
    text = before if edits else source
    return text if text.endswith("\n") else text + "\n"
