"""Reads a database's catalog into values. Read-only."""

# ruff: noqa: S608 - queries are made of constants and quoted names

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy

from aether_operator.catalog import owners
from aether_operator.catalog.schemas import Column
from aether_operator.database.pg_catalog import (
    DATABASE_TABLES,
    SCHEMA_TABLES,
    Aggregate,
    DatabaseState,
    Extension,
    LiveTable,
    Partition,
    Partitioning,
    Progress,
    Role,
    ServerFacts,
    View,
)
from aether_operator.database.steps import quoted
from aether_operator.observed.reports import Engine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection, Row

    from aether_operator.catalog.schemas import SchemaDefinition

_SERVER: Final = """
SELECT current_setting('server_version') AS version,
       current_setting('server_version_num')::int / 10000 AS major,
       coalesce(current_setting('timescaledb.license', true), '') AS licence,
       pg_is_in_recovery() AS standby,
       r.rolsuper AS superuser,
       r.rolsuper OR r.rolcreaterole AS creates_roles,
       CASE WHEN n.oid IS NULL THEN has_database_privilege(current_database(), 'CREATE')
            ELSE has_schema_privilege(n.oid, 'CREATE') AND has_schema_privilege(n.oid, 'USAGE') END AS may_create
FROM pg_roles r LEFT JOIN pg_namespace n ON n.nspname = :schema
WHERE r.rolname = current_user
"""
_EXTENSIONS: Final = """
SELECT a.name, coalesce(a.default_version, '') AS available,
       coalesce(e.extversion, '') AS installed, coalesce(n.nspname, '') AS schema
FROM pg_available_extensions a
LEFT JOIN pg_extension e ON e.extname = a.name
LEFT JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE a.name IN ('timescaledb', 'pg_partman')
"""
_PARTMAN_RIGHTS: Final = """
SELECT has_schema_privilege(n.oid, 'USAGE') AS can_use_schema,
       has_schema_privilege(n.oid, 'CREATE') AS can_create_tables,
       (SELECT bool_and(has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
                        AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))
        FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname IN ('part_config', 'part_config_sub')) AS writes,
       (SELECT bool_and(has_function_privilege(p.oid, 'EXECUTE')) FROM pg_proc p WHERE p.pronamespace = n.oid) AS calls
FROM pg_namespace n WHERE n.nspname = :schema
"""


_MOMENT: Final = """
SELECT now() AS now, to_regnamespace(:schema) IS NOT NULL AS schema,
       to_regnamespace(:database_schema) IS NOT NULL AS database_schema
"""


class CatalogUnreadable(Exception):
    """A table of ours exists that our login may not read: somebody else created it."""


def rows(connection: Connection, sql: str, **values: Any) -> Sequence[Row[Any]]:
    """The rows of a query."""
    return connection.execute(sqlalchemy.text(sql), values).all()


def read_server(connection: Connection, schema: str) -> ServerFacts:
    """What a connection check for a schema needs, in a transaction of its own."""
    with connection.begin():
        return facts(connection, schema)


def facts(connection: Connection, schema: str) -> ServerFacts:
    """What a connection check for a schema needs, within the open transaction."""
    (one,) = rows(connection, _SERVER, schema=schema)
    extensions = {
        row.name: Extension(installed=row.installed, available=row.available, schema=row.schema)
        for row in rows(connection, _EXTENSIONS)
    }
    partman = extensions.get("pg_partman", Extension())
    missing: tuple[str, ...] = ()
    if partman.installed:
        (rights,) = rows(connection, _PARTMAN_RIGHTS, schema=partman.schema)
        missing = tuple(
            right
            for right, granted in (
                (f"USAGE on schema {partman.schema}", rights.can_use_schema),
                (f"CREATE on schema {partman.schema}", rights.can_create_tables),
                (f"ALL on the tables of schema {partman.schema}", rights.writes),
                (f"EXECUTE on the functions of schema {partman.schema}", rights.calls),
            )
            if not granted
        )
    return ServerFacts(
        version=one.version.split(" ")[0],
        major=one.major,
        timescale=extensions.get("timescaledb", Extension()),
        timescale_licence=one.licence,
        partman=partman,
        superuser=one.superuser,
        creates_roles=one.creates_roles,
        may_create=one.may_create,
        partman_rights=missing,
        standby=one.standby,
    )


_RELATIONS: Final = """
SELECT n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
       has_table_privilege(c.oid, 'SELECT') AS readable,
       pg_relation_size(c.oid) + (SELECT coalesce(sum(pg_relation_size(i.inhrelid)), 0)
                                  FROM pg_inherits i WHERE i.inhparent = c.oid) AS size
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN (:schema, :database_schema) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
"""
_COLUMNS: Final = """
SELECT c.relname AS relation, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS required
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = to_regnamespace(:schema) AND c.relname = ANY(:names)
  AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_CONSTRAINTS: Final = """
SELECT c.relname AS relation, k.conname AS name, pg_get_constraintdef(k.oid) AS definition
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE c.relnamespace = to_regnamespace(:schema) AND c.relname = ANY(:names) AND k.contype IN ('p', 'u', 'c', 'f', 'x')
"""
_INDEXES: Final = """
SELECT c.relname AS relation, i.relname AS name, x.indisvalid AS valid,
       regexp_replace(pg_get_indexdef(x.indexrelid), '^.* USING ', '') AS definition
FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid
WHERE c.relnamespace = to_regnamespace(:schema) AND c.relname = ANY(:names)
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = x.indexrelid)
"""
_HYPERTABLES: Final = """
SELECT hypertable_name AS relation, compression_enabled AS compressed FROM timescaledb_information.hypertables
WHERE hypertable_schema = :schema AND hypertable_name = ANY(:names)
"""
_JOBS: Final = """
SELECT hypertable_name AS relation, proc_name AS name, scheduled,
       extract(epoch FROM coalesce(config->>'drop_after', config->>'compress_after')::interval)::float8 / 86400 AS days
FROM timescaledb_information.jobs WHERE hypertable_schema = :schema AND hypertable_name = ANY(:names)
  AND proc_name IN ('policy_retention', 'policy_compression')
"""
_COMPRESSION: Final = """
SELECT c.relname AS relation, s.segmentby, s.orderby FROM timescaledb_information.hypertable_compression_settings s
JOIN pg_class c ON c.oid = s.hypertable
WHERE c.relnamespace = to_regnamespace(:schema) AND c.relname = ANY(:names)
"""
_CHUNKS: Final = """
SELECT hypertable_name AS relation, format('%I.%I', chunk_schema, chunk_name) AS name,
       range_start AS start, range_end AS "end"
FROM timescaledb_information.chunks
WHERE hypertable_schema = :schema AND hypertable_name = ANY(:names) ORDER BY range_start
"""
_PARTITIONS: Final = """
SELECT p.relname AS relation, format('%I.%I', n.nspname, c.relname) AS name, c.reltuples::bigint AS rows,
       (regexp_match(b.bound, 'FROM \\(''([^'']+)''\\)'))[1]::timestamptz AS start,
       (regexp_match(b.bound, 'TO \\(''([^'']+)''\\)'))[1]::timestamptz AS "end"
FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent
JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid) AS bound) b
WHERE p.relnamespace = to_regnamespace(:schema) AND p.relname = ANY(:names) ORDER BY start NULLS LAST
"""
_PART_CONFIG: Final = """
SELECT split_part(parent_table, '.', 2) AS relation,
       extract(epoch FROM retention::interval)::float8 / 86400 AS days, retention_keep_table AS keeps,
       premake, infinite_time_partitions AS always, automatic_maintenance AS maintained,
       ignore_default_data AS ignores_default
FROM {partman}.part_config WHERE split_part(parent_table, '.', 1) = :schema
"""
_DEFAULT_STARTS: Final = """
SELECT DISTINCT date_bin(make_interval(days => :days), {time}, :begin) AS start FROM {default}
WHERE isfinite({time}) ORDER BY 1
"""
_OLDER: Final = "SELECT EXISTS (SELECT FROM {full} WHERE {time} < now() - make_interval(days => :days))"
# Tables of other schemas of ours: each has all of these. One alone may be anybody's.
_OTHER_SCHEMAS: Final = """
SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname <> :schema AND c.relkind = 'r' AND c.relname = ANY(:names)
               GROUP BY n.oid HAVING count(*) = cardinality(CAST(:names AS text[])))
"""
_VIEWS: Final = """
SELECT c.relname AS name, c.relkind::text AS kind, md5(pg_get_viewdef(c.oid)) AS digest
FROM pg_class c WHERE c.relnamespace = to_regnamespace(:schema) AND c.relname = ANY(:names) AND c.relkind = 'v'
"""
# In some versions a job is of the view, in others of what it materialises into.
_AGGREGATES: Final = """
SELECT a.view_name AS name, NOT a.materialized_only AS real_time, j.job_id AS job, j.scheduled,
       extract(epoch FROM (j.config->>'start_offset')::interval)::float8 AS back,
       extract(epoch FROM (j.config->>'end_offset')::interval)::float8 AS until,
       extract(epoch FROM j.schedule_interval)::float8 AS every
FROM timescaledb_information.continuous_aggregates a LEFT JOIN timescaledb_information.jobs j
  ON j.proc_name = 'policy_refresh_continuous_aggregate' AND (j.hypertable_schema, j.hypertable_name) IN (
     (a.view_schema, a.view_name), (a.materialization_hypertable_schema, a.materialization_hypertable_name))
WHERE a.view_schema = :schema AND a.view_name = ANY(:names) ORDER BY j.job_id
"""
_ROLES: Final = """
SELECT r.rolname AS name, coalesce(shobj_description(r.oid, 'pg_authid'), '') AS comment,
       array_remove(ARRAY[CASE WHEN r.rolsuper THEN 'SUPERUSER' END, CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END,
           CASE WHEN r.rolcreatedb THEN 'CREATEDB' END, CASE WHEN r.rolreplication THEN 'REPLICATION' END,
           CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END], NULL) AS excess_attributes,
       coalesce((SELECT s.setconfig FROM pg_db_role_setting s WHERE s.setrole = r.oid AND s.setdatabase = 0),
                '{}') AS settings,
       has_database_privilege(r.oid, current_database(), 'CONNECT') AS can_connect,
       has_database_privilege(r.oid, current_database(), 'TEMPORARY') AS can_create_temporary,
       pg_has_role(d.datdba, 'USAGE') AS grantable,
       has_schema_privilege(r.oid, n.oid, 'USAGE') AS can_use_schema,
       EXISTS (SELECT FROM aclexplode(n.nspacl) a
               WHERE a.grantee = r.oid AND a.privilege_type = 'CREATE') AS can_create_tables,
       EXISTS (SELECT FROM pg_default_acl f, aclexplode(f.defaclacl) a
               WHERE f.defaclnamespace = n.oid AND f.defaclobjtype = 'r' AND a.grantee = r.oid
                 AND f.defaclrole = (SELECT oid FROM pg_roles WHERE rolname = current_user)
                 AND a.privilege_type = 'SELECT') AS reads_future_tables,
       ARRAY(SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v')
             AND NOT has_table_privilege(r.oid, c.oid, 'SELECT') ORDER BY 1) AS unreadable_tables
FROM pg_roles r, pg_namespace n, pg_database d
WHERE r.rolname = ANY(:names) AND n.nspname = :schema AND d.datname = current_database()
"""
_GRANTS: Final = """
SELECT r.rolname AS role, c.relname AS relation, array_agg(DISTINCT a.privilege_type) AS privileges
FROM pg_class c, aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee
WHERE c.relnamespace = to_regnamespace(:schema) AND c.relkind IN ('r', 'p', 'v') AND r.rolname = ANY(:names)
GROUP BY 1, 2
"""


def observe(
    connection: Connection, definition: SchemaDefinition, *, days: Mapping[str, int], logins: Mapping[str, str]
) -> DatabaseState:
    """Read the server, the owner, a schema and its logins in one transaction.

    Args:
        connection: Outside of a transaction.
        definition: The schema.
        days: Table → the desired retention; where another one is in force, the table is searched for older rows.
        logins: User → the name of the desired login.
    """
    schema = definition.name
    with connection.begin():
        server = facts(connection, schema)
        found = rows(connection, _RELATIONS, schema=schema, database_schema=owners.SCHEMA)
        relations = {row.name: row for row in found if row.schema == schema}
        shared = {row.name: row for row in found if row.schema == owners.SCHEMA}
        (moment,) = rows(connection, _MOMENT, schema=schema, database_schema=owners.SCHEMA)
        internal = {
            name: _readable_rows(connection, row)
            for names, existing in ((DATABASE_TABLES, shared), (SCHEMA_TABLES, relations))
            for name, row in existing.items()
            if name in names
        }
        owner, fence = _first(internal, "ownership"), _first(internal, "fence")
        revision, progress = _first(internal, "alembic_version"), _first(internal, "progress")
        venue = getattr(owner, "venue", None)  # earlier releases did not have the column
        return DatabaseState(
            now=moment.now,
            server=server,
            database_schema=moment.database_schema,
            database_tables=frozenset(DATABASE_TABLES.keys() & shared.keys()),
            schema=moment.schema,
            relations=frozenset(relations),
            owner=owner and owner.owner,
            owned_since=owner and owner.since,
            venue=venue,
            rows=venue is None and _may_hold_rows(connection, definition, relations),
            epoch=fence and fence.epoch,
            holder=fence.holder if fence else "",
            revision=revision and revision.version_num,
            progress=progress and Progress(revision=progress.revision, done=progress.done, digest=progress.digest),
            settings={row.name: row.value for row in internal.get("settings", ())},
            tables=_tables(connection, definition, relations),
            partitioning=_partitioning(connection, definition, server, relations, days),
            views=_views(connection, definition),
            aggregates=_aggregates(connection, definition, server),
            roles=_roles(connection, schema, logins, frozenset(relations)),
        )


def _readable_rows(connection: Connection, table: Row[Any]) -> Sequence[Row[Any]]:
    full = f"{table.schema}.{table.name}"
    if not table.readable:
        raise CatalogUnreadable(f"the login may not read the table {full}, which somebody else created")
    return rows(connection, f"SELECT * FROM {full}")


def _one(connection: Connection, sql: str, **values: Any) -> Any:
    return connection.execute(sqlalchemy.text(sql), values).scalar_one()


def _may_hold_rows(connection: Connection, definition: SchemaDefinition, relations: Mapping[str, Row[Any]]) -> bool:
    existing = [name for name in definition.growing if name in relations]
    if not all(relations[name].readable for name in existing):
        return True  # without the right to read them, they may have rows
    if _one(connection, _OTHER_SCHEMAS, schema=definition.name, names=list(SCHEMA_TABLES)):
        return True  # this definition does not say which of their tables hold data
    return any(_one(connection, f"SELECT EXISTS (SELECT FROM {definition.name}.{name})") for name in existing)


def _first(internal: Mapping[str, Sequence[Row[Any]]], name: str) -> Any:
    found = internal.get(name, ())
    return found[0] if found else None


def _tables(
    connection: Connection, definition: SchemaDefinition, relations: Mapping[str, Row[Any]]
) -> dict[str, LiveTable]:
    names = [name for name in definition.tables if name in relations]
    columns, constraints, indexes = (
        rows(connection, sql, schema=definition.name, names=names) for sql in (_COLUMNS, _CONSTRAINTS, _INDEXES)
    )
    return {
        name: LiveTable(
            name=name,
            columns=tuple(Column(row.name, row.type, row.required) for row in columns if row.relation == name),
            constraints={row.name: row.definition for row in constraints if row.relation == name},
            indexes={
                row.name: row.definition if row.valid else f"{row.definition} (invalid)"
                for row in indexes
                if row.relation == name
            },
            kind=relations[name].kind,
            size=int(relations[name].size),
        )
        for name in names
    }


def _partitioning(
    connection: Connection,
    definition: SchemaDefinition,
    server: ServerFacts,
    relations: Mapping[str, Row[Any]],
    days: Mapping[str, int],
) -> dict[str, Partitioning]:
    names = [name for name in definition.growing if name in relations]
    partitioned = [name for name in names if relations[name].kind == "p"]
    found = dict.fromkeys(names, Partitioning())
    if partitioned:
        found |= _by_partman(connection, definition, server, partitioned)
    if server.timescale.installed and len(partitioned) < len(names):
        found |= _by_timescale(connection, definition, [name for name in names if name not in partitioned])
    for name, one in found.items():
        if one.engine is None or one.effective_days == days[name]:
            continue
        readable = relations[name].readable
        # Without the right to read the rows, assume that there are older ones: then nothing is dropped.
        older = _OLDER.format(full=f"{definition.name}.{name}", time=definition.growing[name].time)
        has_older_rows = not readable or _one(connection, older, days=days[name])
        partitions = (
            tuple(_counted(connection, server, part) for part in one.partitions)
            if has_older_rows and readable
            else one.partitions
        )
        found[name] = replace(one, has_older_rows=has_older_rows, partitions=partitions)
    return found


def _by_partman(
    connection: Connection, definition: SchemaDefinition, server: ServerFacts, names: list[str]
) -> dict[str, Partitioning]:
    partitions = _grouped(rows(connection, _PARTITIONS, schema=definition.name, names=names))
    configs: dict[str, Row[Any]] = {}
    if server.partman.installed:
        part_config = _PART_CONFIG.format(partman=quoted(server.partman.schema))
        config_rows = rows(connection, part_config, schema=definition.name)
        configs = {row.relation: row for row in config_rows}
    found = {}
    for name in names:
        default = next((row.name for row in partitions.get(name, ()) if row.start is None), "")
        one = Partitioning(
            partitions=tuple(
                Partition(name=row.name, start=row.start, end=row.end, rows=row.rows if row.rows >= 0 else None)
                for row in partitions.get(name, ())
                if row.start is not None
            ),
            default=default,
        )
        if default and one.partitions:
            growing = definition.growing[name]
            bins = _DEFAULT_STARTS.format(default=default, time=growing.time)
            values = {"days": growing.partition_days, "begin": one.partitions[-1].end}
            one = replace(one, default_starts=tuple(row.start for row in rows(connection, bins, **values)))
        if name in configs:
            config = configs[name]
            one = replace(
                one,
                engine=Engine.PARTMAN,
                days=config.days,
                drops=not config.keeps,
                premake=config.premake,
                premakes_without_rows=config.always and config.maintained == "on",
                ignores_default=config.ignores_default,
            )
        found[name] = one
    return found


def _by_timescale(connection: Connection, definition: SchemaDefinition, names: list[str]) -> dict[str, Partitioning]:
    def read(sql: str) -> Sequence[Row[Any]]:
        return rows(connection, sql, schema=definition.name, names=names)

    hypertables = read(_HYPERTABLES)
    jobs, chunks = _grouped(read(_JOBS)), _grouped(read(_CHUNKS))
    shapes = _grouped(read(_COMPRESSION)) if any(one.compressed for one in hypertables) else {}
    found = {}
    for table in hypertables:
        name, growing = table.relation, definition.growing[table.relation]
        own = {row.name: row for row in jobs.get(name, ())}
        retention, compression = own.get("policy_retention"), own.get("policy_compression")
        found[name] = Partitioning(
            engine=Engine.TIMESCALE,
            days=retention and retention.days,
            compress_days=compression and compression.days,
            compressed={(row.segmentby, row.orderby) for row in shapes.get(name, ())}
            == {(growing.segment, f"{growing.time} DESC")},
            paused=tuple(sorted(row.name for row in own.values() if not row.scheduled)),
            partitions=tuple(Partition(name=row.name, start=row.start, end=row.end) for row in chunks.get(name, ())),
        )
    return found


def _grouped(found: Sequence[Row[Any]]) -> dict[str, list[Row[Any]]]:
    """Rows grouped by their relation."""
    grouped: dict[str, list[Row[Any]]] = {}
    for row in found:
        grouped.setdefault(row.relation, []).append(row)
    return grouped


def _rollup_names(definition: SchemaDefinition) -> list[str]:
    return [name for rollup in definition.rollups for name in (rollup.name, rollup.sums)]


def _views(connection: Connection, definition: SchemaDefinition) -> dict[str, View]:
    schema = definition.name
    found = rows(connection, _VIEWS, schema=schema, names=_rollup_names(definition))
    columns = _grouped(rows(connection, _COLUMNS, schema=schema, names=[row.name for row in found])) if found else {}
    return {
        row.name: View(
            kind=row.kind,
            columns=tuple(Column(one.name, one.type, one.required) for one in columns.get(row.name, ())),
            digest=row.digest,
        )
        for row in found
    }


def _aggregates(connection: Connection, definition: SchemaDefinition, server: ServerFacts) -> dict[str, Aggregate]:
    if not server.timescale.installed:
        return {}
    found: dict[str, Aggregate] = {}
    for row in rows(connection, _AGGREGATES, schema=definition.name, names=_rollup_names(definition)):
        one = found.get(row.name, Aggregate(real_time=row.real_time))
        if row.job is not None:
            policy = (row.back, row.until, row.every)
            one = replace(one, refreshed=(*one.refreshed, policy), paused=one.paused or not row.scheduled)
        found[row.name] = one
    return found


def _counted(connection: Connection, server: ServerFacts, part: Partition) -> Partition:
    """The partition with an estimate of its rows, which for a compressed chunk only TimescaleDB has."""
    if not server.timescale.installed or part.rows is not None:
        return part
    schema = quoted(server.timescale.schema)
    estimate = _one(connection, f"SELECT {schema}.approximate_row_count(to_regclass(:name))", name=part.name)
    return replace(part, rows=estimate or None)


def _roles(connection: Connection, schema: str, logins: Mapping[str, str], tables: frozenset[str]) -> dict[str, Role]:
    names = list(logins.values())
    found = {row.name: row for row in rows(connection, _ROLES, schema=schema, names=names)} if names else {}
    grants: dict[str, dict[str, frozenset[str]]] = {}
    for row in rows(connection, _GRANTS, schema=schema, names=list(found)) if found else ():
        grants.setdefault(row.role, {})[row.relation] = frozenset(row.privileges)
    return {
        user: Role(
            comment=found[name].comment,
            excess_attributes=tuple(found[name].excess_attributes),
            settings=dict(setting.split("=", maxsplit=1) for setting in found[name].settings),
            can_connect=found[name].can_connect,
            can_create_temporary=found[name].can_create_temporary,
            grantable=found[name].grantable,
            can_use_schema=found[name].can_use_schema,
            can_create_tables=found[name].can_create_tables,
            tables=tables,
            unreadable_tables=tuple(found[name].unreadable_tables),
            granted=grants.get(name, {}),
            reads_future_tables=found[name].reads_future_tables,
        )
        for user, name in logins.items()
        if name in found
    }
