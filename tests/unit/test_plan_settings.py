"""Plans: the live settings of components, and what pods need."""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from aether_operator import desired, planning
from aether_operator.api import labels
from aether_operator.api.reasons import Reason
from aether_operator.observed.kinds import Ref
from aether_operator.planning import comparisons
from aether_testing.values import observations, plans

if TYPE_CHECKING:
    from aether_operator.observed.kinds import Manifest
    from aether_operator.observed.platforms import ObservedPlatform

STATEFUL_SET = Ref("StatefulSet", "paper-postgres")


def _with_pods(observed: ObservedPlatform, change: dict[str, Any]) -> ObservedPlatform:
    """Observed state with changed pods of ingest."""
    pods = [copy.deepcopy(pod) for pod in observed.pods]
    for pod in pods:
        if pod["metadata"]["name"].startswith("paper-ingest"):
            pod["metadata"] |= change
    return dataclasses.replace(observed, pods=tuple(pods))


def test_edited_pairs_only_write_the_settings_and_sync_the_pods() -> None:
    before = observations.created(observations.a_platform(components={"ingest": {"replicas": 2}}))
    edited = observations.a_platform(components={"ingest": {"replicas": 2}}, pairs=["BTC/USD"])
    plan = plans.planned(edited, before)
    assert plans.names(plan) == [
        "ConfigMap paper-ingest-settings",
        "sync config paper-ingest-0",
        "sync config paper-ingest-1",
    ]
    config, *syncs = plan.actions
    assert isinstance(config, planning.Apply)
    digest = config.manifest["metadata"]["annotations"][labels.SETTINGS]
    assert {action.digest for action in syncs if isinstance(action, planning.SyncConfig)} == {digest}


def test_an_edit_of_replicas_restarts_no_pod() -> None:
    before = observations.created(observations.a_platform())
    plan = plans.planned(observations.a_platform(components={"ingest": {"replicas": 3}}), before)
    assert plans.names(plan) == [
        "ConfigMap paper-ingest-settings",
        "PodDisruptionBudget paper-ingest",
        "StatefulSet paper-ingest",
        "sync config paper-ingest-0",
    ]
    (workload,) = [
        action
        for action in plan.actions
        if isinstance(action, planning.Apply) and action.manifest["kind"] == "StatefulSet"
    ]
    assert workload.live is not None
    assert workload.manifest["spec"]["replicas"] == 3
    # Only the number of replicas differs: the pod template is unchanged.
    same = copy.deepcopy(workload.live)
    same["spec"]["replicas"] = 3
    assert comparisons.is_up_to_date(workload.manifest, same)


def test_undesired_disruption_budget_is_deleted() -> None:
    before = observations.created(observations.a_platform(components={"ingest": {"replicas": 2}}))
    plan = plans.planned(observations.a_platform(), before)
    assert plans.names(plan)[-1] == "PodDisruptionBudget paper-ingest"
    assert isinstance(plan.actions[-1], planning.Delete)


@pytest.mark.parametrize("notes", [{}, {labels.SETTINGS: "of-before"}, {"example.org/note": "mine"}])
def test_pod_without_the_newest_settings_is_synced(notes: dict[str, str]) -> None:
    platform = observations.a_platform()
    observed = _with_pods(observations.created(platform), {"annotations": notes})
    (action,) = plans.planned(platform, observed).actions
    assert isinstance(action, planning.SyncConfig)
    assert (action.pod, action.uid) == ("paper-ingest-0", "uid-of-Pod-paper-ingest-0")


@pytest.mark.parametrize(
    "change", [{"deletionTimestamp": "2026-01-01T00:00:00Z"}, {"ownerReferences": [{"uid": "of another"}]}]
)
def test_terminating_or_foreign_pod_is_not_synced(change: dict[str, Any]) -> None:
    platform = observations.a_platform()
    assert (
        plans.planned(platform, _with_pods(observations.created(platform), {"annotations": {}, **change})).actions == ()
    )


def test_config_map_without_a_digest_syncs_no_pod() -> None:
    platform = observations.a_platform()
    observed = _with_pods(observations.created(platform), {"annotations": {}})
    expected = desired.children(platform, observed, observations.a_release(), observations.tokens("n"))
    (config,) = [one for one in expected if one["kind"] == "ConfigMap"]
    del config["metadata"]["annotations"]
    assert plans.names(planning.plan(expected, observed, platform.owner)) == ["ConfigMap paper-ingest-settings"]


def test_pods_are_not_synced_to_foreign_settings() -> None:
    platform = observations.a_platform()
    theirs = Ref("ConfigMap", "paper-ingest-settings")
    observed = observations.with_objects(
        _with_pods(observations.created(platform), {"annotations": {}}), plans.other_object(theirs)
    )
    plan = plans.planned(platform, observed)
    assert (plan.actions, [one.reason for one in plan.blockers]) == ((), [Reason.NAME_TAKEN])


def test_workload_lists_the_objects_its_pods_require() -> None:
    children = observations.created(observations.an_external_platform()).children
    assert {str(ref) for ref in planning.required_refs(children[Ref("StatefulSet", "paper-ingest")])} == {
        "ConfigMap paper-ingest-settings", "Secret my-kafka", "Secret my-nats", "Secret paper-postgres-ingest",
    }  # fmt: skip
    managed = observations.created(observations.a_platform()).children
    assert planning.required_refs(managed[STATEFUL_SET]) == {Ref("Secret", "paper-postgres")}
    assert planning.required_refs(managed[Ref("Service", "paper-ingest")]) == frozenset()


def test_pods_need_what_their_projected_volumes_name() -> None:
    sources = [{"configMap": {"name": "a"}}, {"secret": {"name": "b"}}, {"serviceAccountToken": {"path": "t"}}]
    manifest: Manifest = {
        "kind": "StatefulSet",
        "spec": {"template": {"spec": {"volumes": [{"name": "all", "projected": {"sources": sources}}]}}},
    }
    assert planning.required_refs(manifest) == {Ref("ConfigMap", "a"), Ref("Secret", "b")}
    assert planning.required_refs({"kind": "StatefulSet", "spec": {"template": {"spec": {}}}}) == frozenset()
