"""The archive in one SQLite file: experiments, their graphs, who may train which, and calls of models."""

import contextlib
import json
import os
import sqlite3
import tempfile
import threading
import time
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from pydantic import ValidationError

from asi_arch.archive import tables
from asi_arch.archive.base import Row
from asi_arch.archive.connection import connect
from asi_arch.archive.lease import Lease, is_alive
from asi_arch.calls import Call, Spending
from asi_arch.discoveries import Rerun
from asi_arch.errors import SetupError
from asi_arch.records import Experiment, Kind, Status, from_json, text_hash, to_json

OWNERS = "owners"  # folder of leases, beside the file
READ_AT_ONCE = 500  # records in one query; SQLite allows 32,766 variables

Record = TypeVar("Record", Experiment, Call, Rerun)


class SqlArchive:
    """An `Archive` in a SQLite file, with write-ahead log and a sync to disk for every transaction.

    It owns the file's connections and, from the first `claim` or `adopt` on, a lease in the folder
    `owners` beside the file. Use `create_archive` and `open_archive`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine = connect(path)
        self._reader = self._engine.execution_options(begin="BEGIN")
        self._lock = threading.Lock()
        self._lease: Lease | None = None
        self._rows: dict[int, Row] = {}
        self._revision = 0
        self._records: dict[int, Experiment] = {}

    def check(self) -> None:
        """Look through the file for damage. Raises SetupError with what is wrong with it."""
        try:
            with self._reader.begin() as connection:
                damage = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
            schema = self.facts().get("schema", "none")
            if damage == "ok" and schema in tables.UPGRADES:
                schema = self._upgrade()
        except (sa.exc.DatabaseError, sqlite3.DatabaseError) as error:
            fault = getattr(error, "orig", error)
            raise SetupError(
                f"cannot read archive {self._path}: {fault}; if the folder may be written, restore the file"
            ) from None
        if damage != "ok":
            raise SetupError(f"archive {self._path} is damaged: {damage}; restore the file")
        if schema != str(tables.VERSION):
            raise SetupError(
                f"archive {self._path} has schema {schema}, this program reads {tables.VERSION}; "
                "open it with the version that wrote it"
            )

    def _upgrade(self) -> str:
        """Add the tables that an archive of an earlier program lacks, and give its new version."""
        version = str(tables.VERSION)
        with self._engine.begin() as connection:
            tables.schema.create_all(connection)
            noted = sa.update(tables.facts).where(tables.facts.c.name == "schema")
            connection.execute(noted.values(value=version))
        return version

    def facts(self) -> Mapping[str, str]:
        """Give what was noted when the archive was created, by name."""
        with self._reader.begin() as connection:
            found = connection.execute(sa.select(tables.facts.c.name, tables.facts.c.value))
            return {row.name: row.value for row in found}

    def claim(self, kind: Kind, at_most: int | None = None) -> int | None:
        """Take the next id; see `Archive.claim`."""
        owner = self._owner()
        with self._engine.begin() as connection:
            if at_most is not None and _count(connection, kind) >= at_most:
                return None
            last, revision = connection.execute(tables.BEFORE_CLAIM).one()
            claimed = Experiment(id=last + 1, kind=kind, status="claimed", claimed_at=time.time())
            connection.execute(tables.INSERT, _columns(claimed) | {"owner": owner, "revision": revision + 1})
        return claimed.id

    def adopt(self, *kinds: Kind) -> int | None:
        """Take an open experiment that belongs to nobody; see `Archive.adopt`."""
        own = self._owner()
        with self._reader.begin() as connection:
            found = connection.execute(tables.OPEN_OWNERS, {"kinds": kinds}).all()
        alive = {None: False, own: True}
        for id, owner in sorted(found):
            if owner not in alive:
                alive[owner] = is_alive(self._path.parent / OWNERS, owner)
            if alive[owner]:
                continue
            with self._engine.begin() as connection:
                taken = connection.execute(tables.TAKE, {"this": id, "before": owner, "owner": own})
            if taken.rowcount == 1:
                return int(id)
        return None

    def release(self, id: int) -> None:
        """Give an experiment up; see `Archive.release`."""
        with self._engine.begin() as connection:
            connection.execute(tables.TAKE, {"this": id, "before": self._owner(), "owner": None})

    def record(self, experiment: Experiment) -> bool:
        """Write an experiment durably; see `Archive.record`."""
        values = _columns(experiment)
        bundles = [
            {"graph_hash": e.graph_hash, "bundle": zlib.compress(e.bundle.encode(), 1)}
            for e in experiment.evidence
            if e.bundle
        ]
        with self._engine.begin() as connection:
            before = connection.execute(tables.BEFORE_RECORD, {"this": experiment.id}).one_or_none()
            if before is None:
                raise KeyError(f"experiment {experiment.id} was never claimed")
            status, revision, result = before
            if status not in tables.OPEN:
                return False
            if bundles:
                connection.execute(tables.KEEP_BUNDLE, bundles)
            values |= {"this": experiment.id, "revision": revision + 1}
            if experiment.status not in tables.OPEN:
                is_result = experiment.kind == "candidate"
                values |= {"owner": None, "result": result + 1 if is_result else None}
            connection.execute(tables.UPDATE, values)
        return True

    def reserve(self, graph_hash: str, stage: str, seed: int, id: int) -> int:
        """Give the experiment that may train a graph; see `Archive.reserve`."""
        wanted = {"graph_hash": graph_hash, "stage": stage, "seed": seed}
        with self._engine.begin() as connection:
            connection.execute(tables.RESERVE, wanted | {"id": id})
            return int(connection.execute(tables.RESERVED, wanted).scalar_one())

    def get(self, id: int) -> Experiment:
        """Give an experiment as it stands now; see `Archive.get`."""
        with self._reader.begin() as connection:
            text = connection.execute(tables.RECORD, {"this": id}).scalar_one_or_none()
        if text is None:
            raise KeyError(f"no experiment {id}")
        return from_json(Experiment, text)

    def experiments(self, kind: Kind | None = None, status: Status | None = None) -> list[Experiment]:
        """Give experiments in the order of ids; see `Archive.experiments`."""
        with self._lock, self._reader.begin() as connection:
            self._refresh(connection)
            wanted = [
                row.id
                for row in self._rows.values()
                if kind in (None, row.kind) and status in (None, row.status)
            ]
            missing = [id for id in wanted if id not in self._records]
            text = sa.select(tables.experiments.c.id, tables.experiments.c.record)
            for start in range(0, len(missing), READ_AT_ONCE):
                some = tables.experiments.c.id.in_(missing[start : start + READ_AT_ONCE])
                for id, record in connection.execute(text.where(some)):
                    self._records[id] = from_json(Experiment, record)
            return [self._records[id] for id in wanted]

    def rows(self) -> list[Row]:
        """Give all experiments in brief; see `Archive.rows`."""
        with self._lock, self._reader.begin() as connection:
            self._refresh(connection)
            return list(self._rows.values())

    def bundle(self, graph_hash: str) -> str:
        """Give the graphs of a hash as JSON text; see `Archive.bundle`."""
        with self._reader.begin() as connection:
            packed = connection.execute(tables.BUNDLE, {"wanted": graph_hash}).scalar_one_or_none()
        if packed is None:
            raise KeyError(f"no bundle of graph {graph_hash}")
        return zlib.decompress(packed).decode()

    def begin_rerun(self, rerun: Rerun) -> bool:
        """Take a rerun that nobody has; see `Archive.begin_rerun`."""
        own, this = self._owner(), {"this": rerun.key}
        try:
            with self._engine.begin() as connection:
                found = connection.execute(tables.BEFORE_RERUN, this).one_or_none()
                if found is None:
                    wanted = {"key": rerun.key, "experiment": rerun.experiment, "owner": own}
                    connection.execute(tables.BEGIN_RERUN, wanted)
                    return True
                before = found.owner
                if found.record is not None or before == own:
                    return False
                if before is not None and is_alive(self._path.parent / OWNERS, before):
                    return False
                connection.execute(tables.TAKE_RERUN, this | {"before": before, "owner": own})
        except sa.exc.IntegrityError:
            raise KeyError(f"no experiment {rerun.experiment}") from None
        return True

    def leave_rerun(self, rerun: Rerun) -> None:
        """Give a rerun up; see `Archive.leave_rerun`."""
        with self._engine.begin() as connection:
            given = {"this": rerun.key, "before": self._owner(), "owner": None}
            connection.execute(tables.LEAVE_RERUN, given)

    def record_rerun(self, rerun: Rerun) -> bool:
        """Write a rerun that ended; see `Archive.record_rerun`."""
        if rerun.evidence is None:
            raise ValueError(f"rerun {rerun.key} has no evidence")
        bare = replace(rerun, evidence=replace(rerun.evidence, bundle=""))
        values = {"owner": None, "ended_at": time.time(), "record": _text(bare, f"rerun {rerun.key}")}
        with self._engine.begin() as connection:
            if connection.execute(tables.BEFORE_RERUN, {"this": rerun.key}).one_or_none() is None:
                raise KeyError(f"rerun {rerun.key} was never begun")
            return connection.execute(tables.END_RERUN, {"this": rerun.key} | values).rowcount == 1

    def reruns(self) -> list[Rerun]:
        """Give all reruns that ended; see `Archive.reruns`."""
        with self._reader.begin() as connection:
            found = connection.execute(tables.RERUNS).scalars().all()
        return [from_json(Rerun, text) for text in found]

    def record_call(self, call: Call) -> Call:
        """Write a call durably and give it with its id; see `Archive.record_call`."""
        try:
            with self._engine.begin() as connection:
                if not call.id:
                    last = connection.execute(tables.LAST_CALL).scalar_one()
                    call = replace(call, id=last + 1)
                    connection.execute(tables.INSERT_CALL, _columns_of_call(call))
                elif not connection.execute(
                    tables.UPDATE_CALL, _columns_of_call(call) | {"this": call.id}
                ).rowcount:
                    raise KeyError(f"no call {call.id}")
        except sa.exc.IntegrityError:
            raise KeyError(f"no experiment {call.experiment}") from None
        return call

    def calls(self, experiment: int | None = None) -> list[Call]:
        """Give calls in the order of ids; see `Archive.calls`."""
        with self._reader.begin() as connection:
            if experiment is None:
                found = connection.execute(tables.CALLS).scalars().all()
            else:
                found = connection.execute(tables.CALLS_OF, {"wanted": experiment}).scalars().all()
        return [from_json(Call, text) for text in found]

    def spent(self) -> Spending:
        """Give what all calls came to; see `Archive.spent`."""
        with self._reader.begin() as connection:
            calls, requests, tokens, dollars, unpriced = connection.execute(tables.SPENT).one()
        return Spending(
            calls=calls, requests=requests, tokens=tokens, dollars=float(dollars), unpriced=unpriced
        )

    def close(self) -> None:
        """Let go of files and leases; see `Archive.close`."""
        with self._lock:
            lease, self._lease = self._lease, None
        if lease is not None:
            lease.close()
        self._engine.dispose()

    def _owner(self) -> str:
        with self._lock:
            if self._lease is None:
                self._lease = Lease(self._path.parent / OWNERS)
            return self._lease.name

    def _refresh(self, connection: sa.Connection) -> None:
        """Read what changed. New ids only ever grow, so the rows stay in the order of ids."""
        changed = connection.execute(tables.CHANGED, {"since": self._revision}).mappings()
        for found in sorted(changed, key=lambda row: int(row["id"])):  # sorting there would scan the table
            values = dict(found)
            self._revision = max(self._revision, values.pop("revision"))
            values |= {"parents": tuple(json.loads(values["parents"])), "result": values["result"] or 0}
            row = Row(**values)
            self._rows[row.id] = row
            self._records.pop(row.id, None)


def create_archive(path: Path, facts: Mapping[str, str], entries: Iterable[Experiment] = ()) -> SqlArchive:
    """Make a new archive, all at once: no process ever sees half of it.

    Args:
        path: of the file; its folder exists. An archive that another process made meanwhile stays.
        facts: texts by name, kept for ever.
        entries: experiments that it holds from the start, open and belonging to nobody; their ids
            count up from 1.
    """
    with tempfile.TemporaryDirectory(prefix=".draft-", dir=path.parent) as folder:
        draft = Path(folder) / path.name
        engine = connect(draft)
        with engine.begin() as connection:
            tables.schema.create_all(connection)
            noted = {"schema": str(tables.VERSION)} | dict(facts)
            connection.execute(sa.insert(tables.facts), [{"name": n, "value": v} for n, v in noted.items()])
            for entry in entries:
                connection.execute(tables.INSERT, _columns(entry) | {"revision": entry.id})
        engine.dispose()  # the last connection folds the log into the file
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    return open_archive(path)


def open_archive(path: Path) -> SqlArchive:
    """Open an archive that exists.

    Raises:
        SetupError: there is none, it cannot be read, is damaged, is not of this program, or was
            written by a newer one.
    """
    if not path.is_file():
        raise SetupError(f"no archive {path}; name the folder of a study")
    archive = SqlArchive(path)
    try:
        archive.check()
    except SetupError:
        archive.close()
        raise
    return archive


def _count(connection: sa.Connection, kind: Kind) -> int:
    return int(connection.execute(tables.COUNT, {"wanted": kind}).scalar_one())


def _columns(experiment: Experiment) -> dict[str, Any]:
    """Give the columns of an experiment, but for owner, result and revision."""
    bare = replace(experiment, evidence=tuple(replace(e, bundle="") for e in experiment.evidence))
    text = _text(bare, f"experiment {experiment.id}")
    proposal = experiment.proposal
    return {
        "id": experiment.id,
        "kind": experiment.kind,
        "status": experiment.status,
        "name": proposal.name if proposal else "",
        "source_hash": text_hash(proposal.source) if proposal else "",
        "graph_hash": next((e.graph_hash for e in reversed(experiment.evidence) if e.graph_hash), ""),
        "parents": json.dumps(proposal.parents if proposal else ()),
        "fitness": experiment.fitness.value if experiment.fitness else None,
        "claimed_at": experiment.claimed_at,
        "ended_at": experiment.ended_at or None,
        "record": text,
    }


def _columns_of_call(call: Call) -> dict[str, Any]:
    """Give the columns of a call. dollars: of the answers whose price is known; None when none is."""
    answers = [turn for turn in call.turns if turn.answer]
    prices = [turn.dollars for turn in answers if turn.dollars is not None]
    return {
        "id": call.id,
        "experiment": call.experiment,
        "role": call.role,
        "model": call.model,
        "started_at": call.started_at,
        "seconds": sum(turn.seconds for turn in call.turns),
        "requests": len(answers),
        "tokens_in": sum(turn.tokens_in for turn in answers),
        "tokens_cached": sum(turn.tokens_cached for turn in answers),
        "tokens_out": sum(turn.tokens_out for turn in answers),
        "dollars": sum(prices) if prices else None,
        "unpriced": len(answers) - len(prices),
        "faults": sum(len(turn.faults) for turn in call.turns),
        "error": call.error,
        "record": _text(call, f"call {call.id}"),
    }


def _text(record: Record, name: str) -> str:
    """Give a record as JSON text from which the same record comes back."""
    text = to_json(record)
    try:
        same = from_json(type(record), text) == record
    except ValidationError as error:
        raise ValueError(f"{name} cannot be kept: {error}") from None
    if not same:
        raise ValueError(f"{name} cannot be kept: it does not survive JSON")
    return text
