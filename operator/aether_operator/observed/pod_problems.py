"""Why a pod is missing or does not start, from what Kubernetes reports.

The events of a StatefulSet say why a pod cannot be created, those of a claim why it has no volume, and a pod's
condition why it cannot be scheduled. Their texts contain numbers that change all the time (usage, number of nodes): the
texts made from them here stay the same while the cause does, and name what a person can inspect.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aether_operator.api.reasons import Reason
from aether_operator.observed import kinds, live_objects, workloads

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aether_operator.observed.kinds import Manifest, Ref
    from aether_operator.observed.observation import Observed

MAX_LENGTH: Final = 300
"""The length at which a text of Kubernetes is cut."""
FAILED, MADE = "FailedCreate", "SuccessfulCreate"
_OF_CLAIMS: Final = frozenset({"FailedBinding", "ProvisioningFailed"})


@dataclass(frozen=True, slots=True)
class Cause:
    """A cause, and the command that shows more."""

    reason: Reason
    text: str
    see: str

    def __str__(self) -> str:
        return f"{self.text}; see: {self.see}"


def kinds_to_explain(refs: Iterable[Ref], observed: Observed) -> frozenset[str]:
    """The kinds whose events must be read: StatefulSets if one lacks a pod, claims if one lacks a volume."""
    children = [observed.children[ref] for ref in refs if ref in observed.children]
    missing = [one for one in children if one["kind"] == kinds.STATEFUL_SETS.kind and lacks_pods(one, observed.pods)]
    unbound = [one for one in children if one["kind"] == kinds.CLAIMS.kind and _is_pending(one)]
    return frozenset(one["kind"] for one in (*missing, *unbound))


def lacks_pods(stateful_set: Manifest, pods: Iterable[Manifest]) -> bool:
    """Whether a StatefulSet has fewer pods than replicas."""
    there = [one for one in workloads.pods_of(pods, stateful_set) if not live_objects.is_deleting(one)]
    return len(there) < int(stateful_set["spec"].get("replicas", 1))


def _is_pending(claim: Manifest) -> bool:
    return str((claim.get("status") or {}).get("phase", "Pending")) == "Pending"


# A pod that cannot be created.


def of_stateful_set(stateful_set: Manifest, observed: Observed) -> Cause | None:
    """Why the last attempt to create a missing pod failed; None if it succeeded."""
    if not lacks_pods(stateful_set, observed.pods):
        return None
    meta = stateful_set["metadata"]
    latest = _latest(observed.events, meta.get("uid"), (FAILED, MADE))
    if latest is None or latest["reason"] == MADE:
        return None
    note = " ".join((latest.get("note") or "").split()).rpartition(" failed error: ")[2]
    note = re.sub(r'^pods "[^"]*" is forbidden: ', "", note)
    within = f"kubectl --namespace {meta['namespace']}"
    for pattern, words, command in _FORBIDDING:
        if found := pattern.search(note):
            named = {name: value or "" for name, value in found.groupdict().items()}
            text = words.format(**{name: _SORTED.get(name, str)(value) for name, value in named.items()})
            see = command.format(within=within, namespace=meta["namespace"], **named)
            return Cause(Reason.POD_FORBIDDEN, text, see)
    described = f"{within} describe statefulset {meta['name']}"
    return Cause(Reason.POD_FORBIDDEN, f"a pod cannot be created: {note[:MAX_LENGTH]}", described)


def _without_brackets(text: str) -> str:
    """`a != b (container "c" must set …), d (…)` → `a != b, d`: the advice in brackets is for the pod's author."""
    return ", ".join(part.strip(" ,") for part in re.split(r"\([^()]*\)", text) if part.strip(" ,"))


def _in_order(text: str) -> str:
    """`[b, a]` → `a, b`: the API server lists them in any order."""
    return ", ".join(sorted(part.strip() for part in re.split(r", (?=m[ai][xn]imum |[a-z-]+ max )", text.strip("[] "))))


_SORTED: Final = {"violations": _without_brackets, "ranges": _in_order}
_FORBIDDING: Final = (
    (
        re.compile(r"exceeded quota: (?P<quota>[^,]+), requested: (?P<requested>.+), used: .+, limited: (?P<most>.+)$"),
        "ResourceQuota {quota} forbids a pod: it requests {requested}, and the namespace may have {most}",
        "{within} describe resourcequota {quota}",
    ),
    (
        re.compile(r"failed quota: (?P<quota>[^:]+): must specify (?P<missing>.+)$"),
        "ResourceQuota {quota} forbids a pod that does not set {missing}",
        "{within} describe resourcequota {quota}",
    ),
    (
        re.compile(r'violates PodSecurity "(?P<level>[^"]+)": (?P<violations>.+)$'),
        "the namespace's Pod Security level {level} forbids a pod: {violations}",
        "kubectl get namespace {namespace} --show-labels",
    ),
    (
        re.compile(r"(?P<ranges>\[?(?:(?:maximum|minimum) .+ usage per|[a-z-]+ max limit to request ratio per) .+)$"),
        "a LimitRange forbids a pod: {ranges}",
        "{within} describe limitrange",
    ),
)
"""Pattern of the API server's error → message and command. The usage in quota errors is left out: it changes."""


# A claim without a volume, and a pod without a node.


def of_claim(claim: Manifest, observed: Observed) -> Cause | None:
    """Why a pending claim has no volume; None if no event says so."""
    if not _is_pending(claim):
        return None
    meta = claim["metadata"]
    latest = _latest(observed.events, meta.get("uid"), _OF_CLAIMS)
    if latest is None:
        return None
    note = " ".join((latest.get("note") or "").split())
    described = f"kubectl --namespace {meta['namespace']} describe persistentvolumeclaim {meta['name']}"
    if "no storage class is set" in note:
        text = "has no volume: the cluster has no default StorageClass to provision one"
        return Cause(Reason.VOLUME_MISSING, text, "kubectl get storageclass")
    if missing := re.search(r'storageclass\S* "([^"]+)" not found', note):
        text = f"has no volume: there is no StorageClass {missing[1]}"
        return Cause(Reason.VOLUME_MISSING, text, "kubectl get storageclass")
    return Cause(Reason.VOLUME_MISSING, f"has no volume: {note[:MAX_LENGTH]}", described)


def of_pod(pod: Manifest) -> Cause | None:
    """Why a pod cannot be scheduled; None if it can."""
    found = [one for one in (pod.get("status") or {}).get("conditions") or () if one.get("type") == "PodScheduled"]
    if not found or found[0].get("status") != "False":
        return None
    meta, why, note = pod["metadata"], found[0].get("reason", ""), found[0].get("message", "")
    missing = _reasons(note) if why == "Unschedulable" else ": ".join(part for part in (why, note[:MAX_LENGTH]) if part)
    see = f"kubectl --namespace {meta.get('namespace', 'default')} describe pod {meta['name']}"
    return Cause(Reason.UNSCHEDULABLE, f"no node can run it: {missing}", see)


def _reasons(note: str) -> str:
    """`0/3 nodes are available: 1 Insufficient cpu, 2 … . preemption: …` → what nodes lack, without the counts."""
    listed = note.partition("nodes are available: ")[2].partition(". ")[0].rstrip(".")
    reasons = {re.sub(r"^\d+ ", "", one) for one in listed.split(", ") if one}
    return ", ".join(sorted(reasons))[:MAX_LENGTH] or note[:MAX_LENGTH] or "no reason given"


# Events.


def _latest(events: Iterable[Manifest], uid: str | None, reasons: Sequence[str] | frozenset[str]) -> Manifest | None:
    """The last event of an object with one of these reasons; of two in one second, the success."""
    mine = [one for one in events if one["regarding"].get("uid") == uid and one.get("reason") in reasons]
    return max(mine, key=lambda one: (_when(one), one["reason"] == MADE, one.get("note") or ""), default=None)


def _when(event: dict[str, Any]) -> str:
    """When an event last occurred, to the second: the older form of events is no more precise."""
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("deprecatedLastTimestamp"), event.get("eventTime"))
    return max(str(one)[:19] for one in (*times, event["metadata"].get("creationTimestamp")) if one)
