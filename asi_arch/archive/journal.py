"""Calls of language models as a file: read from an archive or from JSON, and written as JSON."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from asi_arch.archive.sql import open_archive
from asi_arch.calls import Call
from asi_arch.errors import SetupError
from asi_arch.records import from_json, to_json


def load_calls(path: Path) -> list[Call]:
    """Give the calls of a study's folder, of its `study.db`, or of a JSON file that `save_calls` wrote.

    Raises:
        SetupError: there is no such file, or it holds no calls.
    """
    if path.is_dir():
        path = path / "study.db"
    if path.suffix == ".json":
        return _read(path)
    archive = open_archive(path)
    try:
        return archive.calls()
    finally:
        archive.close()


def save_calls(path: Path, calls: Sequence[Call]) -> None:
    """Write calls as a JSON array with one call a line."""
    path.write_text("[\n" + ",\n".join(to_json(call) for call in calls) + "\n]\n")


def _read(path: Path) -> list[Call]:
    try:
        return list(from_json(tuple[Call, ...], path.read_bytes()))
    except OSError as error:
        raise SetupError(f"cannot read calls from {path}: {error.strerror}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        place = "/".join(str(step) for step in fault["loc"]) or "the whole"
        raise SetupError(f"{path} holds no calls: {place}: {fault['msg']}") from None
