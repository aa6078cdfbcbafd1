"""Which lines of a difference belong to one change: asked of a language model, checked, asked again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asi_arch.llm.answers import told
from asi_arch.llm.models import Models, Question

PROMPT = Path(__file__).parent / "prompts" / "ablation.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One change of a design."""

    name: str = told("two to five words that name the change, such as 'output gate'")
    hunks: tuple[int, ...] = told("numbers of the pieces that belong to it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """All changes of a design against a baseline."""

    changes: tuple[Group, ...] = told("each change once; a piece belongs to one change at most")


def group_by_model(models: Models, experiment: int, hunks: Sequence[str]) -> list[tuple[str, Sequence[int]]]:
    """Have the model of the role `analyst` say which pieces of a difference belong to one change.

    Args:
        models: the study's.
        experiment: whose difference it is.
        hunks: its pieces, as text with "-" and "+".

    Raises:
        ModelError, BudgetError, SetupError, StoppedError: as `Models.ask`.
    """

    def fault(found: Groups) -> str | None:
        named = [number for group in found.changes for number in group.hunks]
        names = [group.name.strip() for group in found.changes]
        if not found.changes or not all(group.hunks for group in found.changes):
            return "each change needs at least one piece, and there must be one change at least"
        if len(set(named)) < len(named) or len(set(names)) < len(names) or not all(names):
            return "a piece belongs to one change only, and each change has a name of its own"
        unknown = sorted(set(named) - set(range(1, len(hunks) + 1)))
        return f"there is no piece {unknown[0]}; they are 1 to {len(hunks)}" if unknown else None

    shown = "\n\n".join(f"# Piece {i}\n{text}" for i, text in enumerate(hunks, start=1))
    question = Question(role="analyst", system=PROMPT.read_text(), prompt=shown, experiment=experiment)
    answer = models.ask(Groups, question, fault)
    return [(group.name.strip(), tuple(number - 1 for number in group.hunks)) for group in answer.changes]
