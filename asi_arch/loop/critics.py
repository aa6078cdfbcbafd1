"""A judge and an analyst that are language models: marks from code and figures, and a result explained."""

import ast
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from asi_arch.analyst.fitness import SEED_MARK, scale_at
from asi_arch.analyst.statistics import fitness_value
from asi_arch.cognition.base import CognitionBase
from asi_arch.errors import ModelError
from asi_arch.llm.answers import told
from asi_arch.llm.models import Models, Question
from asi_arch.provenance import Attribution, Origin
from asi_arch.records import Evidence, Experiment, Finding, Judgement, Proposal
from asi_arch.researcher.brief_text import cognition_text, experiment_text, results_text, timeless
from asi_arch.settings import Settings
from asi_arch.space import Space

PROMPTS = Path(__file__).parent / "prompts"
BEST_MARK = 8.0  # of the best baseline
SIBLINGS = 3  # that an analyst is shown, those nearest in code
CURVE_POINTS = 12
KNOWLEDGE = 5  # pieces nearest to what an author says, which an analyst is shown beside those that it names
LEAST, MOST = 1.0, 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """A judge's marks, each from 1 to 10."""

    innovation: float = told("1 to 10")
    complexity: float = told("1 to 10")
    efficiency: float = told("1 to 10")
    correctness: float = told("1 to 10")
    reason: str = told("what decided, in at most two sentences")


ASPECTS = ("innovation", "complexity", "efficiency", "correctness")


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One part that differs from the parent's, and where it came from."""

    name: str = told("the part in a few words, such as 'sigmoid gate on the output'")
    origin: Origin = told("cognition, analysis or original")  # noqa: RUF009 - a field, as the others
    cognitions: tuple[str, ...] = told("ids of the knowledge that it is from, if its origin is cognition", ())
    reason: str = told("what speaks for that origin, in a sentence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a result means, in parts."""

    expected: str = told("what the author expected, as claims that figures can test")
    happened: str = told("what was measured, and whether each claim held")
    component: str = told("which part of the change did it, and what speaks for that")
    advice: str = told("the one next experiment that would teach most")
    query: str = told("4 to 12 words that find knowledge for what is weak now")
    components: tuple[Component, ...] = told("every part that differs from the parent's", ())


SECTIONS = ("expected", "happened", "component", "advice")


class ModelCritics:
    """Critics by the language models of the roles `judge` and `analyst`. Holds no state; thread-safe.

    Args:
        models: the study's; a role without a model is not asked.
        space: names the metrics.
        settings: how many draws a judge has.
        experiments: gives all of the study.
        cognition: what papers know, by which an analyst tells where a part came from.
    """

    def __init__(
        self,
        models: Models,
        space: Space,
        settings: Settings,
        experiments: Callable[[], Sequence[Experiment]],
        cognition: CognitionBase,
    ) -> None:
        self._models, self._space, self._settings = models, space, settings
        self._experiments, self._cognition = experiments, cognition

    def judge(self, experiment: Experiment) -> Judgement | None:
        """Give the marks of some draws; see `Critics.judge`. Anchors change places from draw to draw.

        Raises:
            BudgetError, SetupError, StoppedError: as `Models.ask`.
        """
        if self._models.name("judge") is None:
            return None
        answers = [
            marks
            for draw in range(self._settings.judge_draws)
            if (marks := self._draw(experiment, draw)) is not None
        ]
        if not answers:
            return None
        draws = [{aspect: float(getattr(marks, aspect)) for aspect in ASPECTS} for marks in answers]
        means = [sum(draw.values()) / len(draw) for draw in draws]
        return Judgement(
            mark=median(means),
            spread=max(means) - min(means),
            draws=tuple(draws),
            reasons=tuple(marks.reason.strip() for marks in answers),
        )

    def explain(
        self, experiment: Experiment, parent: Experiment | None, siblings: Sequence[Experiment]
    ) -> Experiment:
        """Give an experiment with its explanation; see `Critics.explain`.

        Raises:
            BudgetError, SetupError, StoppedError: as `Models.ask`.
        """
        rule = experiment.finding
        if self._models.name("analyst") is None or rule is None:
            return experiment
        question = Question(
            role="analyst",
            system=(PROMPTS / "analyst.md").read_text(),
            prompt=self._result(experiment, rule, parent, siblings),
            experiment=experiment.id,
        )
        try:
            answer = self._models.ask(Explanation, question, lambda found: self._fault(found, experiment))
        except ModelError:  # the call says why; the rule's finding and attribution stand
            return experiment
        sections = {name: getattr(answer, name).strip() for name in SECTIONS}
        added = f"{rule.text} The analyst: {sections['component']} To try: {sections['advice']}"
        finding = Finding(text=added, query=answer.query.strip(), sections=sections)
        attribution = experiment.attribution if is_drawn(experiment) else attributed(answer.components)
        return replace(experiment, finding=finding, attribution=attribution)

    def _fault(self, found: Explanation, experiment: Experiment) -> str | None:
        """Give what is wrong with an explanation, for the model."""
        empty = [name for name in (*SECTIONS, "query") if not getattr(found, name).strip()]
        if empty:
            return f"{', '.join(empty)}: say something"
        if is_drawn(experiment):
            return None
        if not found.components:
            return "components: name every part that differs from the parent's, with its origin"
        faults = (self._component_fault(one) for one in found.components)
        return next((fault for fault in faults if fault), None)

    def _component_fault(self, found: Component) -> str | None:
        if not found.name.strip() or not found.reason.strip():
            return "components: each needs a name and a reason"
        unknown = [id for id in found.cognitions if self._cognition.get(id) is None]
        if unknown:
            return f"components: there is no knowledge {', '.join(unknown)}; name ids that you were shown"
        if found.origin == "cognition" and not found.cognitions:
            return f"components: {found.name!r} is from cognition, so name the ids; else it is original"
        return None

    def _draw(self, experiment: Experiment, draw: int) -> Marks | None:
        anchors = [self._anchor(*anchor) for anchor in self._anchors()]
        candidate = f"# The candidate, to be marked\n{self._shown(experiment)}"
        shown = [*anchors, candidate] if draw % 2 == 0 else [candidate, *reversed(anchors)]
        question = Question(
            role="judge",
            system=(PROMPTS / "judge.md").read_text(),
            prompt="\n\n".join([f"# Noise\n{self._noise(experiment)}", *shown]),
            experiment=experiment.id,
        )
        try:
            return self._models.ask(Marks, question, _marks_fault)
        except ModelError:  # the call says why; the other draws stand
            return None

    def _anchors(self) -> list[tuple[Experiment, float]]:
        """Give the seed, and the best baseline if it is another, with their marks."""
        baselines = self._baselines()
        seed = next(e for e in baselines if e.proposal and e.proposal.name == self._space.seed)
        best = max(baselines, key=fitness_value)
        return [(seed, SEED_MARK)] if best.id == seed.id else [(seed, SEED_MARK), (best, BEST_MARK)]

    def _baselines(self) -> list[Experiment]:
        return [e for e in self._experiments() if e.kind == "baseline" and e.fitness is not None]

    def _anchor(self, experiment: Experiment, mark: float) -> str:
        role = "seed" if mark == SEED_MARK else "best baseline"
        return f"# Anchor with mark {mark:g}: the {role}\n{self._shown(experiment)}"

    def _shown(self, experiment: Experiment) -> str:
        """Give figures and program, without what its author says of it."""
        assert experiment.proposal is not None
        figures = results_text(replace(experiment, fitness=None), self._space.metrics)
        return f"{figures}\n```python\n{bare(experiment.proposal.source)}\n```"

    def _noise(self, experiment: Experiment) -> str:
        stage = next(e.stage for e in experiment.evidence if e.metrics)
        return "Standard deviation of a difference of two single runs: " + ", ".join(
            f"{spec.title} {scale_at(spec, stage):.2g} {spec.unit}".rstrip() for spec in self._space.metrics
        )

    def _result(
        self,
        experiment: Experiment,
        rule: Finding,
        parent: Experiment | None,
        siblings: Sequence[Experiment],
    ) -> str:
        metrics, proposal = self._space.metrics, experiment.proposal
        assert proposal is not None
        judged = f"Judged {experiment.judgement.mark:.1f} of 10." if experiment.judgement else ""
        sections: Mapping[str, str] = {
            f"The experiment #{experiment.id} {proposal.name}": results_text(experiment, metrics),
            "What its author says": proposal.motivation,
            "Noise": self._noise(experiment),
            "What the figures say by rule": f"{timeless(rule.text)} {judged}".strip(),
            "Its learning curve beside its parent's": _curves(experiment, parent),
            "Its program": f"```python\n{proposal.source.strip()}\n```",
            "Its parent": experiment_text(parent, metrics) if parent else "It has none.",
            "Knowledge that its author names": self._knowledge(proposal.cognitions),
            "Other knowledge, nearest to what its author says": self._nearest(proposal),
            "Its siblings nearest in code": "\n\n".join(
                f"{experiment_text(e, metrics, source=False)}\n{_difference(experiment, e)}"
                for e in nearest_in_code(experiment, siblings, SIBLINGS)
            ),
            "Baselines": "\n".join(self._baseline(e) for e in self._baselines()),
        }
        return "\n\n".join(f"# {title}\n{body.strip()}" for title, body in sections.items() if body.strip())

    def _knowledge(self, ids: Sequence[str]) -> str:
        found = [cognition for id in ids if (cognition := self._cognition.get(id)) is not None]
        return "\n\n".join(map(cognition_text, found))

    def _nearest(self, proposal: Proposal) -> str:
        found = self._cognition.recall(proposal.motivation, KNOWLEDGE)
        return self._knowledge([c.id for c in found if c.id not in proposal.cognitions])

    def _baseline(self, experiment: Experiment) -> str:
        name = experiment.name or "unnamed"
        return f"#{experiment.id} {name}\n{results_text(experiment, self._space.metrics)}"


def is_drawn(experiment: Experiment) -> bool:
    """Tell whether what decided each change was noted as it was drawn, so that nobody need judge it."""
    return any(one.basis == "drawn" for one in experiment.attribution)


def attributed(components: Sequence[Component]) -> tuple[Attribution, ...]:
    """Give an analyst's answer as an attribution."""
    return tuple(
        Attribution(
            component=one.name.strip(),
            origin=one.origin,
            basis="judged",
            reason=one.reason.strip(),
            cognitions=one.cognitions if one.origin == "cognition" else (),
        )
        for one in components
    )


def bare(source: str) -> str:
    """Give a program without comments and docstrings; one that is no Python as it is."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return source.strip()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def nearest_in_code(experiment: Experiment, others: Sequence[Experiment], count: int) -> list[Experiment]:
    """Give the measured experiments whose programs share most lines with another's, the nearest first."""
    own = _lines(experiment)
    scored = [e for e in others if e.fitness is not None and e.proposal is not None]
    likeness = {e.id: difflib.SequenceMatcher(None, own, _lines(e), autojunk=False).ratio() for e in scored}
    return sorted(scored, key=lambda e: (-likeness[e.id], e.id))[:count]


def _lines(experiment: Experiment) -> list[str]:
    return bare(experiment.proposal.source).splitlines() if experiment.proposal else []


def _difference(experiment: Experiment, other: Experiment) -> str:
    names = (f"#{other.id}", f"#{experiment.id}")
    lines = difflib.unified_diff(_lines(other), _lines(experiment), *names, n=1, lineterm="")
    return "\n".join(["```diff", *lines, "```"])


def _curves(experiment: Experiment, parent: Experiment | None) -> str:
    lines = []
    for one in (experiment, parent):
        runs = [run for run in one.evidence if run.curve and run.metrics] if one else []
        if one and runs:
            lines.append(f"#{one.id}: {_points(runs[0])}")
    return "\n".join(lines)


def _points(run: Evidence) -> str:
    step = max(1, len(run.curve) // CURVE_POINTS)
    kept = dict([*run.curve[::-1][::step], run.curve[-1]])
    return ", ".join(f"{loss:.3f} at step {at}" for at, loss in sorted(kept.items()))


def _marks_fault(marks: Marks) -> str | None:
    wrong = [aspect for aspect in ASPECTS if not LEAST <= getattr(marks, aspect) <= MOST]
    return f"{', '.join(wrong)}: a mark must be from {LEAST:g} to {MOST:g}" if wrong else None
