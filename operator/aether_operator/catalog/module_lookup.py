"""Finds the module of a component in a package that has one module for each, named like its service."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_operator.catalog.components import Component


def load(package: str, needed: Mapping[Component, tuple[str, ...]]) -> dict[Component, Any]:
    """The module of each component, each with the names that it needs.

    Packages call this when they are imported: what is missing stops the operator's start and every test, not the first
    reconcile of a platform that has the component.

    Raises:
        ImportError: A module, or a name in it, does not exist.
    """
    found = {}
    for component, names in needed.items():
        module = importlib.import_module(f"{package}.{component.value}")
        if missing := [name for name in names if not hasattr(module, name)]:
            raise ImportError(f"{module.__name__} has no {' and no '.join(missing)}", name=module.__name__)
        found[component] = module
    return found
