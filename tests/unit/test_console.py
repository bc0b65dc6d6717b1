"""Lines folded between words."""

from __future__ import annotations

import io

import pytest
from rich.console import Group
from rich.text import Text

from aether_cli.console import ShellCommand, WordConsole, fold


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("a line of words", ["a line of", "  words"]),
        ("  indented words fold", ["  indented", "    words", "    fold"]),
        ("averylongword stays", ["averylongword", "  stays"]),
        ("and averylongword", ["and", "  averylongword"]),
        ("1234567890", ["1234567890"]),
        ("two\n\nlines", ["two", "", "lines"]),
        ("", [""]),
    ],
)
def test_lines_are_folded_between_words(text: str, folded: list[str]) -> None:
    assert fold(Text(text), 10).plain.split("\n") == folded


def printed(*, terminal: bool, shown: object) -> str:
    file = io.StringIO()
    console = WordConsole(file=file, force_terminal=terminal, width=20, color_system=None, soft_wrap=True)
    console.print(shown)
    return file.getvalue()


def test_lines_in_a_pipe_are_not_folded() -> None:
    assert printed(terminal=False, shown="a line of more than twenty columns") == "a line of more than twenty columns\n"


def test_folded_command_is_one_command_for_a_shell() -> None:
    command = ShellCommand("kubectl create secret generic x")
    assert printed(terminal=True, shown=command) == "kubectl create \\\n  secret generic x\n"


def test_texts_in_a_group_are_folded_with_their_style() -> None:
    text = Text.from_markup("[bold]words that are[/] folded")
    assert printed(terminal=True, shown=Group(text, text)) == "words that are\n  folded\n" * 2
    assert {span.style for span in fold(text, 8).spans} == {"bold"}
