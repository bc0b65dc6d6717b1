"""Alembic's migrations as ordered lists of SQL statements. Reads the package; connects to no database.

Alembic orders the revisions and renders their operations; it does not run them. `migrator` executes each statement in
a transaction that also records its progress, which Alembic's own runner cannot do: a process that is killed between two
statements resumes at the next.
"""

from __future__ import annotations

import hashlib
import io
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

if TYPE_CHECKING:
    from aether_operator.catalog.schemas import SchemaDefinition
    from aether_operator.observed.reports import Engine

FOLDER: Final = Path(__file__).parent / "migrations"
"""A folder for each tree of migrations."""


_RENDERING: Final = threading.Lock()
"""Alembic's `op` is one object for the whole process, and schemas are changed in several threads."""


class Unknown(Exception):
    """A revision that this release does not have: a newer release created the schema."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One revision's statements."""

    revision: str
    statements: tuple[str, ...]

    def digest(self, done: int) -> str:
        """Hash of the first `done` statements: tells whether an interrupted migration was this release's."""
        return hashlib.sha256("\n".join(self.statements[:done]).encode()).hexdigest()


class _Statements(io.TextIOBase):
    """Collects statements: Alembic writes each one with a single call, and empty lines between."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def write(self, text: str, /) -> int:
        if text.strip():
            self.found.append(text.strip().rstrip(";"))
        return len(text)


@dataclass(frozen=True, slots=True)
class Revisions:
    """The migrations of a schema."""

    definition: SchemaDefinition

    def _script(self) -> ScriptDirectory:
        return ScriptDirectory(str(FOLDER / self.definition.migrations))

    @property
    def head(self) -> str:
        """The newest revision."""
        (head,) = self._script().get_heads()
        return head

    def after(self, current: str | None, engine: Engine) -> tuple[Migration, ...]:
        """The migrations from a revision to the newest.

        Raises:
            Unknown: This release does not have that revision.
        """
        script = self._script()
        if current is not None and not self._knows(script, current):
            raise Unknown(current)
        steps = list(script.iterate_revisions("heads", current or "base"))
        return tuple(self._rendered(step.revision, step.module, engine) for step in reversed(steps))

    def knows(self, revision: str) -> bool:
        """Whether this release has a revision."""
        return self._knows(self._script(), revision)

    @staticmethod
    def _knows(script: ScriptDirectory, revision: str) -> bool:
        # Alembic's own lookup also accepts the beginning of a name.
        return revision in {one.revision for one in script.walk_revisions()}

    def _rendered(self, revision: str, module: Any, engine: Engine) -> Migration:
        written = _Statements()
        # A tree that several schemas share reads the schema's name from the options.
        ours = {"engine": engine, "schema": self.definition.name}
        context = MigrationContext.configure(
            dialect_name="postgresql",
            opts={"as_sql": True, "output_buffer": written, "literal_binds": True, **ours},
        )
        with _RENDERING, Operations.context(context):
            module.upgrade()
        return Migration(revision=revision, statements=tuple(written.found))
