"""What can go wrong, as a person is told it: one line of cause, one line of what to do, one exit code."""

from __future__ import annotations

from typing import ClassVar


class AetherError(Exception):
    """A fault with a cause in plain words.

    Args:
        cause: What happened; one line.
        remedy: What the person can do about it; one line, or nothing where there is nothing to do.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, cause: str, *, remedy: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.cause}\n{self.remedy}" if self.remedy else self.cause


class BadInput(AetherError):
    """What was asked for cannot be: a name, an option, a combination."""

    exit_code = 2


class NotPossibleHere(AetherError):
    """The machine lacks something. Nothing was changed."""

    exit_code = 3


class NotRunning(AetherError):
    """There is no cluster to do this with."""

    exit_code = 4


class NotReady(AetherError):
    """It did not become, or is not, as it should be."""

    exit_code = 5


class ProgramFailed(AetherError):
    """A program we ran ended with an error."""


# The documented exit codes: docs/reference/exit-codes.md is compared with this table by a test.
EXIT_CODES = {
    0: "done",
    AetherError.exit_code: "a fault; the first line says the cause",
    BadInput.exit_code: "the command was called in a way it cannot be",
    NotPossibleHere.exit_code: "this machine lacks something; nothing was changed",
    NotRunning.exit_code: "there is no such cluster or context, or it is not running, or not reached",
    NotReady.exit_code: "the cluster runs, but something in it is not as it should be",
}
