"""What a plan consists of. Values only."""

# ruff: noqa: S608 - statements are made of quoted literals

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aether_operator.observed.reports import Drift


@dataclass(frozen=True, slots=True)
class Prepare:
    """Makes what the fence stands on; may be repeated by anybody."""

    statement: str


@dataclass(frozen=True, slots=True)
class Claim:
    """Takes the fence."""


@dataclass(frozen=True, slots=True)
class Write:
    """Statements of one transaction, behind the fence.

    `once`: it may leave things as they are, and is not tried twice in one visit. `optional`: where the login lacks the
    right, that is a warning.
    """

    what: str
    statements: tuple[str, ...]
    mends: tuple[Drift, ...] = ()
    once: bool = False
    optional: bool = False


Step = Prepare | Claim | Write


@dataclass(slots=True)
class Notes:
    """A plan in the making."""

    steps: list[Step] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    drift: list[Drift] = field(default_factory=list)
    """Only what is not mended by the steps."""
    lacking: list[str] = field(default_factory=list)
    """Rights that only a person can give, and without which the platform is not Ready."""
    warnings: list[str] = field(default_factory=list)


def literal(text: str) -> str:
    """A text as SQL writes it (with standard_conforming_strings, as the server has it since ever)."""
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A name as SQL writes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def remember(name: str, value: str) -> str:
    """Notes what we did, in the transaction that did it."""
    return (
        f"INSERT INTO aether.settings (name, value) VALUES ({literal(name)}, {literal(value)}) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    )
