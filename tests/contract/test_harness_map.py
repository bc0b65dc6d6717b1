"""The map of the harness and its modules: each is in it, and what it names exists."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from pathlib import Path

import aether_testing

PAGE = Path(aether_testing.__file__).with_name("README.md")
PACKAGES = {"api_proxy", "control_plane", "node"}
"""Named in the tables, and no module: a package and two fixtures."""


@functools.cache
def modules() -> dict[str, str]:
    """Name of a module in the harness → its dotted name."""
    found = pkgutil.walk_packages(aether_testing.__path__, "aether_testing.")
    names = [one.name for one in found if not one.ispkg]
    assert len({name.rpartition(".")[2] for name in names}) == len(names), "a module's name says which it is"
    return {name.rpartition(".")[2]: name for name in names}


def helpers() -> list[str]:
    """What the second column of the tables names."""
    rows = re.findall(r"^\|.*\|([^|]+)\|$", PAGE.read_text(), re.MULTILINE)
    return [span for row in rows for span in re.findall(r"`([^`]+)`", row) if span not in PACKAGES]


def test_map_names_every_module() -> None:
    assert modules().keys() - {name.partition(".")[0] for name in helpers()} == set()


def test_what_the_map_names_exists() -> None:
    for name in helpers():
        module, *path = name.split(".")
        assert module in modules(), name
        if path:  # a module alone may be a program: its import would run it
            functools.reduce(getattr, path, importlib.import_module(modules()[module]))
