"""What the repository's pages tell people to type, as values: blocks, lines, commands; and how each is tested.

A page is any Markdown file in Git. Its commands are the lines of its `sh` blocks, and what stands in backticks and
begins with a program's name. Of the latter those that show or remove something are run as well, where nothing is left
to the reader in them.
"""

from __future__ import annotations

import functools
import re
import shlex
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

TOP: Final = Path(__file__).resolve().parents[2]
GENERATED: Final = frozenset({"docs/reference/cli.md"})
"""Their lines are written by the program itself, and compared with it by another test."""
FENCE: Final = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
SPAN: Final = re.compile(r"`([^`]+)`")
ELLIPSIS: Final = "…"
"""From here on a page leaves to the reader what to type."""


class Way(StrEnum):
    """How a line is tested."""

    PLATFORM = "run on the platform that the end-to-end tests share"
    LAST = "run there when nothing else is"
    VENUE = "run against a simulated venue"
    PARSED = "its words are checked: it wants the internet, another cluster, or changes the machine"


WAYS: Final = {
    "make ": Way.PARSED,
    "docker ": Way.PARSED,
    "helm uninstall ": Way.LAST,
    "helm ": Way.PARSED,
    "aether up": Way.PARSED,
    "aether --install-completion": Way.PARSED,
    "kubectl -n aether port-forward": Way.PARSED,
    "POD_NAME=": Way.PARSED,
    "say": Way.VENUE,
    "curl ": Way.VENUE,
    "AETHER_INSTANCE=": Way.VENUE,
    "kubectl delete ": Way.LAST,
    "aether down": Way.LAST,
    "aether ": Way.PLATFORM,
    "kubectl ": Way.PLATFORM,
    "export ": Way.PLATFORM,
    "PGPASSWORD=": Way.PLATFORM,
}
"""How a line of a block begins → how it is tested. The first that fits counts; a line that none fits fails a test."""
OF_SENTENCES: Final = {
    "aether book ": Way.PLATFORM,
    "aether explain tp/": Way.PLATFORM,
    "aether logs c": Way.PLATFORM,
    "aether logs k": Way.PLATFORM,
    "aether status": Way.PLATFORM,
    "kubectl aether s": Way.PLATFORM,
    "kubectl delete ": Way.LAST,
    "kubectl edit ": Way.PLATFORM,
    "kubectl events ": Way.PLATFORM,
    "kubectl explain ": Way.PLATFORM,
    "kubectl get ": Way.PLATFORM,
}
"""The same of words in backticks; those that none fits are parsed."""
PLACEHOLDER: Final = re.compile(r"\b[A-Z]{4,}\b(?!/)|…")
"""What a reader replaces by a name."""
PROGRAMS: Final = (
    ".venv/bin/pytest",
    "aether", "apt-get", "cd", "curl", "docker", "go", "helm", "kubectl", "make", "modprobe", "mvn", "psql", "python",
    "python3",
)  # fmt: skip
"""What makes a command of words in backticks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One program with its words; `environ` are the variables that stand before it."""

    environ: dict[str, str]
    words: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing of it is left to the reader."""
        return not any(ELLIPSIS in word for word in self.words)

    @property
    def said(self) -> tuple[str, ...]:
        """Its words, up to what is left to the reader."""
        cut = next((nth for nth, word in enumerate(self.words) if ELLIPSIS in word), len(self.words))
        return self.words[:cut]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What a person types at once: a line with those that continue it, or words in backticks."""

    page: str
    line: int
    text: str
    in_block: bool

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"

    @property
    def way(self) -> Way | None:
        """How it is tested; nothing where nobody has decided that."""
        if not self.in_block and PLACEHOLDER.search(self.text):
            return Way.PARSED
        ways, otherwise = (WAYS, None) if self.in_block else (OF_SENTENCES, Way.PARSED)
        return next((way for begin, way in ways.items() if self.text.startswith(begin)), otherwise)

    @property
    def commands(self) -> list[Command]:
        """Its commands: of a pipe, a substitution and a sequence each."""
        reader = shlex.shlex(self.text, posix=True, punctuation_chars=True)
        reader.whitespace_split = True
        found: list[list[str]] = [[]]
        skipped = False
        for token in reader:
            if set(token) <= set("<>"):
                skipped = True  # what follows is a file
            elif set(token) <= set("();|&"):
                found.append([])
            elif skipped:
                skipped = False
            else:
                found[-1].append(token)
        return [command for words in found if (command := _command(words)).words]


def _command(words: list[str]) -> Command:
    environ: dict[str, str] = {}
    while words and (said := re.fullmatch(r"([A-Z_]+)=(.*)", words[0])):
        environ[said[1]] = said[2]
        words = words[1:]
    return Command(environ=environ, words=tuple(words))


@functools.cache
def pages() -> tuple[Path, ...]:
    """Every page that is in Git, or would be after the next `git add`."""
    words = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.md")
    listed = subprocess.run(words, cwd=TOP, capture_output=True, text=True, check=True, timeout=60).stdout
    found = sorted({TOP / name for name in listed.split("\0") if name and name not in GENERATED})
    return tuple(path for path in found if path.is_file())


def blocks(*languages: str) -> list[Block]:
    """The blocks of all pages in these languages; all blocks where none is named."""
    return [
        Block(
            page=str(path.relative_to(TOP)),
            line=text.count("\n", 0, found.start()) + 2,
            language=found["language"],
            text=re.sub(f"^{found['indent']}", "", found["text"], flags=re.MULTILINE),
        )
        for path in pages()
        for text in [path.read_text(encoding="utf-8")]
        for found in FENCE.finditer(text)
        if not languages or found["language"] in languages
    ]


def lines_of(block: Block) -> list[Line]:
    """The lines of a block, without comments."""
    found: list[Line] = []
    text = ""
    for number, line in enumerate(block.text.splitlines(), start=block.line):
        text += line
        if text.endswith("\\"):
            text = text.removesuffix("\\")
            continue
        bare = _without_comment(text)
        found += [Line(page=block.page, line=number, text=bare, in_block=True)] if bare else []
        text = ""
    return found


def _without_comment(text: str) -> str:
    """A line up to a `#` that begins a word outside of quotes."""
    quote = ""
    for nth, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter == "#" and (nth == 0 or text[nth - 1].isspace()):
            return text[:nth].strip()
    return text.strip()


def typed() -> list[Line]:
    """Every line of every block that a person types into a shell."""
    return [line for block in blocks("sh") for line in lines_of(block)]


def mentioned() -> list[Line]:
    """Every command in backticks; a program alone, or with one word, is a name and no command."""
    return [
        Line(page=str(path.relative_to(TOP)), line=text.count("\n", 0, found.start()) + 1, text=said, in_block=False)
        for path in pages()
        for text in [FENCE.sub(lambda block: "\n" * block[0].count("\n"), path.read_text(encoding="utf-8"))]
        for found in SPAN.finditer(text)
        for said in [" ".join(found[1].split())]
        if said.split()[0].lstrip("(") in PROGRAMS and len(said.split()) > 1
    ]
