"""A paper becomes a study's own knowledge: read, extracted, looked at by a person, and kept."""

import os
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from asi_arch.errors import BudgetError, ModelError, SetupError

if TYPE_CHECKING:
    from asi_arch.cognition.base import CognitionBase, Match
    from asi_arch.cognition.document import Document
    from asi_arch.cognition.extract import Extract
    from asi_arch.llm.models import Models
    from asi_arch.papers import Cognition
    from asi_arch.settings import Settings
    from asi_arch.space import Space


def keep_read(paper: Path, study: Path, pages: str, values: Sequence[str], editor: str | None) -> None:
    """Read a paper, have its knowledge extracted, and keep it in a study's folder.

    Args:
        paper: see `document.read_document`.
        pages: see there.
        study: its folder; it must exist.
        values: settings as `key=value`, for this once.
        editor: a command that a person edits the file with before it is kept; None to keep it without a look.

    Raises:
        SetupError: the study, the paper, the editor or the model cannot be had, or what was edited breaks the
            schema.
        ModelError: the model gave no answer that can be used.
    """
    from asi_arch.archive.folder import open_folder
    from asi_arch.cognition.base import OWN, CognitionBase
    from asi_arch.cognition.document import read_document
    from asi_arch.cognition.extract import cognitions_of, name_for
    from asi_arch.cognition.write import keep, to_toml
    from asi_arch.settings import given_values, with_values
    from asi_arch.space import load_space

    settings, archive = open_folder(study)
    archive.close()
    settings = with_values(settings, **given_values(None, values))
    space = load_space(settings.space)
    base = CognitionBase(space.folder / "cognition", study / OWN, moves=space.moves())
    document = read_document(paper, pages)
    if editor is not None and not editor.strip():
        raise SetupError(
            "no $EDITOR to look at what the model writes; export one, or keep it as it is with --yes"
        )
    found = _extracted(settings, study, space, base, document)
    taken = {cognition.paper.arxiv: None for cognition in base.all()}
    name = name_for(found, document, list(taken))
    drafted = cognitions_of(found, name)
    _tell(drafted, base, found.arxiv if found.arxiv in taken else "")
    text = _edited(to_toml(drafted), name, base, editor) if editor else to_toml(drafted)
    if not text.strip():
        typer.echo("nothing was kept, since the file was emptied")
        return
    path = keep(study / OWN, name, text)
    typer.echo(f"kept in {path}; it takes part in what this study recalls from now on")


def searched_and_read(
    base: "CognitionBase", query: str, count: int, study: Path | None, values: Sequence[str]
) -> "tuple[Match, ...]":
    """Search, and have the model of the role `reader` choose; its call is kept in the study's archive.

    Args:
        base: what is searched.
        query: see `CognitionBase.search`.
        count: as many at most.
        study: its folder.
        values: settings as `key=value`, for this once.

    Raises:
        SetupError: there is no study, or no model of that role, or it cannot be asked.
    """
    from asi_arch.archive.folder import open_folder
    from asi_arch.cognition.reading import opened_reader
    from asi_arch.settings import given_values, with_values

    if study is None:
        raise SetupError("--read keeps what a model was asked in a study; name one with --study DIR")
    settings, archive = open_folder(study)
    archive.close()
    with _models_of(with_values(settings, **given_values(None, values)), study) as models:
        reader = opened_reader(models)
        if reader is None:
            raise SetupError("no model has the role `reader`; name one with --set model_reader=PROVIDER:NAME")
        try:
            found = base.search(query, count, partial(reader.choose, None))
        except (ModelError, BudgetError) as error:
            raise SetupError(f"no model read what was found: {error}; leave out --read to see it") from None
    if found and not found[0].read_rank:
        typer.echo("the model chose none of the pieces; they stand as they were found", err=True)
    return found


def _extracted(
    settings: "Settings", study: Path, space: "Space", base: "CognitionBase", document: "Document"
) -> "Extract":
    """Ask the model; its calls are kept in the study's archive."""
    from asi_arch.cognition.extract import extract

    example = next((cognition for cognition in base.all() if cognition.checked), None)
    with _models_of(settings, study) as models:
        return extract(models, document, space, base.themes, example)


@contextmanager
def _models_of(settings: "Settings", study: Path) -> "Iterator[Models | None]":
    """Open the models that settings name; their calls are kept in a study's archive."""
    from asi_arch.archive.folder import open_folder
    from asi_arch.archive.journal import load_calls
    from asi_arch.llm.models import open_models

    _, archive = open_folder(study)
    with closing(archive):
        models = open_models(
            settings, archive, os.environ, load_calls, lambda text: typer.echo(text, err=True)
        )
        with models or nullcontext():
            yield models


def _tell(drafted: "Sequence[Cognition]", base: "CognitionBase", known: str) -> None:
    """Say what was drafted, and what says much the same already."""
    from asi_arch.cognition.words import near_duplicates

    if known:
        ids = ", ".join(cognition.id for cognition in base.by_paper(known))
        typer.echo(f"the paper is known already ({ids}); this is kept beside it")
    for cognition in drafted:
        typer.echo(f"{cognition.id}  {cognition.title}")
        for near, share in near_duplicates(cognition, base.all()):
            typer.echo(f"  says much the same as {near.id} ({share:.0%}): {near.title}")


def _edited(text: str, name: str, base: "CognitionBase", editor: str) -> str:
    """Have a person edit a file until it can be read, or is empty.

    Raises:
        SetupError: the editor cannot be run, or left a fault and no person to ask; the draft stays.
    """
    from asi_arch.cognition.paper import read_paper

    folder = Path(tempfile.mkdtemp(prefix="cognition-"))
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    while True:
        try:
            done = subprocess.run([*shlex.split(editor), str(path)], check=False)
        except OSError as error:
            raise SetupError(f"cannot run editor {editor!r}: {error.strerror}; the draft is {path}") from None
        if done.returncode:
            raise SetupError(f"editor {editor!r} ended with {done.returncode}; the draft is {path}")
        edited = path.read_text(encoding="utf-8", errors="replace")
        try:
            if edited.strip():
                read_paper(path, base.themes, own=True, moves=base.moves)
        except SetupError as error:
            if not os.isatty(0):
                raise
            typer.echo(f"{error}", err=True)
            typer.confirm("edit it again?", default=True, abort=True)
            continue
        path.unlink()
        folder.rmdir()
        return edited


def confirmed(id: str, study: Path, source: str) -> Path:
    """Mark a piece of a study's own knowledge as checked by a person; give its file.

    Raises:
        SetupError: the study has no such piece of its own, or it is checked already.
    """
    from asi_arch.archive.folder import open_folder
    from asi_arch.cognition.base import OWN
    from asi_arch.cognition.paper import read_paper
    from asi_arch.cognition.write import keep, to_toml

    _, archive = open_folder(study)
    archive.close()
    name = id.partition("/")[0]
    own = {path.stem: path for path in (study / OWN).glob("*.toml")}
    if name not in own:
        known = ", ".join(sorted(own)) or "none yet: `asi-arch cognition add` makes one"
        raise SetupError(f"{study} has no paper {name!r} of its own; it has {known}")
    cognitions = read_paper(own[name], own=True)
    found = next((cognition for cognition in cognitions if cognition.id == id), None)
    if found is None:
        raise SetupError(f"{own[name]} holds {', '.join(c.id for c in cognitions)}, not {id!r}")
    if found.checked:
        raise SetupError(f"{id} is checked already, against {found.source}")
    read = source.strip() or ", ".join(f"p. {page}" for page in sorted({q.page for q in found.quotes}))
    if not read:
        raise SetupError(f"{id} has no quotes to read; say what you read with --source TEXT")
    marked = replace(found, checked=True, source=read)
    return keep(study / OWN, name, to_toml([marked if c is found else c for c in cognitions]))
