"""Running other programs."""

from __future__ import annotations

import pytest

from aether_cli import problems, processes


def test_failure_quotes_the_last_output() -> None:
    with pytest.raises(problems.ProgramFailed, match="sh ended with 3: because of this"):
        processes.run(["sh", "-c", "echo first >&2; echo because of this >&2; exit 3"])


def test_missing_program_is_named() -> None:
    with pytest.raises(problems.ProgramFailed, match="no-such-program: not found on this machine"):
        processes.run(["no-such-program"])


@pytest.mark.parametrize("streaming", [False, True], ids=["captured", "streaming"])
def test_a_program_that_takes_too_long_is_ended(streaming: bool) -> None:  # noqa: FBT001 - a parameter of a table
    with pytest.raises(problems.ProgramFailed, match=r"sleep (took longer than 0.2 s|ended with -9)"):
        processes.run(["sleep", "60"], deadline=0.2, on_line=print if streaming else None)


def test_output_lines_are_reported_as_they_come() -> None:
    lines: list[str] = []
    processes.run(["sh", "-c", "echo one; echo two >&2"], on_line=lines.append)
    assert lines == ["one", "two"]
