"""Alembic's migrations as what they are made of: an ordered list of statements. Reads the package; knows no database.

Alembic orders the revisions and renders their operations; it does not run them. `migrating` carries each statement
out in a transaction with the note that it was, which Alembic's own runner cannot: a process that is killed between
two of them goes on at the next.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

if TYPE_CHECKING:
    from aether_operator.observed.reports import Engine

FOLDER: Final = Path(__file__).parent / "migrations"


class Unknown(Exception):
    """A revision that this program does not have: a newer one made the schema."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One revision's statements."""

    revision: str
    statements: tuple[str, ...]

    def digest(self, done: int) -> str:
        """Tells whether the first statements, which are done, are still those of this program."""
        return hashlib.sha256("\n".join(self.statements[:done]).encode()).hexdigest()


class _Statements(io.TextIOBase):
    """Alembic writes each statement at once, and empty lines."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def write(self, text: str, /) -> int:
        if text.strip():
            self.found.append(text.strip().rstrip(";"))
        return len(text)


@dataclass(frozen=True, slots=True)
class Revisions:
    """The migrations of a folder."""

    folder: Path = FOLDER

    def _script(self) -> ScriptDirectory:
        return ScriptDirectory(str(self.folder))

    @property
    def head(self) -> str:
        """The newest revision."""
        (head,) = self._script().get_heads()
        return head

    def after(self, current: str | None, engine: Engine) -> tuple[Migration, ...]:
        """What leads from a revision to the newest.

        Raises:
            Unknown: This program does not have that revision.
        """
        script = self._script()
        if current is not None and not self._knows(script, current):
            raise Unknown(current)
        steps = list(script.iterate_revisions("heads", current or "base"))
        return tuple(self._rendered(step.revision, step.module, engine) for step in reversed(steps))

    def knows(self, revision: str) -> bool:
        """Whether this program has a revision."""
        return self._knows(self._script(), revision)

    @staticmethod
    def _knows(script: ScriptDirectory, revision: str) -> bool:
        # Alembic would take the beginning of a name for the whole.
        return revision in {one.revision for one in script.walk_revisions()}

    @staticmethod
    def _rendered(revision: str, module: Any, engine: Engine) -> Migration:
        written = _Statements()
        context = MigrationContext.configure(
            dialect_name="postgresql",
            opts={"as_sql": True, "output_buffer": written, "literal_binds": True, "engine": engine},
        )
        with Operations.context(context):
            module.upgrade()
        return Migration(revision=revision, statements=tuple(written.found))
