"""Runs other programs with a deadline; when one fails, the last line of its output is the error's cause."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from aether_cli import problems

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

DEFAULT_DEADLINE = 120.0


def last_line(text: str) -> str:
    """The last line of a program's output that is not blank, at most 400 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:400] if lines else "it printed nothing"


def run(  # noqa: PLR0913 - each is a plain property of a child process
    command: Sequence[str | Path],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    deadline: float = DEFAULT_DEADLINE,
    on_line: Callable[[str], None] | None = None,
) -> str:
    """Run a program to its end and return its standard output; with `on_line`, both of its streams.

    Args:
        command: Program and arguments; never goes through a shell.
        stdin: Text for its standard input.
        env: Variables set on top of our own.
        cwd: Its working directory.
        deadline: Seconds it may take.
        on_line: Called with each line of both streams as it comes.

    Raises:
        ProgramFailed: The program was not found, ended with an error, or took too long.
    """
    words = [str(word) for word in command]
    program = Path(words[0]).name
    try:
        if on_line is None:
            done = subprocess.run(
                words,
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                text=True,
                errors="replace",
                env={**os.environ, **(env or {})},
                cwd=cwd,
                timeout=deadline,
                check=False,
            )
            out, err, code = done.stdout, done.stderr, done.returncode
        else:
            out, err, code = _run_streaming(words, env or {}, cwd, on_line, deadline)
    except FileNotFoundError as missing:
        raise problems.ProgramFailed(f"{program}: not found on this machine") from missing
    except subprocess.TimeoutExpired as late:
        raise problems.ProgramFailed(f"{program} took longer than {deadline:g} s") from late
    if code:
        raise problems.ProgramFailed(f"{program} ended with {code}: {last_line(err or out)}")
    return out


def _run_streaming(
    words: list[str], env: Mapping[str, str], cwd: Path | None, on_line: Callable[[str], None], deadline: float
) -> tuple[str, str, int]:
    """Run a long program and pass on its lines; returns the last 21, twice, and the exit code."""
    tail: list[str] = []
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **env},
        cwd=cwd,
    ) as child:
        ending = threading.Timer(deadline, child.kill)
        ending.start()
        try:
            for line in child.stdout or ():
                tail = [*tail[-20:], line]
                on_line(line.rstrip())
            code = child.wait()
        finally:
            ending.cancel()
            child.kill()
    text = "".join(tail)
    return text, text, code
