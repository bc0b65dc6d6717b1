"""A progress reporter that records what it is given, for tests of what a user would see."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aether_cli import progress


@dataclass
class ProgressRecorder:
    """A `progress.Reporter`, and at the same time its only `Step`; `lines` has every text in order."""

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
