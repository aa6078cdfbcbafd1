"""A study's folder: `study.db`, `settings.toml`, and what may not change once there are results."""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from asi_arch.archive.sql import OWNERS, SqlArchive, create_archive, open_archive
from asi_arch.errors import SetupError
from asi_arch.records import Experiment
from asi_arch.settings import Settings, as_values, keys, load_settings, to_toml, with_values

DATABASE, SETTINGS = "study.db", "settings.toml"
FIXED = ("space", "seed", "stage", "seed_runs", "fitness", "steps", "learning_rate", "without")
"""Settings that give the figures their meaning: results under two values would not compare."""


def has_study(folder: Path) -> bool:
    """Tell whether a folder holds a study."""
    return (folder / DATABASE).exists()


def create_folder(folder: Path, settings: Settings, entries: Iterable[Experiment]) -> SqlArchive:
    """Make a study's folder; of two processes that make it at once, the second opens the first's.

    Args:
        folder: made with its parents; it may exist when it is empty.
        settings: the study's.
        entries: experiments that the archive holds from the start, see `create_archive`.

    Raises:
        SetupError: the folder cannot be made, or holds a study with other settings, or other files.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise SetupError(f"cannot make study folder {folder}: {error.strerror}; choose another") from None
    ours = (DATABASE, SETTINGS, OWNERS, ".draft-")
    foreign = [name for name in names if not name.startswith(ours)]
    if foreign and not has_study(folder):
        raise SetupError(f"folder {folder} holds {foreign[0]!r} and no study; choose a new or empty one")
    archive = create_archive(folder / DATABASE, {"settings": json.dumps(as_values(settings))}, entries)
    try:
        _refuse_change(folder, _settings_at_creation(archive), as_values(settings))
    except SetupError:
        archive.close()
        raise
    write_settings(folder, settings)
    return archive


def open_folder(folder: Path) -> tuple[Settings, SqlArchive]:
    """Open a study's folder.

    Raises:
        SetupError: there is no study, it cannot be read, or its settings file was changed in what
            may not change.
    """
    if not has_study(folder):
        raise SetupError(f"no study in {folder}; name a study's folder, or start one with `asi-arch run`")
    archive = open_archive(folder / DATABASE)
    try:
        first = _settings_at_creation(archive)
        written = (folder / SETTINGS).exists()
        settings = load_settings(folder / SETTINGS) if written else first
        _refuse_change(folder, first, as_values(settings))
    except SetupError:
        archive.close()
        raise
    if not written:  # its maker was killed before it wrote them
        with suppress(OSError):  # a study that may only be read
            write_settings(folder, settings)
    return settings, archive


def change_settings(folder: Path, given: Mapping[str, Any]) -> None:
    """Replace some settings of a study and write them down.

    Raises:
        SetupError: as `open_folder`, or a value may not change, or is out of range.
    """
    settings, archive = open_folder(folder)
    archive.close()
    _refuse_change(folder, settings, given)
    changed = with_values(settings, **given)
    if changed != settings:
        write_settings(folder, changed)


def write_settings(folder: Path, settings: Settings) -> None:
    """Write the settings file, whole or not at all."""
    draft = folder / f"{SETTINGS}.{os.getpid()}"
    draft.write_text(to_toml(settings))
    draft.replace(folder / SETTINGS)


def _settings_at_creation(archive: SqlArchive) -> Settings:
    noted = json.loads(archive.facts()["settings"])
    return Settings(**{key: value for key, value in noted.items() if key in keys()})


def _refuse_change(folder: Path, settings: Settings, given: Mapping[str, Any]) -> None:
    for key in FIXED:
        old, new = getattr(settings, key), given.get(key)
        if new is not None and new != old:
            raise SetupError(
                f"setting {key!r} of study {folder} is {old!r} and cannot become {new!r}, since results "
                "would not compare; leave it out, or start a study in another folder"
            )
