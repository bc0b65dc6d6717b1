"""Printing: the two consoles, JSON, and the heading that names the cluster and the venue of what follows."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from aether_cli import cluster_reader, kubectl_client, problems
from aether_cli.console import WordConsole
from aether_operator.api.platform_definition import DEFINITION as PLATFORM

if TYPE_CHECKING:
    from aether_cli import targets

out = WordConsole(highlight=False, soft_wrap=True)
errors = WordConsole(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print one value on standard output."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def heading(target: targets.Target, namespace: str = "") -> str:
    """The first line of an output about a whole cluster, with markup: the cluster and the venue of each platform.

    Args:
        target: The cluster.
        namespace: Whose platforms to name where the user may not list those of all namespaces; by default the
            target's.
    """
    try:
        return target.heading(cluster_reader.list_objects(target.kubectl, PLATFORM))
    except kubectl_client.Forbidden:
        within = namespace or target.namespace
    except problems.ProgramFailed:  # no response
        return target.heading(None)
    try:
        return target.heading(cluster_reader.list_objects(target.kubectl, PLATFORM, within), within=within)
    except problems.ProgramFailed:
        return target.heading(None)


def print_heading(line: str) -> None:
    """Print a heading: on a terminal to standard output, else to standard error, so that a pipe gets data alone."""
    (out if out.is_terminal else errors).print(line)
