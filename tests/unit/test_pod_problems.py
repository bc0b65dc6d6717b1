"""Why a pod is missing: events recorded from Kubernetes 1.34, and the messages made from them."""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, Final

import pytest

from aether_operator.api.platforms import Server
from aether_operator.api.reasons import EXPLANATIONS, Reason
from aether_operator.observed import child_refs, pod_problems
from aether_operator.observed.kinds import Ref
from aether_operator.status import servers
from aether_testing.values import observations

if TYPE_CHECKING:
    from aether_operator.observed.kinds import Manifest
    from aether_operator.observed.platforms import ObservedPlatform

PLATFORM: Final = observations.a_platform()
HEALTHY: Final = observations.healthy(PLATFORM)
SET: Final = Ref("StatefulSet", "paper-redis")
CLAIM: Final = Ref("PersistentVolumeClaim", "paper-redis-data")
PREFIX: Final = 'create Pod paper-redis-0 in StatefulSet paper-redis failed error: pods "paper-redis-0" is forbidden: '
RESTRICTED: Final = (
    'violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "c" must set '
    'securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "c" must set '
    'securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "c" must set '
    'securityContext.runAsNonRoot=true), seccompProfile (pod or container "c" must set '
    'securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")'
)


def observed(*text: tuple[Ref, str, str], pods: tuple[Manifest, ...] = (), claim: str = "Bound") -> ObservedPlatform:
    """Redis has no pod, and events say why: object, reason and note, one second apart."""
    live, volume = copy.deepcopy(HEALTHY.children[SET]), copy.deepcopy(HEALTHY.children[CLAIM])
    live["status"] |= {"readyReplicas": 0, "availableReplicas": 0}
    volume["status"] = {"phase": claim}
    found = observations.with_objects(observations.with_objects(HEALTHY, live), volume)
    events = tuple(
        observations.an_event(found.children[ref], reason, note, f"2026-01-01T12:00:{second:02d}Z")
        for second, (ref, reason, note) in enumerate(text)
    )
    return dataclasses.replace(found, events=events, pods=(*HEALTHY.pods, *pods))


def reason_and_message(observed_state: ObservedPlatform) -> tuple[Reason, str]:
    found = servers.evaluate(Server.REDIS, PLATFORM, observed_state)
    assert found is not None
    assert str(SET) in found.message or str(CLAIM) in found.message or "Pod paper-redis-0" in found.message
    return found.reason, found.message


FORBIDDEN: Final = {
    "quota": (
        (
            "exceeded quota: small, requested: limits.memory=2Gi,requests.cpu=100m, used: "
            "limits.memory=0,requests.cpu=7m, "
            "limited: limits.memory=1Gi,requests.cpu=50m"
        ),
        (
            "ResourceQuota small forbids a pod: it requests limits.memory=2Gi,requests.cpu=100m, "
            "and the "
            "namespace may have limits.memory=1Gi,requests.cpu=50m; see: kubectl --namespace desk describe "
            "resourcequota "
            "small"
        ),
    ),
    "quota on what is not set": (
        "failed quota: small: must specify limits.memory for: c; requests.cpu for: c",
        (
            "ResourceQuota small forbids a pod that does not set limits.memory for: c; "
            "requests.cpu for: c; see: "
            "kubectl --namespace desk describe resourcequota small"
        ),
    ),
    "range": (
        (
            "[minimum cpu usage per Container is 10m, but request is 1m, maximum memory usage per Container "
            "is 1Gi, but limit "
            "is 2Gi, maximum cpu usage per Container is 100m, but limit is 1, cpu max limit to request "
            "ratio per Container is "
            "2, but provided ratio is 1000.000000]"
        ),
        (
            "a LimitRange forbids a pod: cpu max limit to request ratio per Container is 2, but "
            "provided ratio is "
            "1000.000000, maximum cpu usage per Container is 100m, but limit is 1, maximum memory usage per "
            "Container is "
            "1Gi, but limit is 2Gi, minimum cpu usage per Container is 10m, but request is 1m; see: kubectl "
            "--namespace desk "
            "describe limitrange"
        ),
    ),
    "one range": (
        "maximum cpu usage per Container is 100m, but limit is 1",
        (
            "a LimitRange forbids a pod: maximum cpu usage per Container is 100m, but limit is 1; "
            "see: kubectl "
            "--namespace desk describe limitrange"
        ),
    ),
    "pod security": (
        RESTRICTED,
        (
            "the namespace's Pod Security level restricted:latest forbids a pod: "
            "allowPrivilegeEscalation != false, "
            "unrestricted capabilities, runAsNonRoot != true, seccompProfile; see: kubectl get namespace "
            "desk --show-labels"
        ),
    ),
    "something else": (
        'error looking up service account desk/nobody: serviceaccount "nobody" not found',
        (
            'a pod cannot be created: error looking up service account desk/nobody: serviceaccount "nobody" '
            "not found; see: "
            "kubectl --namespace desk describe statefulset paper-redis"
        ),
    ),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_rejected_pod_is_named_with_a_command_that_shows_why(name: str) -> None:
    text, expected = FORBIDDEN[name]
    reason, message = reason_and_message(observed((SET, "FailedCreate", PREFIX + text)))
    assert reason is Reason.POD_FORBIDDEN
    assert message == f"{SET} has 0 of 1 pods ready: {expected}"
    aggregated = observed((SET, "FailedCreate", f"(combined from similar events): {PREFIX}{text}"))
    assert reason_and_message(aggregated) == (reason, message)


def test_message_of_a_cause_is_stable_whatever_varies_in_it() -> None:
    quota = "exceeded quota: small, requested: pods=1, used: pods={}, limited: pods=4"
    assert (
        len({reason_and_message(observed((SET, "FailedCreate", PREFIX + quota.format(used)))) for used in (4, 5)}) == 1
    )
    one, other = (
        "maximum cpu usage per Container is 1, but limit is 2",
        "minimum memory usage per Pod is 1Gi, but request is 1Mi",
    )
    ranges = (f"[{one}, {other}]", f"[{other}, {one}]")
    assert len({reason_and_message(observed((SET, "FailedCreate", PREFIX + text))) for text in ranges}) == 1


def test_pod_created_since_is_not_forbidden_any_more() -> None:
    failed, succeeded = (
        (SET, "FailedCreate", f"{PREFIX}odd"),
        (SET, "SuccessfulCreate", "create Pod paper-redis-0 successful"),
    )
    assert reason_and_message(observed(failed, succeeded)) == (Reason.ROLLING_OUT, f"{SET} has 0 of 1 pods ready")
    assert reason_and_message(observed(succeeded, failed))[0] is Reason.POD_FORBIDDEN
    others = dataclasses.replace(HEALTHY, events=observed(failed).events)
    assert servers.evaluate(Server.REDIS, PLATFORM, others) is None
    elsewhere = (Ref("StatefulSet", "paper-nats"), "FailedCreate", f"{PREFIX}odd")
    assert reason_and_message(observed(elsewhere))[0] is Reason.ROLLING_OUT


def test_existing_pod_reports_its_own_cause() -> None:
    starting = observations.a_pod_of(HEALTHY.children[SET], containerStatuses=[])
    assert (
        reason_and_message(observed((SET, "FailedCreate", f"{PREFIX}odd"), pods=(starting,)))[0] is Reason.ROLLING_OUT
    )


PENDING: Final = "Pending"
UNBOUND: Final = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"
VOLUMES: Final = {
    "no default class": (
        "FailedBinding",
        "no persistent volumes available for this claim and no storage class is set",
        "has no volume: the cluster has no default StorageClass to provision one; see: kubectl get storageclass",
    ),
    "no such class": (
        "ProvisioningFailed",
        'storageclass.storage.k8s.io "nope" not found',
        "has no volume: there is no StorageClass nope; see: kubectl get storageclass",
    ),
    "a provisioner that fails": (
        "ProvisioningFailed",
        "failed to provision volume: disk full",
        (
            "has no volume: failed to provision volume: disk full; see: kubectl --namespace desk describe "
            "persistentvolumeclaim paper-redis-data"
        ),
    ),
}


def unscheduled(message: str, reason: str = "Unschedulable") -> Manifest:
    condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    return observations.a_pod_of(HEALTHY.children[SET], phase="Pending", conditions=[condition])


@pytest.mark.parametrize("name", VOLUMES)
def test_unbound_claim_is_reported_before_its_consequences(name: str) -> None:
    reason, note, expected = VOLUMES[name]
    found, message = reason_and_message(observed((CLAIM, reason, note), pods=(unscheduled(UNBOUND),), claim=PENDING))
    assert found is Reason.VOLUME_MISSING
    assert message.startswith(f"{CLAIM} {expected}, Pod paper-redis-0: no node can run it: ")


def test_claim_that_waits_for_its_pod_is_no_problem() -> None:
    waiting = (CLAIM, "WaitForFirstConsumer", "waiting for first consumer to be created before binding")
    found, message = reason_and_message(observed(waiting, claim=PENDING))
    assert (found, message.endswith(f"{CLAIM} is Pending")) == (Reason.ROLLING_OUT, True)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            (
                "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint "
                "{node.kubernetes.io/not-ready: }. "
                "no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful."
            ),
            "Insufficient cpu, node(s) had untolerated taint {node.kubernetes.io/not-ready: }",
        ),
        ("0/1 nodes are available: 1 Insufficient memory. preemption: 0/1 nodes are available.", "Insufficient memory"),
        (UNBOUND, "pod has unbound immediate PersistentVolumeClaims"),
        ("no nodes available to schedule pods", "no nodes available to schedule pods"),
        ("", "no reason given"),
    ],
)
def test_scheduling_message_omits_the_number_of_nodes(message: str, expected: str) -> None:
    found, text = reason_and_message(observed(pods=(unscheduled(message),)))
    assert found is Reason.UNSCHEDULABLE
    see = "kubectl --namespace desk describe pod paper-redis-0"
    assert text.startswith(f"Pod paper-redis-0: no node can run it: {expected}; see: {see}, ")


def test_gated_pod_names_its_scheduling_gates() -> None:
    found, text = reason_and_message(observed(pods=(unscheduled("waiting for gates [x]", "SchedulingGated"),)))
    assert (found, "SchedulingGated: waiting for gates [x]" in text) == (Reason.UNSCHEDULABLE, True)


def test_events_are_read_only_where_something_is_missing() -> None:
    everything = dataclasses.replace(
        HEALTHY,
        pods=tuple(observations.a_pod_of(one) for ref, one in HEALTHY.children.items() if ref.kind == "StatefulSet"),
    )
    assert pod_problems.kinds_to_explain(child_refs.all_of(PLATFORM), everything) == frozenset()
    assert pod_problems.kinds_to_explain(child_refs.all_of(PLATFORM), HEALTHY) == {
        "StatefulSet"
    }  # the pods of servers are not in it
    assert pod_problems.kinds_to_explain(child_refs.all_of(PLATFORM), observed(claim=PENDING)) == {
        "StatefulSet",
        "PersistentVolumeClaim",
    }
    bound = dataclasses.replace(observed(claim=PENDING), pods=everything.pods)
    assert pod_problems.kinds_to_explain(child_refs.all_of(PLATFORM), bound) == {"PersistentVolumeClaim"}
    going = copy.deepcopy(everything.pods[0])
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    left = dataclasses.replace(everything, pods=(going, *everything.pods[1:]))
    assert pod_problems.kinds_to_explain(child_refs.all_of(PLATFORM), left) == {"StatefulSet"}


def test_each_of_these_reasons_has_a_remedy() -> None:
    for reason in (Reason.POD_FORBIDDEN, Reason.UNSCHEDULABLE, Reason.VOLUME_MISSING):
        assert "command in the message" in EXPLANATIONS[reason].action
