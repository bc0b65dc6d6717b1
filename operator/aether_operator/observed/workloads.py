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
    meta, spec, seen = stateful_set["metadata"], stateful_set["spec"], stateful_set.get("status") or {}
    wanted = spec.get("replicas", 1)
    if live_objects.is_deleting(stateful_set):
        return "is being deleted"
    if seen.get("observedGeneration", 0) < meta.get("generation", 1):
        return "was changed just now"
    if seen.get("currentRevision") != seen.get("updateRevision") or seen.get("updatedReplicas", 0) < wanted:
        return f"rolls out: {seen.get('updatedReplicas', 0)} of {wanted} pods are of the newest revision"
    ready = min(seen.get("readyReplicas", 0), seen.get("availableReplicas", seen.get("readyReplicas", 0)))
    return "" if ready >= wanted else f"has {ready} of {wanted} pods ready"


def unbound(claim: Manifest) -> str:
    """Why a claim has no volume of the requested size yet; empty if it has."""
    if live_objects.is_deleting(claim):
        return "is being deleted"
    seen = claim.get("status") or {}
    if seen.get("phase", "Pending") != "Bound":
        return f"is {seen.get('phase', 'Pending')}"
    asked = claim["spec"]["resources"]["requests"]["storage"]
    there = (seen.get("capacity") or {}).get("storage")
    try:
        short = there is not None and models.quantity(there) < models.quantity(asked)
    except ValueError:
        return f"has an invalid size: {there} of {asked}"
    return f"is being resized from {there} to {asked}" if short else ""


def pods_of(pods: Iterable[Manifest], stateful_set: Manifest) -> tuple[Manifest, ...]:
    """The pods of a StatefulSet, by owner reference, in the order of their names."""
    uid = stateful_set["metadata"].get("uid")
    mine = [pod for pod in pods if uid is not None and live_objects.has_owner(pod, uid)]
    return tuple(sorted(mine, key=lambda pod: str(pod["metadata"]["name"])))


def pod_problem(pod: Manifest) -> str:
    """Why a pod is not ready: the abnormal states of its containers, or why it failed."""
    seen = pod.get("status") or {}
    causes = [
        *(_of_container(one) for key in _CONTAINERS for one in seen.get(key) or ()),
    ]
    if seen.get("phase") == "Failed":
        causes.append(": ".join(part for part in (seen.get("reason", "Failed"), seen.get("message", "")) if part))
    return ", ".join(cause for cause in causes if cause)


_CONTAINERS: Final = ("initContainerStatuses", "containerStatuses")


def _of_container(container: dict[str, Any]) -> str:
    state = container.get("state") or {}
    waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
    before = (container.get("lastState") or {}).get("terminated") or {}
    if waiting and waiting.get("reason") not in _ORDINARY:
        # The message of a back-off changes with every attempt; the reason does not.
        said = str(waiting.get("reason", "waiting"))
        code = before.get("exitCode")
        image = f" of {container['image']}" if "Image" in said and container.get("image") else ""
        return f"{said}{image}" if code is None else f"{said} (its last end: {before.get('reason')}, exit code {code})"
    if ended:
        return f"{ended.get('reason', 'ended')} (exit code {ended.get('exitCode')})"
    return ""
