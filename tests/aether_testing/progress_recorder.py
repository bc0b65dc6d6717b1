"""Who is told how far things are, and remembers it: for tests of what a person would see."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aether_cli import progress


@dataclass
class ProgressRecorder:
    """A teller, and its one step."""

    lines: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[progress.Step]:
        self.lines.append(title)
        yield self

    def update(self, done: int, total: int, what: str = "") -> None:
        self.lines.append(f"{done}/{total} {what}")

    def result(self, text: str) -> None:
        self.lines.append(text)

    def line(self, text: str) -> None:
        self.lines.append(text)
