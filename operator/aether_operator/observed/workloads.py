"""The progress of a StatefulSet, a claim and a pod, in words; an empty text if there is nothing to wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aether_operator.api import models
from aether_operator.observed import live_objects

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aether_operator.observed.kinds import Manifest

_ORDINARY: Final = frozenset({"ContainerCreating", "PodInitializing"})
"""Normal reasons for a container to wait."""


def unfinished(stateful_set: Manifest) -> str:
    """What a StatefulSet still has to do; empty once every pod has the newest revision and is ready."""
    meta, spec, status = stateful_set["metadata"], stateful_set["spec"], stateful_set.get("status") or {}
    wanted = spec.get("replicas", 1)
    if live_objects.is_deleting(stateful_set):
        return "is being deleted"
    if status.get("observedGeneration", 0) < meta.get("generation", 1):
        return "was changed just now"
    if status.get("currentRevision") != status.get("updateRevision") or status.get("updatedReplicas", 0) < wanted:
        return f"rolls out: {status.get('updatedReplicas', 0)} of {wanted} pods are of the newest revision"
    ready = min(status.get("readyReplicas", 0), status.get("availableReplicas", status.get("readyReplicas", 0)))
    return "" if ready >= wanted else f"has {ready} of {wanted} pods ready"


def unbound(claim: Manifest) -> str:
    """Why a claim has no volume of the requested size yet; empty if it has."""
    if live_objects.is_deleting(claim):
        return "is being deleted"
    status = claim.get("status") or {}
    if status.get("phase", "Pending") != "Bound":
        return f"is {status.get('phase', 'Pending')}"
    requested = claim["spec"]["resources"]["requests"]["storage"]
    actual = (status.get("capacity") or {}).get("storage")
    try:
        short = actual is not None and models.quantity(actual) < models.quantity(requested)
    except ValueError:
        return f"has an invalid size: {actual} of {requested}"
    return f"is being resized from {actual} to {requested}" if short else ""


def pods_of(pods: Iterable[Manifest], stateful_set: Manifest) -> tuple[Manifest, ...]:
    """The pods of a StatefulSet, by owner reference, in the order of their names."""
    uid = stateful_set["metadata"].get("uid")
    mine = [pod for pod in pods if uid is not None and live_objects.has_owner(pod, uid)]
    return tuple(sorted(mine, key=lambda pod: str(pod["metadata"]["name"])))


def pod_problem(pod: Manifest) -> str:
    """Why a pod is not ready: the abnormal states of its containers, or why it failed."""
    status = pod.get("status") or {}
    causes = [
        *(_of_container(one) for key in _CONTAINERS for one in status.get(key) or ()),
    ]
    if status.get("phase") == "Failed":
        causes.append(": ".join(part for part in (status.get("reason", "Failed"), status.get("message", "")) if part))
    return ", ".join(cause for cause in causes if cause)


_CONTAINERS: Final = ("initContainerStatuses", "containerStatuses")


def _of_container(container: dict[str, Any]) -> str:
    state = container.get("state") or {}
    waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
    before = (container.get("lastState") or {}).get("terminated") or {}
    if waiting and waiting.get("reason") not in _ORDINARY:
        # The message of a back-off changes with every attempt; the reason does not.
        reason = str(waiting.get("reason", "waiting"))
        code = before.get("exitCode")
        image = f" of {container['image']}" if "Image" in reason and container.get("image") else ""
        return f"{reason}{image}" if code is None else f"{reason} (last exit: {before.get('reason')}, exit code {code})"
    if ended:
        return f"{ended.get('reason', 'ended')} (exit code {ended.get('exitCode')})"
    return ""
