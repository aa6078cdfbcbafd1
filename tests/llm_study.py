"""What tests of language models share: an archive in a folder, a server, and a kind of answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_server import Answer, Asked, Reply, Script, Server, use

from asi_arch.archive.journal import load_calls
from asi_arch.archive.sql import SqlArchive, create_archive, open_archive
from asi_arch.llm.models import Models, Question, open_models
from asi_arch.settings import Settings

CANARY = "sk-canary-5f1e0c9b7a"
KEYS = {"OPENAI_API_KEY": CANARY, "ANTHROPIC_API_KEY": CANARY}
NAMES = {"openai": "gpt-5-mini", "anthropic": "claude-opus-4-6"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """An architecture."""

    name: str
    source: str


GOOD = Answer({"name": "gated", "source": "y = x"})
DESIGN = Design(name="gated", source="y = x")
QUESTION = Question(role="designer", system="You design.", prompt="Better than delta_net, please.")


def check(source: str) -> str:
    """Check a source.

    Args:
        source: the program's text.
    """
    return f"passed: {source}"


def checks_first(asked: Asked) -> Reply:
    """A designer that checks its source, then hands it in."""
    return use("check", source="y = x") if asked.turn == 0 else GOOD


@contextmanager
def journal(folder: Path) -> Iterator[SqlArchive]:
    """Open the archive of a folder, or make it."""
    folder.mkdir(exist_ok=True)
    path = folder / "study.db"
    archive = open_archive(path) if path.exists() else create_archive(path, {})
    try:
        yield archive
    finally:
        archive.close()


@contextmanager
def served(
    folder: Path, script: Script, protocol: str = "openai", say: Any = None, name: str = "", **settings: Any
) -> Iterator[tuple[Models, SqlArchive, Server]]:
    """Give models that a scripted server answers for, and the archive that they write to."""
    with Server(script) as server, journal(folder) as archive:
        model = f"{protocol}:{name or NAMES[protocol]}@{getattr(server, protocol)}"
        models = open_models(Settings(model=model, **settings), archive, KEYS, load_calls, say)
        assert models is not None
        with models:
            yield models, archive, server
