"""Whether an idea is new to a study: the nearest motivations by their words, then a model's verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asi_arch.cognition.words import terms, word_index
from asi_arch.errors import ModelError
from asi_arch.llm.models import Models, Question
from asi_arch.records import Experiment, Proposal

PROMPT = Path(__file__).parent / "prompts" / "novelty.md"
NEAREST = 5  # ideas that a new one is compared with (arXiv:2507.18074, Section 3: the five nearest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """A verdict on an idea. repeats: the experiment whose idea it is; 0 when it is new."""

    repeats: int
    reason: str


def same_idea(
    models: Models, proposal: Proposal, id: int, experiments: Sequence[Experiment]
) -> Opinion | None:
    """Give which experiment's idea a proposal repeats; None when it is new, or when nobody can tell.

    Args:
        models: the role `novelty` is asked; without one, nobody can tell.
        proposal: for an id.
        id: whose proposal it is.
        experiments: of the study, in any order.

    Raises:
        BudgetError, SetupError, StoppedError: as `Models.ask`.
    """
    tried = [e for e in experiments if e.kind == "candidate" and e.status != "claimed"]
    ideas = [e for e in tried if e.id != id and e.proposal is not None]
    found = nearest(proposal.motivation, ideas, NEAREST)
    if not found or models.name("novelty") is None:
        return None
    ids = [e.id for e in found]

    def review(opinion: Opinion) -> str | None:
        return None if opinion.repeats in (0, *ids) else f"repeats must be 0 or one of {ids}"

    shown = [f"# The new idea: {proposal.name}\n{proposal.motivation}", *map(_idea, found)]
    question = Question(role="novelty", system=PROMPT.read_text(), prompt="\n\n".join(shown), experiment=id)
    try:
        opinion = models.ask(Opinion, question, review)
    except ModelError:  # the call says why; the proposal is taken as new
        return None
    return opinion if opinion.repeats else None


def nearest(text: str, ideas: Sequence[Experiment], count: int) -> list[Experiment]:
    """Give experiments whose motivations share telling words with a text (BM25), the nearest first."""
    documents = [terms(e.proposal.motivation) if e.proposal else [] for e in ideas]
    known = {term for document in documents for term in document}
    query = [term for term in terms(text) if term in known]
    if not query:
        return []
    scores = word_index(documents).get_scores(query).tolist()
    best = sorted(range(len(ideas)), key=lambda i: (-scores[i], i))
    return [ideas[i] for i in best[:count] if scores[i] > 0]


def _idea(experiment: Experiment) -> str:
    assert experiment.proposal is not None
    return f"# Experiment {experiment.id}: {experiment.proposal.name}\n{experiment.proposal.motivation}"
