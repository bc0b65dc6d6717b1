"""Code that operator and services both need, without importing each other, is identical in both."""

from __future__ import annotations

import ast
import inspect
from typing import TYPE_CHECKING, Any

import pytest

from aether_operator.controllers import health, logs
from aether_operator.observed import network_errors, secrecy
from aether_services.kit import http_server
from aether_services.kit import logs as kit_logs
from aether_services.kit import network_errors as kit_network_errors
from aether_services.kit import secrecy as kit_secrecy

if TYPE_CHECKING:
    from types import ModuleType


def meaning(module: ModuleType, name: str) -> Any:
    """A value, or the code of a function without its docstring."""
    found = getattr(module, name)
    if not inspect.isfunction(found):
        return found
    (function,) = ast.parse(inspect.getsource(found)).body
    assert isinstance(function, ast.FunctionDef)
    if ast.get_docstring(function):
        del function.body[0]
    return ast.dump(function)


@pytest.mark.parametrize(
    ("one", "other", "names"),
    [
        (secrecy, kit_secrecy, ("quotes", "_has", "_forms", "_plain", "PIECE", "_ARMOUR")),
        (logs, kit_logs, ("trace", "_describe", "_event", "_log_uncaught", "MAX_DEPTH", "_HEAD", "_LIBRARY_PATHS")),
        (health, http_server, ("listening_sockets",)),
        (network_errors, kit_network_errors, ("describe", "describe_text", "_BY_ERRNO", "_BY_CLASS", "_BY_TEXT")),
    ],
    ids=["secrecy", "traces", "listening", "network errors"],
)
def test_operator_and_services_share_identical_copies(
    one: ModuleType, other: ModuleType, names: tuple[str, ...]
) -> None:
    for name in names:
        assert meaning(one, name) == meaning(other, name), name
