"""A language model reads what words and meaning find, and says which pieces answer the weakness."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asi_arch.llm.answers import told
from asi_arch.llm.models import Models, Question
from asi_arch.papers import Cognition

ROLE = "reader"
PROMPT = Path(__file__).parent / "prompts" / "reader.md"
PICKED = 5  # pieces that it may give


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A model's choice."""

    ids: tuple[str, ...] = told("ids of the pieces that answer the weakness, the most useful first")


class Reader:
    """Chooses among pieces by the model of the role `reader`. Holds no state; thread-safe."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def choose(self, experiment: int | None, query: str, found: Sequence[Cognition]) -> tuple[str, ...]:
        """Give the ids of up to 5 pieces that answer a weakness, the best first.

        Args:
            experiment: whose question it is, if anyone's.
            query: the weakness in words.
            found: the pieces to choose from.

        Raises:
            ModelError, BudgetError, SetupError, StoppedError: as `Models.ask`.
        """
        ids = {cognition.id for cognition in found}

        def review(choice: Choice) -> str | None:
            unknown = [id for id in choice.ids if id not in ids]
            if unknown:
                return f"ids: {unknown[0]!r} is none of the pieces that were shown"
            return f"ids: at most {PICKED}" if len(choice.ids) > PICKED else None

        question = Question(
            role=ROLE,
            system=PROMPT.read_text(),
            prompt=reading_prompt(query, found),
            experiment=experiment,
        )
        return tuple(dict.fromkeys(self._models.ask(Choice, question, review).ids))


def opened_reader(models: Models | None) -> Reader | None:
    """Give a reader by the model of its role; None where that has none."""
    return Reader(models) if models is not None and models.name(ROLE) is not None else None


def reading_prompt(query: str, found: Sequence[Cognition]) -> str:
    """Give what a model is shown of a weakness and the pieces that were found for it."""
    pieces = (f"## {c.id} {c.title}\n{' '.join(c.trigger.split())}" for c in found)
    return "\n\n".join([f"# The weakness\n{query}", f"# The pieces; give at most {PICKED} ids", *pieces])
