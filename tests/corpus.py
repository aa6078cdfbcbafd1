"""Reads what the files of tests/hostile/ and tests/faulty/ say of themselves.

Each file is one candidate, whose docstring opens with lines `Key: text`; a text may go on over further
lines, up to the next key or an empty line:

    Attack: what it tries        (in tests/faulty/ the key is `Fault`)
    Expect: refused by causality (or by another check or phase; or `disarmed`)
    Falls to: source, graph      (tests/hostile/ only: the layers that stop it alone)
    Alone: no                    (tests/hostile/ only: never run it outside containment)
    Seconds: 4                   (tests/hostile/ only: it needs no longer, for it ends at a limit)

`disarmed`: what crosses the wall is an honest graph in which the attack has no part. Such a file marks
its attack by lines `# <attack>` and `# </attack>`, and `honest` gives the file without it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

KEYS = ("Attack", "Fault", "Expect", "Falls to", "Alone", "Seconds")
KEY = re.compile(rf"({'|'.join(KEYS)}): *(.*)")
EXPECT = re.compile(r"disarmed|refused by ([a-z_]+(?: or [a-z_]+)*)")
MARKED = re.compile(r"^[ ]*# <attack>\n.*?^[ ]*# </attack>\n", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One candidate of a corpus.

    attack: what it tries, or what is wrong with it. expect: names of checks or phases, one of which
    refuses it; empty: it is disarmed. falls_to: layers that stop it alone. harmless: it may be run
    without containment. seconds: after which it is ended.
    """

    path: Path
    attack: str
    expect: tuple[str, ...]
    falls_to: tuple[str, ...]
    harmless: bool = True
    seconds: float = 60.0

    @property
    def name(self) -> str:
        """The name of the file without its ending."""
        return self.path.stem

    @property
    def source(self) -> str:
        """The candidate, as it would be submitted."""
        return self.path.read_text(encoding="utf-8")

    @property
    def honest(self) -> str:
        """The candidate without its marked attack; the text is the same where nothing is marked."""
        return MARKED.sub("", self.source)


def entries(folder: Path) -> list[Entry]:
    """Read every file of a folder, by name. Raises ValueError: a header is not in the form above."""
    return [_entry(path) for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")]


def _entry(path: Path) -> Entry:
    parts = path.read_text(encoding="utf-8").split('"""')  # not every file can be parsed
    fields = _fields(parts[1] if len(parts) > 2 else "")
    attack = fields.get("Attack") or fields.get("Fault")
    expect = EXPECT.fullmatch(fields.get("Expect", "").rstrip("."))
    if not attack or not expect:
        raise ValueError(f"{path.name}: the docstring needs `Attack:` or `Fault:`, and `Expect:`")
    names = tuple((expect[1] or "").split(" or ")) if expect[1] else ()
    layers = tuple(part.strip() for part in fields.get("Falls to", "").rstrip(".").split(",") if part.strip())
    return Entry(
        path=path,
        attack=attack,
        expect=names,
        falls_to=layers,
        harmless=fields.get("Alone", "yes") == "yes",
        seconds=float(fields.get("Seconds", "60")),
    )


def _fields(docstring: str) -> Mapping[str, str]:
    fields: dict[str, str] = {}
    key = ""
    for line in docstring.splitlines():
        found = KEY.match(line)
        if found:
            key = found[1]
            fields[key] = found[2].strip()
        elif not line.strip():
            key = ""
        elif key:
            fields[key] += " " + line.strip()
    return fields
