"""Which layer stops which hostile candidate alone: writes the table of docs/hostile.md.

Run `python benchmarks/layers.py`. Each file of tests/hostile/ meets the rules on sources alone; the
graph alone (no rules, no containment; not for files that would harm this machine); and containment
alone (no rules, no graph: the file is simply run inside).
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from arena import PLAIN, WORKER, Arena, Gates, Outcome, Wall, contained, judge, uncontained  # noqa: E402
from corpus import Entry, entries  # noqa: E402

from asi_arch.engineer.isolation import detect  # noqa: E402
from asi_arch.engineer.source import check_source  # noqa: E402

FOLDER = ROOT / "tests" / "hostile"
TABLE = ROOT / "docs" / "hostile.md"
PLACE = re.compile(r" \(?/\w\S+")  # paths of this machine, which differ elsewhere
PROBED = (
    "refused: causality"  # by the arena's own probe, which stands for the gates where an answer is forged
)
HEAD = """# Hostile candidates, and the layer that stops each alone

Made by `python benchmarks/layers.py` from the files of `tests/hostile/`, on a machine whose containment is:
{isolation}.

- **source**: the rules on the syntax tree, before anything runs.
- **graph**: no rules and no containment. The file is traced, and what it answers is parsed, bounded, replayed
  and held against later inputs. `disarmed`: the answer is, byte for byte, that of the file without its
  attack.
- **containment**: no rules and no graph. The file is run as a plain program inside. It counts where the child
  was ended at a limit, or where the host stayed unharmed and would not have without it.
- `-`: not run, for it would harm this machine. no: the layer alone does not stop it.

Of {count} files {two} fall to two layers or more; {source} to source, {graph} to graph, {contained} to
containment.

| file | attack | source | graph | containment |
|---|---|---|---|---|
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What each layer did: words, or "" where it did not stop the file."""

    entry: Entry
    source: str
    graph: str
    containment: str

    def stopped_by(self) -> tuple[str, ...]:
        """Give the layers that stopped it."""
        layers = {"source": self.source, "graph": self.graph, "containment": self.containment}
        return tuple(name for name, words in layers.items() if words not in ("", "-"))


def measure(entry: Entry, walls: Sequence[Wall], gates: Gates, honest: Outcome) -> Row:
    """Meet one file with each layer alone."""
    open_wall, plain_wall = walls
    verdict = check_source(entry.source)
    source = "" if verdict.passed else _short(verdict.message)
    graph, would_harm = "-", True
    if entry.harmless:
        outcome = open_wall.run(entry.source, entry.seconds)
        said = judge(outcome, [honest])
        if said == "differs" and entry.honest != entry.source:
            said = judge(outcome, [honest, open_wall.run(entry.honest)])
        if said == "differs" or (said.startswith(PROBED) and not entry.name.startswith("forge")):
            said = gates.failure(entry.source)
        graph = "" if outcome.harm or outcome.limited else _short(said)
        would_harm = bool(outcome.harm) or outcome.limited
    inside = plain_wall.run(entry.source, entry.seconds)
    containment = ""
    if not inside.harm and inside.ended != "server" and (inside.limited or would_harm):
        containment = _short(inside.ended or inside.answer.decode())
    return Row(entry=entry, source=source, graph=graph, containment=containment)


def _short(text: str) -> str:
    text = PLACE.sub("", text).split(";")[0].replace("refused: ", "").replace("|", "/").replace("\n", " ")
    return text if len(text) <= 90 else text[:87] + "..."


def main() -> None:
    """Run all files and write the table."""
    names = sys.argv[1:]
    corpus = [e for e in entries(FOLDER) if not names or e.name in names]
    rows: list[Row] = []
    with Arena() as arena:
        gates = Gates()
        walls = (uncontained(arena, WORKER), contained(arena, PLAIN))
        honest = walls[0].run((FOLDER / "_honest.py").read_text())
        for entry in corpus:
            rows.append(measure(entry, walls, gates, honest))
            row = rows[-1]
            wrong = "" if set(row.stopped_by()) >= set(entry.falls_to) else f"  SAYS {entry.falls_to}"
            print(f"{entry.name}: {row.source} | {row.graph} | {row.containment}{wrong}", flush=True)
        for server in (*walls, gates):
            server.close()
    if not names:
        TABLE.write_text(_table(rows))


def _table(rows: Sequence[Row]) -> str:
    counts = {name: sum(name in r.stopped_by() for r in rows) for name in ("source", "graph", "containment")}
    head = HEAD.format(
        isolation=detect().state,
        count=len(rows),
        two=sum(len(r.stopped_by()) >= 2 for r in rows),
        source=counts["source"],
        graph=counts["graph"],
        contained=counts["containment"],
    )
    cells = [(r.entry.name, r.entry.attack, r.source, r.graph, r.containment) for r in rows]
    lines = [f"| {' | '.join(cell or 'no' for cell in row)} |" for row in cells]
    return head + "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
