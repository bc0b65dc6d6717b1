"""What commands print, and the line before it that says whose it is."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console

from aether_cli import cluster_reader, kubectl_client, problems

if TYPE_CHECKING:
    from aether_cli import targets

out = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print one value on standard output."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def heading(target: targets.Target, namespace: str = "") -> str:
    """The first line of an output about a whole cluster, with markup.

    Args:
        target: The cluster.
        namespace: Of whose platforms the line tells where those of all namespaces may not be read.
    """
    try:
        return target.heading(cluster_reader.list_platforms(target.kubectl))
    except kubectl_client.Forbidden:
        within = namespace or target.namespace
    except problems.ProgramFailed:  # no answer
        return target.heading(None)
    try:
        return target.heading(cluster_reader.list_platforms(target.kubectl, within), within=within)
    except problems.ProgramFailed:
        return target.heading(None)


def print_heading(line: str) -> None:
    """Say whose data follow: in a pipe or a file on standard error, so that what is read there is data alone."""
    (out if out.is_terminal else errors).print(line)
