"""The steps of a plan, and SQL quoting. Values only."""

# ruff: noqa: S608 - statements are made of quoted literals

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aether_operator.observed.reports import Drift


@dataclass(frozen=True, slots=True)
class Prepare:
    """A statement that creates what the fence needs, such as its table; any process may repeat it."""

    statement: str


@dataclass(frozen=True, slots=True)
class Claim:
    """Take the fence."""


@dataclass(frozen=True, slots=True)
class Write:
    """Statements of one transaction that also checks the fence.

    `what` names the step in messages; `repairs` is the drift that it repairs. A step with `once` may have no visible
    effect, and is executed once per reconcile. Of an `optional` step a missing right is only a warning.
    """

    what: str
    statements: tuple[str, ...]
    repairs: tuple[Drift, ...] = ()
    once: bool = False
    optional: bool = False


Step = Prepare | Claim | Write


@dataclass(slots=True)
class PlanBuilder:
    """Collects the steps and findings of a plan."""

    steps: list[Step] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    drift: list[Drift] = field(default_factory=list)
    """Only drift that no step repairs."""
    blockers: list[str] = field(default_factory=list)
    """Rights that only a person can grant, and without which the platform is not Ready."""
    warnings: list[str] = field(default_factory=list)


LOCK_DATABASE: Final = f"SELECT pg_advisory_xact_lock({int.from_bytes(b'database')})"
"""The first statement of a transaction that creates what a database has once: schemas have locks of their own."""


def literal(text: str) -> str:
    """A text as an SQL literal (with standard_conforming_strings, the server's default)."""
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def record_setting(schema: str, name: str, value: str) -> str:
    """A statement that records what a step did in a schema; it belongs in the step's transaction."""
    return (
        f"INSERT INTO {schema}.settings (name, value) VALUES ({literal(name)}, {literal(value)}) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    )
