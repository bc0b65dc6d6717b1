"""Plans: which actions follow from desired and observed state, and which never do."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from typing import TYPE_CHECKING, Any, Final

import pytest

from aether_operator import desired, planning
from aether_operator.api import labels
from aether_operator.api.platforms import Platform, Server
from aether_operator.api.reasons import Reason
from aether_operator.catalog.components import COMPONENTS
from aether_operator.controllers.platforms import PlatformReconciler
from aether_operator.desired import metadata
from aether_operator.observed import child_refs, kinds, live_objects
from aether_operator.observed.kinds import Ref
from aether_operator.observed.reports import TopicsReport
from aether_operator.planning import child_kinds, comparisons
from aether_testing.values import evaluations, observations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aether_operator.observed.kinds import Manifest
    from aether_operator.observed.platforms import ObservedPlatform

STATEFUL_SET = Ref("StatefulSet", "paper-postgres")
CLAIM = Ref("PersistentVolumeClaim", "paper-postgres-data")


def _planned(platform: Platform, observed: ObservedPlatform) -> planning.Plan:
    expected = desired.children(platform, observed, observations.a_release(), observations.tokens("n"))
    return planning.plan(expected, observed, platform.owner, PlatformReconciler.storage_fields)


def _name(action: planning.Action) -> str:
    match action:
        case planning.Apply():
            return str(kinds.ref(action.manifest))
        case planning.SyncConfig():
            return f"sync config {action.pod}"
        case planning.Delete():
            return str(action.ref)


def _names(plan: planning.Plan) -> list[str]:
    return [_name(action) for action in plan.actions]


def test_empty_namespace_gets_every_child_in_the_order_of_kinds() -> None:
    plan = _planned(observations.a_platform(), observations.empty())
    order = [kind.kind for kind in child_kinds.KINDS]
    places = [order.index(name.split()[0]) for name in _names(plan)]
    assert len(places) == len(desired.child_refs(observations.a_platform()))
    assert places == sorted(places)
    assert plan.blockers == ()


@pytest.mark.parametrize("platform", [observations.a_platform(), observations.an_external_platform()])
def test_unchanged_observation_is_left_alone(platform: Platform) -> None:
    assert _planned(platform, observations.created(platform)) == planning.Plan((), ())


def test_settings_added_by_a_release_cause_no_further_change() -> None:
    release = observations.a_release(
        image_pull_secrets=("pull",),
        node_selector={"pool": "data"},
        tolerations=({"key": "data", "operator": "Exists"},),
        priority_class_name="high",
        extra_labels={"team": "desk"},
    )
    platform = observations.a_platform()
    observed = observations.created(platform, release)
    expected = desired.children(platform, observed, release, observations.tokens("n"))
    assert planning.plan(expected, observed, platform.owner, PlatformReconciler.storage_fields) == planning.Plan((), ())


def _leaves(fields: dict[str, Any], live: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all owned leaves."""
    below = {key: part for key, part in fields.items() if key.startswith("f:")}
    if not below:
        yield path
    for key, part in below.items():
        if isinstance(live, dict):
            yield from _leaves(part, live[key[2:]], (*path, key[2:]))


def _every_owned_field() -> list[tuple[Ref, tuple[str, ...]]]:
    observed = observations.created(observations.a_platform())
    return [
        (ref, path)
        for ref, live in observed.children.items()
        if ref.name.startswith("paper-postgres")
        for path in _leaves(live["metadata"]["managedFields"][1]["fieldsV1"], live)
    ]


@pytest.mark.parametrize(
    ("ref", "path"), _every_owned_field(), ids=lambda one: ".".join(one) if isinstance(one, tuple) else str(one)
)
def test_every_owned_field_taken_by_others_is_reclaimed(ref: Ref, path: tuple[str, ...]) -> None:
    platform = observations.a_platform()
    observed = observations.created(platform)
    by = [{"uid": "something else"}] if path[-1] == "ownerReferences" else "something else"
    changed = observations.overwritten(observed.children[ref], *path, by=by)
    plan = _planned(platform, observations.with_objects(observed, changed))
    if ref.kind == "StatefulSet" and path[-1] in {"podManagementPolicy", "selector", "serviceName"}:
        assert [blocker.reason for blocker in plan.blockers] == [Reason.IMMUTABLE_FIELD]
    else:
        assert str(ref) in _names(plan)


def test_foreign_fields_are_left_alone() -> None:
    platform = observations.a_platform()
    observed = observations.created(platform)
    live = copy.deepcopy(observed.children[STATEFUL_SET])
    live["metadata"]["annotations"] = {"example.org/note": "mine"}
    live["metadata"]["labels"]["example.org/team"] = "mine"
    live["spec"]["template"]["spec"]["containers"].append({"name": "sidecar", "image": "injected"})
    live["spec"]["minReadySeconds"] = 3
    assert _planned(platform, observations.with_objects(observed, live)) == planning.Plan((), ())


def test_field_of_ours_that_is_no_longer_desired_is_removed() -> None:
    platform = observations.a_platform()
    release = observations.a_release(node_selector={"pool": "data"})
    observed = observations.created(platform, release)
    workloads = [*(server.value for server in Server), *(run.name for run in COMPONENTS.values())]
    assert _names(_planned(platform, observed)) == [f"StatefulSet paper-{name}" for name in workloads]


def test_item_of_ours_that_is_no_longer_desired_is_removed() -> None:
    platform = observations.a_platform()
    observed = observations.created(platform)
    with_more = copy.deepcopy(observed.children[STATEFUL_SET])
    pod = with_more["spec"]["template"]["spec"]
    pod["volumes"].append({"name": "old", "emptyDir": {}})
    fields = with_more["metadata"]["managedFields"][1]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]
    fields["f:volumes"]['k:{"name":"old"}'] = {".": {}, "f:name": {}, "f:emptyDir": {}}
    assert _names(_planned(platform, observations.with_objects(observed, with_more))) == [str(STATEFUL_SET)]


def test_removed_item_of_ours_is_restored() -> None:
    platform = observations.a_platform()
    observed = observations.created(platform)
    less = copy.deepcopy(observed.children[STATEFUL_SET])
    del less["spec"]["template"]["spec"]["volumes"][2]
    assert _names(_planned(platform, observations.with_objects(observed, less))) == [str(STATEFUL_SET)]


def test_defaults_within_an_atomic_field_of_ours_are_no_difference() -> None:
    platform = observations.a_platform()
    observed = observations.created(platform)
    live = copy.deepcopy(observed.children[Ref("NetworkPolicy", "paper-postgres")])
    live["spec"]["ingress"][0]["ports"][0]["endPort"] = 5432
    assert _planned(platform, observations.with_objects(observed, live)) == planning.Plan((), ())


@pytest.mark.parametrize(
    ("expected", "live", "fields", "same"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, {"f:a": {}}, True),
        ({"a": 1}, {"a": 2}, {"f:a": {}}, False),
        ({"a": 1}, {"a": 1}, {}, False),
        ({"a": None}, {"b": 1}, {}, True),
        ({"a": {}}, {"a": {}}, {"f:a": {}}, True),
        ({"a": {}}, {}, {"f:a": {}}, False),
        ({"a": {"x": None}}, {"a": {}}, {"f:a": {}}, True),
        ({"a": ["x", "y"]}, {"a": ["y", "z", "x"]}, {"f:a": {'v:"x"': {}, 'v:"y"': {}}}, True),
        ({"a": ["x"]}, {"a": ["x", "y"]}, {"f:a": {'v:"x"': {}, 'v:"y"': {}}}, False),
        ({"a": ["x"]}, {"a": ["x", "y"]}, {"f:a": {}}, False),
        ({"requests": {"cpu": "1"}}, {"requests": {"cpu": "1000m"}}, {"f:requests": {"f:cpu": {}}}, True),
        ({"requests": {"cpu": "1"}}, {"requests": {"cpu": "2"}}, {"f:requests": {"f:cpu": {}}}, False),
        ({"labels": {"v": "1"}}, {"labels": {"v": "1000m"}}, {"f:labels": {"f:v": {}}}, False),
        ({"a": True}, {"a": 1}, {"f:a": {}}, False),
        (
            {"ports": [{"port": 1, "name": "x"}]},
            {"ports": [{"port": 1, "protocol": "TCP", "name": "x"}]},
            {"f:ports": {'k:{"port":1,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:name": {}}}},
            True,
        ),
    ],
)
def test_objects_are_compared_by_owned_fields(expected: Any, live: Any, fields: Any, same: bool) -> None:  # noqa: FBT001
    entry = {"manager": labels.OPERATOR, "operation": "Apply", "fieldsV1": fields}
    named = {"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "x"}}
    live = {**named, **live, "metadata": {"name": "x", "managedFields": [entry]}}
    entry["fieldsV1"] = {**fields, "f:metadata": {}}
    assert comparisons.is_up_to_date({**named, **expected}, live) is same


# Objects that must not be changed.


def _other_object(ref: Ref, **meta: Any) -> Manifest:
    kind = next(kind for kind in child_kinds.KINDS if kind.kind == ref.kind)
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": ref.name, "namespace": "desk", "uid": "u", "resourceVersion": "3", **meta},
        "spec": {},
    }


@pytest.mark.parametrize("ref", desired.child_refs(observations.a_platform()), ids=str)
def test_name_of_a_foreign_object_is_reported_and_left_alone(ref: Ref) -> None:
    platform = observations.a_platform()
    plan = _planned(platform, observations.empty(children={ref: _other_object(ref)}))
    assert str(ref) not in _names(plan)
    (blocker,) = plan.blockers
    assert (blocker.ref, blocker.reason) == (ref, Reason.NAME_TAKEN)
    assert f"kubectl --namespace desk delete {ref.kind.lower()} {ref.name}" in blocker.message


def test_child_of_another_platform_is_foreign() -> None:
    ref = Ref("Service", "paper-nats")
    other = _other_object(ref, labels=labels.for_child(observations.an_owner("live"), "nats"))
    (blocker,) = _planned(observations.a_platform(), observations.empty(children={ref: other})).blockers
    assert "belongs to TradingPlatform live" in blocker.message


def test_object_with_removed_labels_is_still_ours() -> None:
    platform = observations.a_platform()
    observed = observations.created(platform)
    bare = copy.deepcopy(observed.children[STATEFUL_SET])
    bare["metadata"]["labels"] = {}
    plan = _planned(platform, observations.with_objects(observed, bare))
    assert (_names(plan), plan.blockers) == ([str(STATEFUL_SET)], ())


OWNER: Final = observations.an_owner()
REFERENCE: Final = metadata.owner_reference(OWNER)
ACCOUNT: Final = {**REFERENCE, "kind": "TradingAccount", "uid": "account"}


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
    plan = _planned(
        platform, observations.without(observations.with_objects(observed, old), Ref("Service", "paper-kafka"))
    )
    assert _names(plan) == ["Service paper-kafka", "Service paper-old"]
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
    assert _planned(platform, observations.with_objects(observed, old)).actions == ()


def test_data_and_credentials_are_never_deleted() -> None:
    managed, external = observations.a_platform(), observations.an_external_platform()
    plan = _planned(external, dataclasses.replace(observations.created(managed), secrets={}))
    deleted = {action.ref.kind for action in plan.actions if isinstance(action, planning.Delete)}
    assert deleted == {"Service", "NetworkPolicy", "StatefulSet"}


def test_terminating_child_is_awaited() -> None:
    platform = observations.a_platform()
    observed = observations.created(platform)
    leaving = copy.deepcopy(observed.children[STATEFUL_SET])
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    leaving["spec"]["replicas"] = 0
    assert _planned(platform, observations.with_objects(observed, leaving)).actions == ()


# What the API server would reject.


def test_volume_can_grow_and_never_shrinks() -> None:
    before = observations.created(observations.a_platform())
    larger = observations.a_platform(dataPlane={"postgres": {"managed": {"storage": "20Gi"}}})
    smaller = observations.a_platform(dataPlane={"postgres": {"managed": {"storage": "5Gi"}}})
    assert _names(_planned(larger, before)) == [str(CLAIM)]
    plan = _planned(smaller, before)
    assert plan.actions == ()
    (blocker,) = plan.blockers
    assert (blocker.ref, blocker.reason) == (CLAIM, Reason.IMMUTABLE_FIELD)
    assert "spec.dataPlane.postgres.managed.storage (5Gi) to 10Gi or more" in blocker.message


def test_a_claim_that_cannot_shrink_is_still_repaired() -> None:
    smaller = observations.a_platform(dataPlane={"postgres": {"managed": {"storage": "5Gi"}}})
    observed = observations.created(observations.a_platform())
    edited = observations.overwritten(observed.children[CLAIM], "metadata", "labels", labels.COMPONENT, by="other")
    (action,) = _planned(smaller, observations.with_objects(observed, edited)).actions
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
    plan = _planned(platform, observations.with_objects(observed, other))
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


# Components: live settings, and the upgrade from the release before components.


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
    plan = _planned(edited, before)
    assert _names(plan) == [
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
    plan = _planned(observations.a_platform(components={"ingest": {"replicas": 3}}), before)
    assert _names(plan) == [
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
    plan = _planned(observations.a_platform(), before)
    assert _names(plan)[-1] == "PodDisruptionBudget paper-ingest"
    assert isinstance(plan.actions[-1], planning.Delete)


@pytest.mark.parametrize("notes", [{}, {labels.SETTINGS: "of-before"}, {"example.org/note": "mine"}])
def test_pod_without_the_newest_settings_is_synced(notes: dict[str, str]) -> None:
    platform = observations.a_platform()
    observed = _with_pods(observations.created(platform), {"annotations": notes})
    (action,) = _planned(platform, observed).actions
    assert isinstance(action, planning.SyncConfig)
    assert (action.pod, action.uid) == ("paper-ingest-0", "uid-of-Pod-paper-ingest-0")


@pytest.mark.parametrize(
    "change", [{"deletionTimestamp": "2026-01-01T00:00:00Z"}, {"ownerReferences": [{"uid": "of another"}]}]
)
def test_terminating_or_foreign_pod_is_not_synced(change: dict[str, Any]) -> None:
    platform = observations.a_platform()
    assert _planned(platform, _with_pods(observations.created(platform), {"annotations": {}, **change})).actions == ()


def test_config_map_without_a_digest_syncs_no_pod() -> None:
    platform = observations.a_platform()
    observed = _with_pods(observations.created(platform), {"annotations": {}})
    expected = desired.children(platform, observed, observations.a_release(), observations.tokens("n"))
    (config,) = [one for one in expected if one["kind"] == "ConfigMap"]
    del config["metadata"]["annotations"]
    assert _names(planning.plan(expected, observed, platform.owner)) == ["ConfigMap paper-ingest-settings"]


def test_pods_are_not_synced_to_foreign_settings() -> None:
    platform = observations.a_platform()
    theirs = Ref("ConfigMap", "paper-ingest-settings")
    observed = observations.with_objects(
        _with_pods(observations.created(platform), {"annotations": {}}), _other_object(theirs)
    )
    plan = _planned(platform, observed)
    assert (plan.actions, [one.reason for one in plan.blockers]) == ((), [Reason.NAME_TAKEN])


def test_workload_lists_the_objects_its_pods_require() -> None:
    children = observations.created(observations.an_external_platform()).children
    assert {str(ref) for ref in planning.required_refs(children[Ref("StatefulSet", "paper-ingest")])} == {
        "ConfigMap paper-ingest-settings", "Secret my-kafka", "Secret my-nats", "Secret paper-postgres-ingest",
    }  # fmt: skip
    managed = observations.created(observations.a_platform()).children
    assert planning.required_refs(managed[STATEFUL_SET]) == {Ref("Secret", "paper-postgres")}
    assert planning.required_refs(managed[Ref("Service", "paper-ingest")]) == frozenset()


NEW_LABELS = {
    labels.OWNER_KIND, labels.OWNER_NAME, labels.NAME, labels.INSTANCE, labels.PART_OF, labels.VERSION,
}  # fmt: skip
"""The labels that releases before owner labels did not set."""


def _without_new_labels(manifest: Manifest) -> Manifest:
    """A manifest as a release before owner labels would have applied it."""
    old = copy.deepcopy(manifest)
    template = old.get("spec", {}).get("template", {})
    for meta in (old["metadata"], *([template["metadata"]] if template else [])):
        meta["labels"] = {name: value for name, value in meta["labels"].items() if name not in NEW_LABELS}
    return old


def _changed_beyond_labels(plan: planning.Plan) -> set[str]:
    """The children that an upgrade changes in more than the new labels."""
    assert all(isinstance(action, planning.Apply) for action in plan.actions)
    changed = [one for one in plan.actions if isinstance(one, planning.Apply) and one.live is not None]
    return {
        str(kinds.ref(one.manifest))
        for one in changed
        if one.live and not comparisons.is_up_to_date(_without_new_labels(one.manifest), one.live)
    }


def _with_new_probe(recorded: Manifest) -> Manifest:
    """The object as if its release had probed the readiness of components each second."""
    changed = copy.deepcopy(recorded)
    for container in changed.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ()):
        if "httpGet" in container["readinessProbe"]:
            container["readinessProbe"] |= {"periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 15}
    return changed


def test_upgrade_over_the_last_release_changes_labels_and_probes_only() -> None:
    recorded = observations.recorded("before-owner-labels-platform")[0]
    platform = observations.a_platform(**recorded["spec"])
    before = [_with_new_probe(one) for one in observations.recorded("before-owner-labels")]
    children = {kinds.ref(one): observations.stored(one) for one in before}
    secrets_of_users = observations.user_secrets(platform)
    plan = _planned(platform, observations.empty(children=children, secrets=secrets_of_users))
    assert plan.blockers == ()
    assert {str(ref) for ref in children} <= set(_names(plan)), "each gets its owner's labels"
    new = [row for row in COMPONENTS.values() if Ref("StatefulSet", f"{platform.name}-{row.name}") not in children]
    admitted = {server for row in new for server in row.servers} & set(child_refs.managed_servers(platform))
    assert _changed_beyond_labels(plan) == {f"NetworkPolicy {platform.name}-{server}" for server in admitted}
    for action in plan.actions:
        assert isinstance(action, planning.Apply)
        assert NEW_LABELS - {labels.VERSION} <= action.manifest["metadata"]["labels"].keys()
        template = action.manifest.get("spec", {}).get("template")
        if template is not None:
            assert template["metadata"]["labels"].keys() >= NEW_LABELS - {labels.VERSION}
            assert labels.VERSION not in template["metadata"]["labels"], "no release restarts every pod"
            assert action.manifest["metadata"]["labels"][labels.VERSION] == "1"


def test_status_of_the_last_release_is_computed_again_unchanged() -> None:
    recorded = observations.recorded("before-owner-labels-platform")[0]
    platform = observations.a_platform(**recorded["spec"])
    before = recorded["status"]
    known = {one["type"]: one["message"] for one in before["conditions"]}
    topics = TopicsReport(reason=Reason.READY, topics=tuple(known["TopicsReady"].split(", ")))
    observed = dataclasses.replace(observations.healthy(platform), topics=topics)
    computed = evaluations.status_of(evaluations.inputs(platform, observed), before)
    of_new_parts = {
        "conditions": [one for one in computed["conditions"] if one["type"] in known],
        "readyParts": before["readyParts"] if len(computed["conditions"]) > len(known) else computed["readyParts"],
        "applied": {
            **computed["applied"],
            "components": {one: computed["applied"]["components"][one] for one in before["applied"]["components"]},
        },
    }
    assert {**computed, **of_new_parts} == before, "but for components that this release did not have"


def test_upgrade_from_before_components_adds_them_and_deletes_nothing() -> None:
    before = observations.previous_release()
    platform = observations.a_platform()
    plan = _planned(platform, before)
    assert plan.blockers == ()
    new = {ref for ref in desired.child_refs(platform) if ref not in before.children}
    assert {str(ref) for ref in (*before.children, *new)} == set(_names(plan))
    # Policies admit ingest, Services become dual-stack; of the others only labels are changed.
    assert _changed_beyond_labels(plan) == {f"NetworkPolicy paper-{one}" for one in ("kafka", "nats", "postgres")} | {
        f"Service paper-{server.value}" for server in Server
    }
    assert {ref.kind for ref in new} >= {
        "ConfigMap", "NetworkPolicy", "PersistentVolumeClaim", "Service", "StatefulSet",
    }  # fmt: skip


def test_journal_volume_never_shrinks_and_names_the_field() -> None:
    larger = observations.created(observations.a_platform(components={"exchangeSim": {"storage": "2Gi"}}))
    (blocker,) = _planned(observations.a_platform(), larger).blockers
    assert blocker.reason is Reason.IMMUTABLE_FIELD
    assert "set spec.components.exchangeSim.storage (1Gi) to 2Gi or more" in blocker.message


def test_shrinking_claim_of_a_kind_without_storage_fields_is_reported() -> None:
    larger = observations.created(observations.a_platform(components={"exchangeSim": {"storage": "2Gi"}}))
    platform = observations.a_platform()
    expected = desired.children(platform, larger, observations.a_release(), observations.tokens("n"))
    (blocker,) = planning.plan(expected, larger, platform.owner).blockers
    assert "cannot shrink: set its size (1Gi) to 2Gi or more" in blocker.message


def test_pods_need_what_their_projected_volumes_name() -> None:
    sources = [{"configMap": {"name": "a"}}, {"secret": {"name": "b"}}, {"serviceAccountToken": {"path": "t"}}]
    manifest: Manifest = {
        "kind": "StatefulSet",
        "spec": {"template": {"spec": {"volumes": [{"name": "all", "projected": {"sources": sources}}]}}},
    }
    assert planning.required_refs(manifest) == {Ref("ConfigMap", "a"), Ref("Secret", "b")}
    assert planning.required_refs({"kind": "StatefulSet", "spec": {"template": {"spec": {}}}}) == frozenset()
