"""Plans: whose child an object is, and which objects are deleted."""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, Any, Final

import pytest

from aether_operator import desired, planning
from aether_operator.api import labels
from aether_operator.api.reasons import Reason
from aether_operator.desired import metadata
from aether_operator.observed import live_objects
from aether_operator.observed.kinds import Ref
from aether_testing.values import observations, plans

if TYPE_CHECKING:
    from aether_operator.observed.kinds import Manifest

STATEFUL_SET = Ref("StatefulSet", "paper-postgres")
CLAIM = Ref("PersistentVolumeClaim", "paper-postgres-data")


OWNER: Final = observations.an_owner()


REFERENCE: Final = metadata.owner_reference(OWNER)


ACCOUNT: Final = {**REFERENCE, "kind": "TradingAccount", "uid": "account"}


@pytest.mark.parametrize("ref", desired.child_refs(observations.a_platform()), ids=str)
def test_name_of_a_foreign_object_is_reported_and_left_alone(ref: Ref) -> None:
    platform = observations.a_platform()
    plan = plans.planned(platform, observations.empty(children={ref: plans.other_object(ref)}))
    assert str(ref) not in plans.names(plan)
    (blocker,) = plan.blockers
    assert (blocker.ref, blocker.reason) == (ref, Reason.NAME_TAKEN)
    assert f"kubectl --namespace desk delete {ref.kind.lower()} {ref.name}" in blocker.message


def test_child_of_another_platform_is_foreign() -> None:
    ref = Ref("Service", "paper-nats")
    other = plans.other_object(ref, labels=labels.for_child(observations.an_owner("live"), "nats"))
    (blocker,) = plans.planned(observations.a_platform(), observations.empty(children={ref: other})).blockers
    assert "belongs to TradingPlatform live" in blocker.message


def test_object_with_removed_labels_is_still_ours() -> None:
    platform = observations.a_platform()
    observed = observations.created(platform)
    bare = copy.deepcopy(observed.children[STATEFUL_SET])
    bare["metadata"]["labels"] = {}
    plan = plans.planned(platform, observations.with_objects(observed, bare))
    assert (plans.names(plan), plan.blockers) == ([str(STATEFUL_SET)], ())


@pytest.mark.parametrize(
    ("marks", "references", "applied", "ours"),
    [
        pytest.param(labels.for_child(OWNER, "x"), [], True, True, id="applied by us, retained"),
        pytest.param(labels.for_child(OWNER, "x"), [], False, True, id="restored from a backup"),
        pytest.param(labels.for_child(OWNER, "x"), [REFERENCE], True, True, id="owned"),
        pytest.param(
            labels.for_child(OWNER, "x"), [{**REFERENCE, "uid": "before"}], True, True, id="of a deleted namesake"
        ),
        pytest.param({labels.PLATFORM: "paper"}, [], True, True, id="of a release before owner labels"),
        pytest.param({labels.PLATFORM: "paper"}, [], False, False, id="somebody else's with one label of ours"),
        pytest.param({labels.PLATFORM: "live"}, [], True, False, id="of another platform before owner labels"),
        pytest.param({}, [], True, True, id="without labels, applied by us"),
        pytest.param({}, [], False, False, id="without labels, by somebody else"),
        pytest.param({}, [ACCOUNT], True, False, id="without labels, of another kind"),
        pytest.param(
            {**labels.for_child(OWNER, "x"), labels.OWNER_KIND: "TradingAccount"}, [], True, False, id="another kind"
        ),
        pytest.param({**labels.for_child(OWNER, "x"), labels.OWNER_NAME: "live"}, [], True, False, id="another name"),
        pytest.param(
            {**labels.for_child(OWNER, "x"), labels.OWNER_NAME: "live"}, [REFERENCE], True, True, id="ours by its uid"
        ),
        pytest.param(labels.for_child(OWNER, "x"), [ACCOUNT], True, False, id="ours by labels, another's by reference"),
    ],
)
def test_child_belongs_to_the_owner_of_its_kind_and_name(
    marks: dict[str, str], references: list[dict[str, Any]], *, applied: bool, ours: bool
) -> None:
    thing: Manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "one", "labels": marks, "ownerReferences": references},
    }
    live = observations.stored({**thing, "data": {"a": "b"}}) if applied else thing
    assert live_objects.belongs_to(live, OWNER) is ours


def test_label_that_others_wrote_gives_the_child_to_nobody() -> None:
    live = observations.created(observations.a_platform()).children[CLAIM]
    changed = observations.overwritten(live, "metadata", "labels", labels.OWNER_NAME, by="live")
    assert live_objects.named_owner(changed) is None
    assert live_objects.belongs_to(changed, observations.an_owner())
    assert not live_objects.belongs_to({**live, "metadata": {**live["metadata"]}}, observations.an_owner("live"))


def test_child_of_a_deleted_namesake_names_its_uid() -> None:
    reference = {**REFERENCE, "uid": "before"}
    live: Manifest = {"metadata": {"ownerReferences": [reference]}}
    assert live_objects.former_uids(live, OWNER) == {"before"}
    assert live_objects.former_uids({"metadata": {"ownerReferences": [dict(REFERENCE)]}}, OWNER) == frozenset()


def test_undesired_child_is_deleted_as_observed_after_all_applies() -> None:
    platform = observations.a_platform()
    observed = observations.created(platform)
    old = copy.deepcopy(observed.children[Ref("Service", "paper-nats")])
    old["metadata"] |= {"name": "paper-old", "uid": "old"}
    plan = plans.planned(
        platform, observations.without(observations.with_objects(observed, old), Ref("Service", "paper-kafka"))
    )
    assert plans.names(plan) == ["Service paper-kafka", "Service paper-old"]
    assert plan.actions[-1] == planning.Delete(ref=Ref("Service", "paper-old"), uid="old", resource_version="7")


@pytest.mark.parametrize(
    "meta",
    [
        {"ownerReferences": []},
        {"ownerReferences": [{"uid": "of another"}]},
        {"labels": {labels.PLATFORM: "paper"}},
        {"labels": {}},
        {"deletionTimestamp": "2026-01-01T00:00:00Z"},
    ],
)
def test_only_objects_that_are_clearly_ours_are_deleted(meta: dict[str, Any]) -> None:
    platform = observations.a_platform()
    observed = observations.created(platform)
    old = copy.deepcopy(observed.children[Ref("Service", "paper-nats")])
    old["metadata"] |= {"name": "paper-old", **meta}
    assert plans.planned(platform, observations.with_objects(observed, old)).actions == ()


def test_data_and_credentials_are_never_deleted() -> None:
    managed, external = observations.a_platform(), observations.an_external_platform()
    plan = plans.planned(external, dataclasses.replace(observations.created(managed), secrets={}))
    deleted = {action.ref.kind for action in plan.actions if isinstance(action, planning.Delete)}
    assert deleted == {"Service", "NetworkPolicy", "StatefulSet"}


def test_terminating_child_is_awaited() -> None:
    platform = observations.a_platform()
    observed = observations.created(platform)
    leaving = copy.deepcopy(observed.children[STATEFUL_SET])
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    leaving["spec"]["replicas"] = 0
    assert plans.planned(platform, observations.with_objects(observed, leaving)).actions == ()
