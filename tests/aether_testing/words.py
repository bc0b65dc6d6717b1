"""The check of `make lint` on wording: words that only this project used, and test names that are too long.

pyproject.toml lists the words with what to write instead, `[tool.aether.words]`, and the exceptions with their reasons.
A word is found alone, in the plural, and as a part of an identifier: `gizmo` in `gizmos`, `next_gizmo` and `NextGizmo`.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

TOP: Final = Path(__file__).resolve().parents[2]
CHECKED: Final = ("*.py", "*.md", "*.yaml", "helm/**/templates/*")
PART: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
"""A word, or what snake_case and CamelCase join: `HTTPServer` has the parts `HTTP` and `Server`."""
MOST_WORDS: Final = 10
"""Of a test's name, after `test`."""


def unwanted(text: str, instead: Mapping[str, str], exempt: Collection[str] = ()) -> Iterator[tuple[int, str]]:
    """Each unwanted word of a text and its line, from 1.

    Args:
        text: What is checked.
        instead: Each unwanted word, and what to write for it.
        exempt: Identifiers and phrases in which the words may stand.
    """
    phrases = "|".join(map(re.escape, exempt)) or r"(?!)"
    permitted = re.compile(rf"(?<![a-z])(?:{phrases})(?![a-z])", re.IGNORECASE)
    for line, words in enumerate(text.splitlines(), start=1):
        for part in PART.findall(permitted.sub("", words)):
            word = part.lower()
            for found in {word, word.removesuffix("s")} & instead.keys():
                yield line, found


def long_test_names(source: str) -> Iterator[tuple[int, str]]:
    """Each test function of a module whose name has more than ten words, and its line."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("test_") and node.name.count("_") > MOST_WORDS:
            yield node.lineno, node.name


def findings() -> Iterator[str]:
    """One line for each finding in the files that are in Git: path, line, what is wrong."""
    settings = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["aether"]["words"]
    listed = subprocess.run(["git", "ls-files", "-z", "--", *CHECKED], cwd=TOP, capture_output=True, check=True)
    for name in listed.stdout.decode().rstrip("\0").split("\0"):
        path = TOP / name
        if name.startswith(tuple(settings["exempt_paths"])) or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8")
        for line, word in unwanted(text, settings["instead"], settings["exempt_phrases"]):
            yield f"{name}:{line}: for `{word}` write: {settings['instead'][word]}"
        if path.suffix == ".py":
            for line, test in long_test_names(text):
                yield f"{name}:{line}: {test} has more than {MOST_WORDS} words"


if __name__ == "__main__":
    found = list(findings())
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    sys.exit(bool(found))
