"""Plans: which actions follow from desired and observed state, field by field, and which never do."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from aether_operator import desired, planning
from aether_operator.api import labels
from aether_operator.api.platforms import Platform, Server
from aether_operator.api.reasons import Reason
from aether_operator.catalog.components import COMPONENTS
from aether_operator.controllers.platforms import PlatformReconciler
from aether_operator.observed.kinds import Ref
from aether_operator.planning import child_kinds, comparisons
from aether_testing.values import observations, plans

if TYPE_CHECKING:
    from collections.abc import Iterator


STATEFUL_SET = Ref("StatefulSet", "paper-postgres")


def test_empty_namespace_gets_every_child_in_the_order_of_kinds() -> None:
    plan = plans.planned(observations.a_platform(), observations.empty())
    order = [kind.kind for kind in child_kinds.KINDS]
    places = [order.index(name.split()[0]) for name in plans.names(plan)]
    assert len(places) == len(desired.child_refs(observations.a_platform()))
    assert places == sorted(places)
    assert plan.blockers == ()


@pytest.mark.parametrize("platform", [observations.a_platform(), observations.an_external_platform()])
def test_unchanged_observation_is_left_alone(platform: Platform) -> None:
    assert plans.planned(platform, observations.created(platform)) == planning.Plan((), ())


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
    plan = plans.planned(platform, observations.with_objects(observed, changed))
    if ref.kind == "StatefulSet" and path[-1] in {"podManagementPolicy", "selector", "serviceName"}:
        assert [blocker.reason for blocker in plan.blockers] == [Reason.IMMUTABLE_FIELD]
    else:
        assert str(ref) in plans.names(plan)


def test_foreign_fields_are_left_alone() -> None:
    platform = observations.a_platform()
    observed = observations.created(platform)
    live = copy.deepcopy(observed.children[STATEFUL_SET])
    live["metadata"]["annotations"] = {"example.org/note": "mine"}
    live["metadata"]["labels"]["example.org/team"] = "mine"
    live["spec"]["template"]["spec"]["containers"].append({"name": "sidecar", "image": "injected"})
    live["spec"]["minReadySeconds"] = 3
    assert plans.planned(platform, observations.with_objects(observed, live)) == planning.Plan((), ())


def test_field_of_ours_that_is_no_longer_desired_is_removed() -> None:
    platform = observations.a_platform()
    release = observations.a_release(node_selector={"pool": "data"})
    observed = observations.created(platform, release)
    workloads = [*(server.value for server in Server), *(run.name for run in COMPONENTS.values())]
    assert plans.names(plans.planned(platform, observed)) == [f"StatefulSet paper-{name}" for name in workloads]


def test_item_of_ours_that_is_no_longer_desired_is_removed() -> None:
    platform = observations.a_platform()
    observed = observations.created(platform)
    with_more = copy.deepcopy(observed.children[STATEFUL_SET])
    pod = with_more["spec"]["template"]["spec"]
    pod["volumes"].append({"name": "old", "emptyDir": {}})
    fields = with_more["metadata"]["managedFields"][1]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]
    fields["f:volumes"]['k:{"name":"old"}'] = {".": {}, "f:name": {}, "f:emptyDir": {}}
    assert plans.names(plans.planned(platform, observations.with_objects(observed, with_more))) == [str(STATEFUL_SET)]


def test_removed_item_of_ours_is_restored() -> None:
    platform = observations.a_platform()
    observed = observations.created(platform)
    less = copy.deepcopy(observed.children[STATEFUL_SET])
    del less["spec"]["template"]["spec"]["volumes"][2]
    assert plans.names(plans.planned(platform, observations.with_objects(observed, less))) == [str(STATEFUL_SET)]


def test_defaults_within_an_atomic_field_of_ours_are_no_difference() -> None:
    platform = observations.a_platform()
    observed = observations.created(platform)
    live = copy.deepcopy(observed.children[Ref("NetworkPolicy", "paper-postgres")])
    live["spec"]["ingress"][0]["ports"][0]["endPort"] = 5432
    assert plans.planned(platform, observations.with_objects(observed, live)) == planning.Plan((), ())


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
