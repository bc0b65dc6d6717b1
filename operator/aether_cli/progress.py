"""Shows the progress of long commands on standard error: the current step, how far it is, how long it took."""

from __future__ import annotations

import contextlib
import textwrap
import time
from typing import TYPE_CHECKING, Protocol

from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from aether_cli.console import WordConsole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

BAR_COLUMNS, MIN_PROGRESS = 52, 20
"""Columns of a step's spinner, title, bar and time; the columns of its current item on a narrow terminal."""
LINE_INTERVAL = 10.0
"""Seconds between two lines about the same step where standard error is not a terminal."""


class Step(Protocol):
    """One step under way."""

    def update(self, done: int, total: int, what: str = "") -> None:
        """Show that `done` of `total` units are done; `what` names the unit or the current item."""
        ...

    def result(self, text: str) -> None:
        """Set the text that is shown when the step ends."""
        ...


class Reporter(Protocol):
    """Where a command reports its progress."""

    def step(self, title: str) -> contextlib.AbstractContextManager[Step]:
        """Begin a step; it ends, and its duration is shown, when the context ends."""
        ...

    def line(self, text: str) -> None:
        """Print one line."""
        ...


class _TerminalStep:
    def __init__(self, reporter: TerminalReporter, title: str) -> None:
        self._reporter = reporter
        self._title = title
        self.outcome = ""
        self._bar: Progress | None = None
        self._last_line = time.monotonic()
        if reporter.console.is_terminal:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[progress]}"),
                TimeElapsedColumn(),
                console=reporter.console,
                transient=True,
            )
            self._task = self._bar.add_task(title, total=None, progress="")
            self._bar.start()

    def update(self, done: int, total: int, what: str = "") -> None:
        progress = f"{done}/{total} {what}"
        if self._bar is not None:
            columns = max(MIN_PROGRESS, self._reporter.console.width - BAR_COLUMNS)
            shown = textwrap.shorten(progress, columns, placeholder=" …")
            self._bar.update(self._task, completed=done, total=total, progress=escape(shown))
        elif time.monotonic() - self._last_line > LINE_INTERVAL:
            self._last_line = time.monotonic()
            self._reporter.line(f"  {self._title}: {progress}")

    def result(self, text: str) -> None:
        self.outcome = text

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


class TerminalReporter:
    """Progress bars on a terminal; elsewhere (a log, CI) a line every `LINE_INTERVAL` seconds."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or WordConsole(stderr=True, highlight=False, soft_wrap=True)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        started = time.monotonic()
        step = _TerminalStep(self, title)
        mark = "[red]✗[/]"
        try:
            yield step
            mark = "[green]✓[/]"
        finally:
            step.close()
            seconds = time.monotonic() - started
            self.console.print(f"{mark} {escape(title):<14} {escape(step.outcome):<52} {seconds:6.1f} s")

    def line(self, text: str) -> None:
        self.console.print(escape(text))


class _QuietStep:
    def update(self, done: int, total: int, what: str = "") -> None:
        pass

    def result(self, text: str) -> None:
        pass


class SilentReporter:
    """Shows nothing."""

    def step(self, title: str) -> contextlib.AbstractContextManager[Step]:  # noqa: ARG002 - the port's shape
        return contextlib.nullcontext(_QuietStep())

    def line(self, text: str) -> None:
        pass
