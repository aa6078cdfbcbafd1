"""What authors may look up and try: papers, experiments, and the real checks. The texts hold no times."""

from collections.abc import Iterable

from asi_arch.archive.base import Archive
from asi_arch.cognition.base import CognitionBase
from asi_arch.engineer.source import check_source
from asi_arch.errors import SetupError
from asi_arch.loop.bench import Bench
from asi_arch.researcher.brief_text import cognition_text, experiment_text, verdicts_text
from asi_arch.space import Space

FOUND = 5  # pieces of knowledge in an answer
UNKNOWN = "Nothing is known of these words; try others."
NO_KNOWLEDGE = (
    "This study has no knowledge from papers, so there is nothing to search and no id to name: go by the "
    "parent, the references and what you know."
)


class StudyDesk:
    """The desk of a study: for a language model's tools, and for a coding agent's. Thread-safe.

    Args:
        space: of the study.
        archive: has its experiments.
        cognition: what papers know; it may be empty.
        bench: runs the checks.
        refuses: the study refuses what repeats another, so that a check tells of it.
    """

    def __init__(
        self, space: Space, archive: Archive, cognition: CognitionBase, bench: Bench, refuses: bool = True
    ) -> None:
        self._space, self._archive, self._cognition, self._bench = space, archive, cognition, bench
        self._refuses = refuses

    def search(self, query: str) -> str:
        """Give the pieces of knowledge nearest to a query, or say that there is none."""
        return knowledge_text(self._cognition, query, FOUND) or UNKNOWN

    def knows(self, cognition: str) -> bool:
        """Tell whether there is a piece of knowledge of an id."""
        return self._cognition.get(cognition) is not None

    def require(self, cognitions: Iterable[str]) -> None:
        """Raise SetupError when there is no piece of knowledge of one of some ids."""
        unknown = [id for id in cognitions if not self.knows(id)]
        if unknown:
            raise SetupError(f"this study has no cognition {unknown[0]!r}; leave it out, or name another")

    def read(self, id: int) -> str:
        """Give an experiment with its source, or say that there is none."""
        last = max(row.id for row in self._archive.rows())
        if not 1 <= id <= last:
            return f"There is no experiment {id}; this study has 1 to {last}."
        return experiment_text(self._archive.get(id), self._space.metrics)

    def check(self, source: str, id: int) -> str:
        """Run every check before training on a source that is meant for an experiment; give the verdicts."""
        checked = self._bench.preview(source)
        text = verdicts_text(checked)
        if checked.failure is not None:
            return text
        known = self._bench.known(checked, id) if self._refuses else ""
        return f"{text}\nBut it is not new, and would be refused: {known}." if known else text

    def fault(self, source: str) -> str:
        """Give what the rules on sources say against a source, at once; "" when they pass it."""
        if not self._space.hostile:
            return ""  # it is no program: the space's own reader judges it
        verdict = check_source(source)
        return "" if verdict.passed else verdict.message


def knowledge_text(cognition: CognitionBase, query: str, count: int) -> str:
    """Give the pieces of knowledge nearest to a query and why each was found.

    Returns:
        "" for none, and a line where there is none at all.
    """
    if not cognition.all():
        return NO_KNOWLEDGE
    found = cognition.search(query, count)
    return "\n\n".join(f"{cognition_text(match.cognition)}\n{match.why(scores=False)}" for match in found)
