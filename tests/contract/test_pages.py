"""Every command on every page: it is run by a test, or its program accepts its words.

What takes a cluster is in `tests/cluster/test_pages.py`, and what is run on a platform in `tests/e2e/test_up.py`.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest
import typer.main

from aether_cli import app
from aether_operator.controllers import operator_config
from aether_services import __main__ as program
from aether_testing.processes import venues
from aether_testing.values import pages
from aether_testing.values.pages import TOP, Command, Line, Way

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

PLACEHOLDERS: Final = {"ROOM": "ingest", "SERVICE": "ingest", "VERSION": "1"}
"""Placeholder → its value here."""
ON_A_CLUSTER: Final = frozenset({"helm", "kubectl"})
"""Checked by the programs themselves, in `tests/cluster/test_pages.py`."""
ON_NAMESPACES: Final = frozenset(
    {"delete", "describe", "edit", "events", "exec", "get", "logs", "patch", "port-forward", "scale", "wait"}
    | {"aether book", "aether explain"}
)
"""kubectl verbs for namespaced objects, except those of ON_THE_CLUSTER."""
ON_THE_CLUSTER: Final = frozenset({"crd", "namespace", "validatingadmissionpolicybinding,validatingadmissionpolicy"})
OF_THE_MACHINE: Final[dict[str, set[tuple[str, ...]]]] = {
    "apt-get": {("install",)},
    "cd": {("/tmp/jars",)},  # noqa: S108 - a documented path; nothing is done there
    "go": {("build",), ("mod", "tidy"), ("mod", "download", "-json")},
    "kind": {("create", "cluster"), ("load", "docker-image")},
    "modprobe": {("overlay",)},
    "mvn": {("-Djars=/tmp/jars", "dependency:copy-dependencies")},
    "sha256sum": {("*.jar",)},
}
"""Programs that a test can neither run nor query → the permitted first words."""


def parse_aether(program: typer.Typer, words: Sequence[str]) -> None:
    """Parse words by the command's own parser."""
    group: Any = typer.main.get_command(program)
    if words[0].startswith("-"):  # these act during parsing
        assert words[0] in {option for one in group.params for option in one.opts}, words[0]
        return
    at = group.make_context("aether", list(words))
    rest = [*at._protected_args, *at.args]  # noqa: SLF001 - where the library keeps what comes after its own options
    name, command, rest = group.resolve_command(at, rest)
    if rest:  # a program alone is a name in a sentence
        command.make_context(name, rest, parent=at)


def check_aether(command: Command) -> None:
    parse_aether(app.app, command.literal_words[1:])


def check_kubectl(command: Command) -> None:
    _, first, *rest = command.literal_words
    if first == "aether" and rest:  # the others are in tests/cluster/test_pages.py
        assert rest[0] not in app.ABSENT_COMMANDS
        parse_aether(app.plugin, rest)


def check_make(command: Command) -> None:
    targets = re.findall(r"^([a-z-]+(?: [a-z-]+)*):(?!=)", (TOP / "Makefile").read_text(), re.MULTILINE)
    known = {one for line in targets for one in line.split()}
    for word in command.literal_words[1:]:
        name, given, value = word.partition("=")
        stem = value.replace("-", "_")
        if not given:
            assert word in known, f"no target {word}"
        elif name == "B":
            assert (TOP / f"tests/bench/{stem}.py").is_file() or list((TOP / "tests/bench/peers").glob(f"*{stem}*")), (
                word
            )
        elif name == "NAME":
            assert list((TOP / "tests/campaign").glob(f"test_{stem}*.py")), f"no campaign {value}"
        else:
            assert name == "VERSION", f"no variable {name}"


def check_python(command: Command) -> None:
    _, option, module, *rest = command.literal_words
    assert option == "-m"
    assert importlib.util.find_spec(f"{module}.__main__") is not None
    if module == "aether_services":
        assert {PLACEHOLDERS.get(word, word) for word in rest} <= set(program.SERVICES)
    else:
        assert module == "aether_operator"
        assert operator_config.identity({"KUBECONFIG": "", **command.environ}) if command.environ else True
        assert all(word in help_of(module) for word in rest if word.startswith("-"))


@functools.cache
def help_of(module: str) -> str:
    """A program's help text; cached, since starting it takes seconds."""
    command = [sys.executable, "-m", module, "--help"]
    env = {"PATH": os.environ["PATH"]}
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=env).stdout


def check_docker(command: Command) -> None:
    _, verb, *rest = command.literal_words
    assert verb == "build"
    context, options = rest[-1], dict(zip(rest[:-1:2], rest[1:-1:2], strict=True))
    assert options.keys() <= {"-t", "-f", "--build-arg"}
    dockerfile = TOP / options.get("-f", f"{context}/Dockerfile")
    assert (TOP / context).is_dir()
    argument = options.get("--build-arg", "").partition("=")[0]
    assert not argument or re.search(rf"^ARG {argument}=", dockerfile.read_text(), re.MULTILINE)
    assert dockerfile.is_file()


def check_pytest(command: Command) -> None:
    folder, *rest = command.literal_words[1:]
    assert (TOP / folder).is_dir()
    assert not rest or (rest[0] == "-k" and rest[1:])


def check_machine(command: Command) -> None:
    program, *rest = command.literal_words
    assert any(tuple(rest[: len(known)]) == known for known in OF_THE_MACHINE[program]), rest


CHECKS: Final[dict[str, Callable[[Command], None]]] = {
    ".venv/bin/pytest": check_pytest,
    "aether": check_aether,
    "docker": check_docker,
    "kubectl": check_kubectl,
    "make": check_make,
    "python": check_python,
    "python3": check_python,
    **dict.fromkeys(OF_THE_MACHINE, check_machine),
}


@pytest.fixture
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the file of values that commands name."""
    (tmp_path / "values.yaml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_commands_on_pages_are_in_command_blocks() -> None:
    assert len(pages.typed()) > 50
    assert len(pages.mentioned()) > 50
    astray = [
        f"{block.page}:{block.line}: {line}"
        for block in pages.blocks()
        if block.language != "sh"
        for line in block.text.splitlines()
        if re.match(rf"(\$ )?({'|'.join(pages.PROGRAMS)}) [a-z-]", line)
    ]
    assert astray == [], "a command stands in a block that is not sh"


def test_every_documented_line_has_a_way_to_test_it() -> None:
    assert [str(line) for line in pages.typed() if line.way is None] == []
    assert {line.way for line in pages.typed()} == set(Way)


def test_every_program_with_checked_words_has_a_check() -> None:
    parsed = [line for line in [*pages.typed(), *pages.mentioned()] if line.way is Way.PARSED]
    named = {command.words[0] for line in parsed for command in line.commands}
    assert named <= CHECKS.keys() | ON_A_CLUSTER


@pytest.mark.usefixtures("in_an_empty_folder")
def test_documented_commands_use_only_words_their_program_knows() -> None:
    faults = []
    for line in [*pages.typed(), *pages.mentioned()]:
        for command in line.commands:
            if (check := CHECKS.get(command.words[0])) is not None:
                try:
                    check(command)
                except Exception as fault:  # noqa: BLE001 - all errors are shown at once
                    faults.append(f"{line}\n    {fault}")
    assert faults == [], "\n".join(faults)


@pytest.mark.parametrize(
    "text",
    [
        "aether stats", "kubectl aether up --x", "kubectl aether status --name x",
        "aether status --contxt x", "aether book BTC/USD --depth many", "aether up --values gone.yaml",
        "make tset", "make bench B=nothing", "make campaign NAME=nothing", "python -m aether_services nothing",
        "python -m aether_operator --confg x", "docker build images/nothing", "docker build -q x images/base",
        "go get x", "kind load x", "modprobe other",
    ],
)  # fmt: skip
@pytest.mark.usefixtures("in_an_empty_folder")
def test_unknown_word_of_a_program_is_detected(text: str) -> None:
    (command,) = Line(page="", line=0, text=text, in_block=True).commands
    with pytest.raises(Exception, match=r".*") as fault:
        CHECKS[command.words[0]](command)
    assert not isinstance(fault.value, KeyError | AttributeError | TypeError)


def without_a_namespace(line: Line) -> bool:
    """Whether a kubectl command would use namespaced objects of the namespace `default`."""
    for command in line.commands:
        verbs = 3 if command.literal_words[1:2] == ("aether",) else 2
        things = {word for word in command.literal_words[verbs:] if not word.startswith("-")}
        named = line.in_block or len(things) > 1 or any("/" in word for word in things)
        verb = " ".join(command.literal_words[1:verbs])
        namespaced = command.literal_words[0] == "kubectl" and verb in ON_NAMESPACES and not ON_THE_CLUSTER & things
        if named and namespaced and not re.search(r" (-n|-A|-f|--namespace|--all-namespaces)\b", line.text):
            return True
    return False


def test_kubectl_commands_name_the_namespace_they_read() -> None:
    assert [str(line) for line in [*pages.typed(), *pages.mentioned()] if without_a_namespace(line)] == []


@pytest.mark.parametrize(
    ("text", "in_block", "lacks"),
    [
        ("kubectl events --for tp/paper", False, True),
        ("kubectl patch tp paper --type=merge", False, True),
        ("kubectl aether book BTC/USD", True, True),
        ("kubectl get aether", True, True),
        ("kubectl get aether", False, False),
        ("kubectl get aether -A", True, False),
        ("kubectl delete crd tradingplatforms.trading.aether.io", True, False),
        ("aether book BTC/USD", True, False),
        ("kubectl explain tp.spec", True, False),
    ],
)
def test_line_without_a_namespace_is_detected(text: str, in_block: bool, lacks: bool) -> None:  # noqa: FBT001
    assert without_a_namespace(Line(page="", line=0, text=text, in_block=in_block)) is lacks


def test_line_is_parsed_as_a_shell_would() -> None:
    block = pages.Block(
        page="p", line=4, language="sh",
        text="A=1 B=$(x -o '{#}' | y) \\\n  z 'a b' > file   # c\n# nothing\n(cd q && w) &\n",
    )  # fmt: skip
    first, second = pages.lines_of(block)
    assert (first.line, second.line) == (5, 7)
    assert [command.words for command in first.commands] == [("x", "-o", "{#}"), ("y",), ("z", "a b")]
    assert first.commands[0].environ == {}
    assert [command.words for command in second.commands] == [("cd", "q"), ("w",)]


def test_unclassified_line_has_no_way() -> None:
    assert Line(page="", line=0, text="rm -rf x", in_block=True).way is None


def test_simulated_venue_page_commands_work(tmp_path: Path) -> None:
    lines = [line for line in pages.typed() if line.way is Way.VENUE]
    (start,) = [line for line in lines if line.text.startswith("AETHER_INSTANCE=")]
    (command,) = start.commands
    assert command.words == ("python", "-m", "aether_services", "exchange_sim")
    settings: dict[str, Any] = {name.removeprefix("AETHER_").lower(): value for name, value in command.environ.items()}
    with venues.venue(tmp_path, **settings) as venue:
        script = "\n".join(line.text for line in lines if line is not start).replace("8001", str(venue.admin_port))
        # As documented, except that an HTTP error is an error.
        strict = f'set -eu\ncurl() {{ command curl --fail "$@"; echo; }}\n{script}\n'
        done = subprocess.run(["sh", "-c", strict], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"checksum book BTC/USD":3' in done.stdout
