"""Who takes part in a study, as its settings name them: models, researchers, a mender, and their desk."""

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

from asi_arch.archive.base import Archive
from asi_arch.archive.journal import load_calls
from asi_arch.cognition.base import CognitionBase
from asi_arch.cognition.meaning import Embedder, open_embedder, tell_recall
from asi_arch.cognition.reading import PICKED, opened_reader
from asi_arch.cognition.reading import ROLE as READER
from asi_arch.errors import ModelError, SetupError
from asi_arch.llm.models import Models, open_models
from asi_arch.loop.bench import Bench
from asi_arch.loop.critics import ModelCritics
from asi_arch.loop.desk import StudyDesk
from asi_arch.loop.leads import Mixed, own_candidates, own_shares, shares_of, tell_lead
from asi_arch.loop.mend import Mender
from asi_arch.loop.seams import Critics, Researcher
from asi_arch.records import Brief, Proposal
from asi_arch.researcher.author import AUTHOR, Author
from asi_arch.researcher.brief import draw_cognitions, weakness
from asi_arch.researcher.ideas import Opinion, same_idea
from asi_arch.settings import Settings, is_without
from asi_arch.space import Space

NOTHING = "cognition of none"  # a folder that no space has: its base is empty


class Cast:
    """Who takes part. All are made when they are first asked for; call `assemble` before threads do.

    Args:
        space: of the study.
        settings: the study's.
        archive: where calls of models are kept.
        bench: where sources are checked.
        own: folder of the study's own papers; it need not exist.
        say: is told what a person should know.
    """

    def __init__(
        self,
        space: Space,
        settings: Settings,
        archive: Archive,
        bench: Bench,
        own: Path,
        say: Callable[[str], None],
    ) -> None:
        self._space, self._settings, self._archive, self._bench = space, settings, archive, bench
        self._own, self._say = own, say

    def assemble(self, stop: threading.Event) -> str:
        """Make all, let models be given up at `stop`, and say in one line who leads.

        Raises:
            SetupError: a model's key is missing, the settings name a researcher that is not there, a paper
                of the study's own cannot be read, or vectors cannot be had.
        """
        if self.models is not None:
            self.models.stop = stop
        assert self.researcher, "it is made"
        cognition, lead = self.cognition, tell_lead(self.shares, self.models)
        if self.models is not None and self.models.name(READER) and cognition.all():
            lead += f"; {self.models.name(READER)} reads the knowledge that is found"
        if self._embedder is None:
            return lead
        cognition.prepare()
        return f"{lead}; {tell_recall(self._embedder)}"

    def close(self) -> None:
        """Give up what models are asked. Idempotent; a later question starts anew."""
        if "models" in self.__dict__ and self.models is not None:
            self.models.close()

    @cached_property
    def models(self) -> Models | None:
        """Give the language models of the settings; None when they name none."""
        return open_models(self._settings, self._archive, os.environ, load_calls, self._say)

    @cached_property
    def cognition(self) -> CognitionBase:
        """Give what papers know about the space and what the study knows by itself, or nothing without it."""
        if is_without(self._settings, "cognition"):
            return CognitionBase(self._space.folder / NOTHING)
        folder, moves = self._space.folder / "cognition", self._space.moves()
        return CognitionBase(folder, self._own, self._embedder, moves=moves)

    def read(self, brief: Brief) -> Brief:
        """Give a brief with the knowledge that a model in the role `reader` chose for it.

        Half of it is what the model put first, the rest is drawn from what else it chose; where that is too
        little, what the brief had fills it up. Without such a model, or an answer, the brief is as it was.

        Raises:
            BudgetError, SetupError, StoppedError: as `Models.ask`.
        """
        reader, wanted = opened_reader(self.models), len(brief.cognitions)
        if reader is None or not wanted:
            return brief
        try:
            found = self.cognition.search(weakness(brief.parent), PICKED, partial(reader.choose, brief.id))
        except ModelError:  # the call says why
            return brief
        chosen = [match.cognition for match in found if match.read_rank]
        others = [cognition for cognition in brief.cognitions if cognition not in chosen]
        kept = [*chosen, *others][: max(len(chosen), wanted)]
        return replace(brief, cognitions=draw_cognitions(kept, wanted, f"{brief.seed}/{brief.id}/read"))

    @cached_property
    def _embedder(self) -> Embedder | None:
        return open_embedder(self._settings, os.environ)

    @cached_property
    def desk(self) -> StudyDesk:
        """Give what authors may look up and try."""
        refuses = not is_without(self._settings, "novelty")
        return StudyDesk(self._space, self._archive, self.cognition, self._bench, refuses)

    @cached_property
    def shares(self) -> dict[str, float]:
        """Give the share of the proposals that each researcher makes."""
        return shares_of(self._settings, self.models)

    @cached_property
    def researcher(self) -> Researcher:
        """Give the researchers that the settings name, as far as they are ours to call."""
        makers = {"symbolic": self._symbolic, "model": self._author}
        own = own_shares(self.shares, self.models)
        return Mixed(own, {name: makers[name]() for name in own})

    @cached_property
    def mender(self) -> Mender | None:
        """Give who mends what a model wrote; None without a model."""
        if self.models is None:
            return None
        attempts, experiments = self._settings.mend_attempts, self._archive.experiments
        return Mender(self.models, self._space, self.desk, attempts, experiments)

    @cached_property
    def critics(self) -> Critics | None:
        """Give who judges and explains what was measured, beside the rules; None without a model."""
        if self.models is None:
            return None
        experiments = self._archive.experiments
        return ModelCritics(self.models, self._space, self._settings, experiments, self.cognition)

    def same_idea(self, proposal: Proposal, id: int) -> Opinion | None:
        """Give whose idea a model's proposal repeats; None when it is new, or nobody can tell or asks."""
        if self.models is None or proposal.author != AUTHOR or is_without(self._settings, "novelty"):
            return None
        return same_idea(self.models, proposal, id, self._archive.experiments())

    def own_candidates(self) -> int:
        """Give how many candidates the study may have, but for those that are kept free for agents."""
        if "agent" not in self.shares:
            return self._settings.experiments
        return own_candidates(self.shares, self._settings.experiments, self._archive.experiments("candidate"))

    def _symbolic(self) -> Researcher:
        from asi_arch.researcher.symbolic import Grammar, SymbolicResearcher

        grammar: Grammar | None = self._space.open_grammar()
        if grammar is None:
            raise SetupError(f"space {self._space.name!r} has no grammar; give it one, or another researcher")
        return SymbolicResearcher(grammar, recounts=not is_without(self._settings, "analyst"))

    def _author(self) -> Researcher:
        if self.models is None or self.models.name("designer") is None:
            raise SetupError('researcher is "model", and there is none; set model = "PROVIDER:NAME"')
        return Author(self.models, self._space, self.desk)
