"""The tables of an archive, and the statements that run on them."""

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

VERSION = 3
UPGRADES = ("1", "2")  # versions that only lack tables, which are made when one is opened
OPEN = ("claimed", "proposed")

schema = sa.MetaData()

facts = sa.Table(
    "facts",
    schema,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

experiments = sa.Table(
    "experiments",
    schema,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False, default=""),
    sa.Column("owner", sa.Text),
    sa.Column("source_hash", sa.Text, nullable=False, default=""),
    sa.Column("graph_hash", sa.Text, nullable=False, default=""),
    sa.Column("parents", sa.Text, nullable=False, default="[]"),
    sa.Column("fitness", sa.Float),
    sa.Column("result", sa.Integer, unique=True),
    sa.Column("claimed_at", sa.Float, nullable=False),
    sa.Column("ended_at", sa.Float),
    sa.Column("revision", sa.Integer, nullable=False, unique=True),
    sa.Column("record", sa.Text, nullable=False),
    sa.CheckConstraint("kind IN ('baseline', 'reference', 'candidate')"),
    sa.CheckConstraint("status IN ('claimed', 'proposed', 'finished', 'failed')"),
    sa.CheckConstraint("(status = 'finished') = (fitness IS NOT NULL)"),
    sa.CheckConstraint("(status IN ('finished', 'failed')) = (ended_at IS NOT NULL)"),
    sa.CheckConstraint("(kind = 'candidate' AND ended_at IS NOT NULL) = (result IS NOT NULL)"),
    sa.CheckConstraint("owner IS NULL OR ended_at IS NULL"),
    sa.Index("experiments_kind_status", "kind", "status"),
    sa.Index("experiments_fitness", "fitness"),
    sa.Index("experiments_graph_hash", "graph_hash"),
)

bundles = sa.Table(
    "bundles",
    schema,
    sa.Column("graph_hash", sa.Text, primary_key=True),
    sa.Column("bundle", sa.LargeBinary, nullable=False),
)

reservations = sa.Table(
    "reservations",
    schema,
    sa.Column("graph_hash", sa.Text, primary_key=True),
    sa.Column("stage", sa.Text, primary_key=True),
    sa.Column("seed", sa.Integer, primary_key=True),
    sa.Column("id", sa.Integer, sa.ForeignKey("experiments.id"), nullable=False),
)

calls = sa.Table(
    "calls",
    schema,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("experiment", sa.Integer, sa.ForeignKey("experiments.id")),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("requests", sa.Integer, nullable=False),
    sa.Column("tokens_in", sa.Integer, nullable=False),
    sa.Column("tokens_cached", sa.Integer, nullable=False),
    sa.Column("tokens_out", sa.Integer, nullable=False),
    sa.Column("dollars", sa.Float),
    sa.Column("unpriced", sa.Integer, nullable=False),
    sa.Column("faults", sa.Integer, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.Index("calls_experiment", "experiment"),
)

reruns = sa.Table(
    "reruns",
    schema,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("experiment", sa.Integer, sa.ForeignKey("experiments.id"), nullable=False),
    sa.Column("owner", sa.Text),
    sa.Column("ended_at", sa.Float),
    sa.Column("record", sa.Text),
    sa.CheckConstraint("(record IS NULL) = (ended_at IS NULL)"),
    sa.CheckConstraint("owner IS NULL OR record IS NULL"),
)

_column = experiments.c
ROW = [
    _column[name]
    for name in ("id", "kind", "status", "name", "fitness", "parents", "graph_hash", "result", "revision")
]

# Statements are built once: building one costs several times as much as running it.
_is_open = _column.status.in_(OPEN)
_this = _column.id == sa.bindparam("this")
_last_id, _last_revision, _last_result = (
    sa.select(sa.func.coalesce(sa.func.max(column), 0)).scalar_subquery()
    for column in (_column.id, _column.revision, _column.result)
)
COUNT = sa.select(sa.func.count()).where(_column.kind == sa.bindparam("wanted"))
BEFORE_CLAIM = sa.select(_last_id, _last_revision)
BEFORE_RECORD = sa.select(_column.status, _last_revision, _last_result).where(_this)
INSERT = sa.insert(experiments)
UPDATE = sa.update(experiments).where(_this)
RECORD = sa.select(_column.record).where(_this)
CHANGED = sa.select(*ROW).where(_column.revision > sa.bindparam("since"))
OPEN_OWNERS = sa.select(_column.id, _column.owner).where(
    _is_open, _column.kind.in_(sa.bindparam("kinds", expanding=True))
)
TAKE = sa.update(experiments).where(
    _this, _column.owner.is_not_distinct_from(sa.bindparam("before")), _is_open
)
KEEP_BUNDLE = insert(bundles).on_conflict_do_nothing()
BUNDLE = sa.select(bundles.c.bundle).where(bundles.c.graph_hash == sa.bindparam("wanted"))
RESERVE = insert(reservations).on_conflict_do_nothing()
RESERVED = sa.select(reservations.c.id).where(
    *(reservations.c[name] == sa.bindparam(name) for name in ("graph_hash", "stage", "seed"))
)
_this_call = calls.c.id == sa.bindparam("this")
LAST_CALL = sa.select(sa.func.coalesce(sa.func.max(calls.c.id), 0))
INSERT_CALL = sa.insert(calls)
UPDATE_CALL = sa.update(calls).where(_this_call)
CALLS = sa.select(calls.c.record).order_by(calls.c.id)
CALLS_OF = CALLS.where(calls.c.experiment == sa.bindparam("wanted"))
SPENT = sa.select(
    sa.func.count(),
    *(
        sa.func.coalesce(sa.func.sum(column), 0)
        for column in (
            calls.c.requests,
            calls.c.tokens_in + calls.c.tokens_out,
            calls.c.dollars,
            calls.c.unpriced,
        )
    ),
).select_from(calls)
_this_rerun = reruns.c.key == sa.bindparam("this")
_unended = reruns.c.record.is_(None)
BEFORE_RERUN = sa.select(reruns.c.owner, reruns.c.record).where(_this_rerun)
BEGIN_RERUN = sa.insert(reruns)
TAKE_RERUN = sa.update(reruns).where(
    _this_rerun, reruns.c.owner.is_not_distinct_from(sa.bindparam("before")), _unended
)
LEAVE_RERUN = sa.update(reruns).where(_this_rerun, reruns.c.owner == sa.bindparam("before"), _unended)
END_RERUN = sa.update(reruns).where(_this_rerun, _unended)
RERUNS = (
    sa.select(reruns.c.record).where(reruns.c.record.is_not(None)).order_by(reruns.c.ended_at, reruns.c.key)
)
