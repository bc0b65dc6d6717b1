"""Plans: what the API server would reject or has rejected, and what a person has to do."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest

from aether_operator import desired, planning
from aether_operator.api import labels
from aether_operator.api.reasons import Reason
from aether_operator.observed.kinds import Ref
from aether_testing.values import observations, plans

STATEFUL_SET = Ref("StatefulSet", "paper-postgres")
CLAIM = Ref("PersistentVolumeClaim", "paper-postgres-data")


def test_volume_can_grow_and_never_shrinks() -> None:
    before = observations.created(observations.a_platform())
    larger = observations.a_platform(dataPlane={"postgres": {"managed": {"storage": "20Gi"}}})
    smaller = observations.a_platform(dataPlane={"postgres": {"managed": {"storage": "5Gi"}}})
    assert plans.names(plans.planned(larger, before)) == [str(CLAIM)]
    plan = plans.planned(smaller, before)
    assert plan.actions == ()
    (blocker,) = plan.blockers
    assert (blocker.ref, blocker.reason) == (CLAIM, Reason.IMMUTABLE_FIELD)
    assert "spec.dataPlane.postgres.managed.storage (5Gi) to 10Gi or more" in blocker.message


def test_a_claim_that_cannot_shrink_is_still_repaired() -> None:
    smaller = observations.a_platform(dataPlane={"postgres": {"managed": {"storage": "5Gi"}}})
    observed = observations.created(observations.a_platform())
    edited = observations.overwritten(observed.children[CLAIM], "metadata", "labels", labels.COMPONENT, by="other")
    (action,) = plans.planned(smaller, observations.with_objects(observed, edited)).actions
    assert isinstance(action, planning.Apply)
    assert action.manifest["spec"]["resources"]["requests"]["storage"] == "10Gi"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("serviceName", "other"),
        ("podManagementPolicy", "OrderedReady"),
        ("selector", {"matchLabels": {"a": "b"}}),
        ("volumeClaimTemplates", [{"metadata": {"name": "data"}}]),
    ],
)
def test_stateful_set_needing_recreation_is_left_to_a_person(field: str, value: Any) -> None:
    platform = observations.a_platform()
    observed = observations.created(platform)
    other = copy.deepcopy(observed.children[STATEFUL_SET])
    other["spec"][field] = value
    plan = plans.planned(platform, observations.with_objects(observed, other))
    assert plan.actions == ()
    (blocker,) = plan.blockers
    assert blocker.reason is Reason.IMMUTABLE_FIELD
    assert f"spec.{field}" in blocker.message
    assert blocker.message.endswith("kubectl --namespace desk delete statefulset paper-postgres")


@pytest.mark.parametrize(
    ("ref", "code", "message", "reason", "part"),
    [
        (
            STATEFUL_SET, 422,
            "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'template' are forbidden",
            Reason.IMMUTABLE_FIELD, "kubectl --namespace desk delete statefulset paper-postgres",
        ),
        (
            Ref("Service", "paper-nats"), 422, "spec.clusterIPs[0]: Invalid value: field is immutable",
            Reason.IMMUTABLE_FIELD, "delete service paper-nats",
        ),
        (
            CLAIM, 422, "spec is immutable after creation except resources.requests for bound claims",
            Reason.IMMUTABLE_FIELD, "only grows",
        ),
        (
            CLAIM, 422, "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity",
            Reason.IMMUTABLE_FIELD, "only grows",
        ),
        (
            CLAIM, 403,
            "only dynamically provisioned pvc can be resized and the storageclass must support resize",
            Reason.REQUEST_REJECTED, "allowVolumeExpansion",
        ),
        (
            CLAIM, 403, "exceeded quota: storage, requested: requests.storage=10Gi, used: 0, limited: 5Gi",
            Reason.REQUEST_REJECTED, "raise the ResourceQuota",
        ),
        (
            STATEFUL_SET, 403, 'violates PodSecurity "restricted:latest": seccompProfile',
            Reason.REQUEST_REJECTED, "Pod Security",
        ),
        (
            STATEFUL_SET, 403, "unable to create new content in namespace desk because it is being terminated",
            Reason.TERMINATING, "being deleted",
        ),
        (
            STATEFUL_SET, 422, "spec.replicas: Invalid value",
            Reason.REQUEST_REJECTED, "(422): spec.replicas: Invalid value",
        ),
        (STATEFUL_SET, 409, "Operation cannot be fulfilled", Reason.REQUEST_REJECTED, "(409)"),
    ],
)  # fmt: skip
def test_blocker_gives_the_remedy(ref: Ref, code: int, message: str, reason: Reason, part: str) -> None:
    blocker = planning.blocker_from_error(ref, code, message, namespace="desk")
    assert (blocker.ref, blocker.reason) == (ref, reason)
    assert part in blocker.message


def test_api_message_about_a_secret_is_withheld() -> None:
    for code, message in itertools.product(
        (403, 409, 422), ("data.password: Invalid value: canary", "immutable canary")
    ):
        blocker = planning.blocker_from_error(Ref("Secret", "paper-nats"), code, message, namespace="desk")
        assert "canary" not in blocker.message


def test_blocker_message_fits_a_status() -> None:
    assert len(planning.blocker_from_error(STATEFUL_SET, 422, "x" * 100_000).message) < 600


def test_journal_volume_never_shrinks_and_names_the_field() -> None:
    larger = observations.created(observations.a_platform(components={"exchangeSim": {"storage": "2Gi"}}))
    (blocker,) = plans.planned(observations.a_platform(), larger).blockers
    assert blocker.reason is Reason.IMMUTABLE_FIELD
    assert "set spec.components.exchangeSim.storage (1Gi) to 2Gi or more" in blocker.message


def test_shrinking_claim_of_a_kind_without_storage_fields_is_reported() -> None:
    larger = observations.created(observations.a_platform(components={"exchangeSim": {"storage": "2Gi"}}))
    platform = observations.a_platform()
    expected = desired.children(platform, larger, observations.a_release(), observations.tokens("n"))
    (blocker,) = planning.plan(expected, larger, platform.owner).blockers
    assert "cannot shrink: set its size (1Gi) to 2Gi or more" in blocker.message
