"""How a SQLite file is opened: a write-ahead log, and a sync to disk for every transaction."""

from pathlib import Path
from typing import Any

import sqlalchemy as sa

BUSY_SECONDS = 60.0


def connect(path: Path) -> sa.Engine:
    """Give the engine of a file; each thread has a connection of its own."""
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        connect_args={"timeout": BUSY_SECONDS},
        max_overflow=-1,  # as many as there are threads: each holds one for a millisecond
    )

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        connection.isolation_level = None  # transactions begin where we say so
        for pragma in ("journal_mode=wal", "synchronous=full", "foreign_keys=on"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # a writer that first only reads can be refused later, whatever the timeout
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN IMMEDIATE"))

    return engine
