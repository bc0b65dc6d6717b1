"""The command-line options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from aether_cli.local import manifests, paths

DEFAULT: Final = paths.DEFAULT
Name = Annotated[str, typer.Option("--name", envvar="AETHER_CLUSTER", help="The local cluster's name.")]
Context = Annotated[
    str, typer.Option("--context", help="A context of your own kubeconfig, instead of the local cluster.")
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig",
        help="A kubeconfig file; its current context, unless --context is given.",
        exists=True,
        dir_okay=False,
    ),
]
Namespace = Annotated[
    str,
    typer.Option("--namespace", "-n", help=f"The namespace; by default the context's, or {manifests.NAMESPACES[1]}."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
