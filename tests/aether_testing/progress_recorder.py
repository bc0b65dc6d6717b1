"""Who is told how far things are, and remembers it: for tests of what a person would see."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aether_cli import progress


@dataclass
class Listener:
    """A teller, and its one step."""

    told: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[progress.Step]:
        self.told.append(title)
        yield self

    def at(self, done: int, total: int, what: str = "") -> None:
        self.told.append(f"{done}/{total} {what}")

    def result(self, text: str) -> None:
        self.told.append(text)

    def line(self, text: str) -> None:
        self.told.append(text)
