"""The errors of the command: each has a cause (one line), a remedy (one line or none) and an exit code."""

from __future__ import annotations

from typing import ClassVar


class AetherError(Exception):
    """An error with a cause in plain words.

    Args:
        cause: What happened; one line.
        remedy: What the user can do about it; one line, empty if there is nothing to do.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, cause: str, *, remedy: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.cause}\n{self.remedy}" if self.remedy else self.cause


class BadInput(AetherError):
    """An argument, an option or their combination is invalid."""

    exit_code = 2


class NotPossibleHere(AetherError):
    """The machine does not meet a requirement. Nothing was changed."""

    exit_code = 3


class NotRunning(AetherError):
    """There is no such cluster or context, it is not running, or it cannot be reached."""

    exit_code = 4


class NotReady(AetherError):
    """The cluster runs, but something in it is not ready, or did not become ready in time."""

    exit_code = 5


class ProgramFailed(AetherError):
    """A program that the command ran failed, was not found, or took too long."""


# The documented exit codes: docs/reference/exit-codes.md is compared with this table by a test.
EXIT_CODES = {
    0: "done",
    AetherError.exit_code: "an error; the first line says the cause",
    BadInput.exit_code: "the arguments are invalid",
    NotPossibleHere.exit_code: "this machine does not meet a requirement; nothing was changed",
    NotRunning.exit_code: "there is no such cluster or context, or it is not running or not reachable",
    NotReady.exit_code: "the cluster runs, but something in it is not ready",
}
