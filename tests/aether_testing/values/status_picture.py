"""A terminal with `kubectl aether status` as SVG, for the README: the command's own output about the first example.

The platform's status is what the operator computes when everything is ready; versions and figures are fixed.
"""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml
from rich.terminal_theme import TerminalTheme

from aether_cli import kubectl_client, market_data, platform_commands, status_view, targets
from aether_cli.console import WordConsole
from aether_operator.api import parsing
from aether_operator.api.platform_definition import DEFINITION
from aether_operator.api.platforms import Server
from aether_operator.api.resources import Resource
from aether_operator.catalog.platform_schema import PLATFORM_SCHEMA
from aether_operator.database import revisions
from aether_operator.observed.reports import Engine
from aether_services.contracts.statuses import BookState, Feed, IngestStatus, Output, OutputState
from aether_services.domain.times import Nanoseconds
from aether_testing.values import evaluations, observations

if TYPE_CHECKING:
    from aether_operator.api.platforms import Platform

PLATFORM: Final = Path(__file__).resolve().parents[3] / "examples/01-paper-platform/platform.yaml"
COMMAND: Final = "kubectl aether status -A"
COLUMNS: Final = 100
VERSIONS: Final = {Server.POSTGRES: "15.20", Server.KAFKA: "4.1", Server.NATS: "2.9.10", Server.REDIS: "7.0.15"}
OPERATOR: Final = {"namespace": "aether-system", "name": "aether-operator"}
LEADER: Final = "aether-operator-57887fd58f-jrx5b"
READY: Final = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
"""The status of a healthy pod or node."""

THEME: Final = TerminalTheme(
    (24, 27, 33),
    (208, 212, 220),
    [
        (24, 27, 33), (240, 113, 120), (126, 200, 130), (230, 190, 100),
        (110, 160, 240), (190, 140, 230), (100, 200, 210), (208, 212, 220),
    ],
)  # fmt: skip
FORMAT: Final = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<!-- Written by `make docs` from tests/aether_testing/values/status_picture.py. -->
<style>
.{unique_id}-matrix {{ font: {char_height}px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace }}
.{unique_id}-title {{ font: bold 18px sans-serif }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""Unlike Rich's own it names fonts that systems have, and loads none from elsewhere."""


def svg() -> str:
    """The picture, the same at every call."""
    console = WordConsole(
        file=io.StringIO(), record=True, width=COLUMNS, height=50, force_terminal=True, color_system="standard",
        highlight=False, soft_wrap=True, no_color=False, _environ={},
    )  # fmt: skip
    platform, state = _platform_and_state()
    console.print(f"[bold]$[/] {COMMAND}")
    console.print(TARGET.heading(state.platforms))
    node = {"metadata": {"name": "aether"}, "status": READY}
    statuses = [_ingest_status(platform)]
    for part in platform_commands.status_page(TARGET, None, (), [node], state, statuses, width=COLUMNS):
        console.print(part)
    return console.export_svg(title="Aether", theme=THEME, code_format=FORMAT, unique_id="status")


TARGET: Final = targets.Target(
    kubectl=kubectl_client.Kubectl(program="kubectl"),
    name="aether",
    server="https://127.0.0.1:16443",
    namespace="default",
    local=False,
    command="kubectl aether",
)


def _platform_and_state() -> tuple[Platform, status_view.AetherState]:
    """The example's platform, and a cluster in which everything of it is ready."""
    raw: dict[str, Any] = yaml.safe_load(PLATFORM.read_text(encoding="utf-8"))
    raw["metadata"] |= {"uid": "u-1", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
    platform = parsing.parse(DEFINITION, raw)
    assert isinstance(platform, Resource)
    observed = observations.healthy(platform)
    assert observed.schema is not None
    observed = dataclasses.replace(
        observed,
        servers={name: dataclasses.replace(one, version=VERSIONS[name]) for name, one in observed.servers.items()},
        schema=dataclasses.replace(
            observed.schema,
            revision=revisions.Revisions(PLATFORM_SCHEMA).head,
            engine=Engine.PARTMAN,
            days={"trades": platform.spec.retention.trades_days},
        ),
    )
    raw["status"] = evaluations.status_of(evaluations.inputs(platform, observed))
    workloads = [one for one in observed.children.values() if one["kind"] == "StatefulSet"]
    operator_pods = [{"metadata": {**OPERATOR, "name": LEADER}, "status": READY}] * 2
    return platform, status_view.AetherState(
        deployments=[{"metadata": OPERATOR, "spec": {"replicas": 2}, "status": {"availableReplicas": 2}}],
        leases=[{"metadata": OPERATOR, "spec": {"holderIdentity": f"{LEADER}_1f0c"}}],
        platforms=[raw],
        pods=[*operator_pods, *({**observations.a_pod_of(one), "status": READY} for one in workloads)],
    )


def _ingest_status(platform: Platform) -> market_data.PodStatus:
    lags = {Output.KAFKA: 0.02, Output.NATS: 0.01, Output.TABLES: 0.1}
    status = IngestStatus(
        service="ingest", release="0", instance=f"{platform.name}-ingest-0", started=Nanoseconds(0), ready=True,
        feed=Feed(connected=True, system="online", age_seconds=0.04),
        books={pair: BookState(usable=True, age_seconds=0.3) for pair in platform.spec.pairs},
        outputs={name: OutputState(ok=True, lag_seconds=lag, rate=29.3) for name, lag in lags.items()},
    )  # fmt: skip
    return market_data.PodStatus(
        namespace=platform.namespace, platform=platform.name, pod=status.instance,
        status=status.model_dump(mode="json"),
    )  # fmt: skip
