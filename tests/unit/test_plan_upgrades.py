"""Plans: an upgrade from an earlier release, whose children were recorded."""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING

from aether_operator import desired, planning
from aether_operator.api import labels
from aether_operator.api.platforms import Server
from aether_operator.api.reasons import Reason
from aether_operator.catalog.components import COMPONENTS
from aether_operator.observed import child_refs, kinds
from aether_operator.observed.kinds import Ref
from aether_operator.observed.reports import TopicsReport
from aether_operator.planning import comparisons
from aether_testing.values import evaluations, observations, plans

if TYPE_CHECKING:
    from aether_operator.observed.kinds import Manifest


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
    plan = plans.planned(platform, observations.empty(children=children, secrets=secrets_of_users))
    assert plan.blockers == ()
    assert {str(ref) for ref in children} <= set(plans.names(plan)), "each gets its owner's labels"
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
    plan = plans.planned(platform, before)
    assert plan.blockers == ()
    new = {ref for ref in desired.child_refs(platform) if ref not in before.children}
    assert {str(ref) for ref in (*before.children, *new)} == set(plans.names(plan))
    # Policies admit ingest, Services become dual-stack; of the others only labels are changed.
    assert _changed_beyond_labels(plan) == {f"NetworkPolicy paper-{one}" for one in ("kafka", "nats", "postgres")} | {
        f"Service paper-{server.value}" for server in Server
    }
    assert {ref.kind for ref in new} >= {
        "ConfigMap", "NetworkPolicy", "PersistentVolumeClaim", "Service", "StatefulSet",
    }  # fmt: skip
