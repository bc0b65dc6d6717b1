"""What is wrong with a component, as it can be with any: its children and pods, their settings, their own checks.

A component's module in `status.components` puts between `unavailable` and `not_ready` what only its service reports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from aether_operator.api import labels
from aether_operator.api.reasons import Reason
from aether_operator.catalog.components import COMPONENTS
from aether_operator.observed import child_refs
from aether_operator.observed import components as reports
from aether_operator.observed.components import ComponentReport
from aether_operator.observed.server_owners import Ownership
from aether_operator.status import findings
from aether_operator.status.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aether_operator.api.platforms import Platform
    from aether_operator.catalog.components import Component
    from aether_operator.observed.platforms import ObservedPlatform

ReportT = TypeVar("ReportT", bound=ComponentReport)


def unavailable(component: Component, platform: Platform, observed: ObservedPlatform) -> Finding | None:
    """Why the replicas' own reports do not say how the component is; None if they do.

    It is not started, a child is missing, a pod does not answer, or a pod does not follow the newest settings. A
    component that platforms of this venue do not have has nothing to be wrong.
    """
    if component not in child_refs.components_of(platform):
        return None
    if (unknown := _ownership_unknown(component, platform, observed)) is not None:
        return unknown
    pods = _of_pods(component, platform, observed)
    if pods is not None and not _answers_though_unready(pods, component, platform, observed):
        return pods
    return _outdated(component, platform, observed)


def not_ready(component: Component, platform: Platform, observed: ObservedPlatform) -> Finding | None:
    """The checks of its own that fail, else the pods that Kubernetes does not report as ready; None if all are."""
    if component not in child_refs.components_of(platform):
        return None
    return _of_checks(component, platform, observed) or _of_pods(component, platform, observed)


def reports_of(
    component: Component, kind: type[ReportT], platform: Platform, observed: ObservedPlatform
) -> dict[str, ReportT]:
    """Pod → its report, of the expected pods that answered, in the order of their names."""
    found = {pod: observed.component_reports.get(pod) for pod in reports.expected(component, platform)}
    return {pod: one for pod, one in found.items() if isinstance(one, kind) and one.ok}


def grouped(texts: Iterable[tuple[str, str | None]]) -> list[tuple[str, str]]:
    """Group pods by what they report: (pods, text), in the order of the texts; without pods that report nothing."""
    found: dict[str, list[str]] = {}
    for pod, text in texts:
        if text is not None:
            found.setdefault(text, []).append(pod)
    return [(", ".join(pods), text) for text, pods in sorted(found.items())]


def _ownership_unknown(component: Component, platform: Platform, observed: ObservedPlatform) -> Finding | None:
    """It is not started yet, since a server's owner is unknown or another platform."""
    row = COMPONENTS[component]
    unknown = [server.value for server in row.servers if observed.owners.get(server) is not Ownership.OURS]
    if not unknown or child_refs.component_stateful_set(component, platform) in observed.children:
        return None
    message = f"it is not started until it is confirmed that {', '.join(unknown)} belong to this platform"
    return Finding(row.condition.part, Reason.PROGRESSING, message, known=False)


def _of_pods(component: Component, platform: Platform, observed: ObservedPlatform) -> Finding | None:
    """What is wrong with its children and pods, or with a pod's /status; None if nothing is."""
    row = COMPONENTS[component]
    part, claim = row.condition.part, child_refs.component_claim(component, platform) if row.has_volume else None
    workload = (child_refs.component_stateful_set(component, platform), claim, child_refs.replicas(component, platform))
    finding = findings.of_children(part, child_refs.of_component(component, platform), workload, observed)
    if finding is not None:
        return finding
    silent = [(pod, observed.component_reports.get(pod)) for pod in reports.expected(component, platform)]
    not_queried = [f"Pod {pod}" for pod, one in silent if one is None]
    if not_queried:
        return Finding(part, Reason.PROGRESSING, f"{', '.join(not_queried)}: not queried yet", known=False)
    failed = [(pod, one) for pod, one in silent if one is not None and not one.ok]
    if failed:
        message = "; ".join(f"Pod {pod}: {one.message or one.reason.value}" for pod, one in failed)
        return Finding(part, failed[0][1].reason, message)
    return None


def _answers_though_unready(
    finding: Finding, component: Component, platform: Platform, observed: ObservedPlatform
) -> bool:
    """Whether pods are only not ready, and all answer: then their own reports have the cause."""
    answering = reports_of(component, ComponentReport, platform, observed)
    return finding.reason is Reason.ROLLING_OUT and len(answering) == child_refs.replicas(component, platform)


def _outdated(component: Component, platform: Platform, observed: ObservedPlatform) -> Finding | None:
    """Replicas that do not follow the newest settings yet: what they report is not about the spec."""
    row = COMPONENTS[component]
    if not row.has_live_settings:
        return None
    live = observed.children[child_refs.settings_config_map(component, platform)]
    newest = (live["metadata"].get("annotations") or {}).get(labels.SETTINGS)
    answering = reports_of(component, ComponentReport, platform, observed)
    outdated = [f"Pod {pod}" for pod, one in answering.items() if one.settings != newest]
    if not outdated:
        return None
    follows = "do" if len(outdated) > 1 else "does"
    message = f"{', '.join(outdated)} {follows} not follow the newest settings yet"
    return Finding(row.condition.part, Reason.PROGRESSING, message)


def _of_checks(component: Component, platform: Platform, observed: ObservedPlatform) -> Finding | None:
    """The failing checks that it reports itself."""
    failing = [
        (pod, f"{check}: {why}")
        for pod, one in reports_of(component, ComponentReport, platform, observed).items()
        if not one.ready
        for check, why in sorted(one.failing.items()) or (("ready", "it reports that it is not ready"),)
    ]
    if not failing:
        return None
    message = "; ".join(f"Pod {pods}: {text}" for pods, text in grouped(failing))
    return Finding(COMPONENTS[component].condition.part, Reason.FAILED, message)
