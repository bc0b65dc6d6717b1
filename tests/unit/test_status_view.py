"""The output of `aether status` and `aether explain` for given objects."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from aether_cli import explanation, status_view
from aether_operator.api.platform_definition import DEFINITION
from aether_testing.values.widgets import WIDGET, WITH_WIDGETS

UID = "0000-1111"


def a_condition(kind: str, status: str, reason: str, message: str = "") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


READY = a_condition("Ready", "True", "Ready")
WAITING = a_condition("Ready", "False", "SecretMissing", "Secret paper-redis does not exist")


def a_platform(*conditions: dict[str, Any], **status: Any) -> dict[str, Any]:
    return {
        "kind": "TradingPlatform",
        "metadata": {"namespace": "aether", "name": "paper", "uid": UID, "generation": 2},
        "spec": {"venue": {"name": "Simulated"}},
        "status": {"observedGeneration": 2, "conditions": list(conditions), **status},
    }


def an_operator(available: int = 2) -> dict[str, Any]:
    meta = {"namespace": "aether-system", "name": "aether-operator"}
    return {"metadata": meta, "spec": {"replicas": 2}, "status": {"availableReplicas": available}}


def a_lease(holder: str) -> dict[str, Any]:
    meta = {"namespace": "aether-system", "name": "aether-operator"}
    return {"metadata": meta, "spec": {"holderIdentity": holder}}


def shown(lines: Any) -> str:
    return "\n".join(Text.from_markup(line).plain for line in lines)


def test_healthy_platform_is_one_page() -> None:
    platform = a_platform(
        READY,
        a_condition("Stalled", "False", "Ready"),
        a_condition("Warning", "True", "EvaluationOnly", "one node, not for production"),
        endpoints={
            "postgres": {"host": "paper-postgres.aether.svc", "port": 5432, "database": "aether", "secretName": "s"}
        },
        servers={"postgres": {"version": "15.14"}},
        schema={"revision": "0001", "engine": "pg_partman", "tradesDays": 90},
    )
    state = status_view.AetherState(
        deployments=[an_operator()], leases=[a_lease("aether-operator-x_17")], platforms=[platform]
    )
    assert state.healthy
    assert shown(status_view.status_lines(state)).splitlines() == [
        "Operator  namespace aether-system: 2 of 2 replicas, leader aether-operator-x",
        "TradingPlatform paper  namespace aether, venue Simulated, feed Synthetic",
        "  Ready          True Ready",
        "  Warning        True EvaluationOnly  one node, not for production",
        "  postgres  paper-postgres.aether.svc:5432/aether, Secret s  15.14",
        "  schema    revision 0001, pg_partman, trades for 90 days",
    ]


def test_an_ipv6_address_is_shown_in_brackets() -> None:
    platform = a_platform(READY, endpoints={"nats": {"host": "2001:db8::7", "port": 4222, "secretName": "s"}})
    state = status_view.AetherState(
        deployments=[an_operator()], leases=[a_lease("aether-operator-x_17")], platforms=[platform]
    )
    assert shown(status_view.status_lines(state)).splitlines()[-1] == "  nats      [2001:db8::7]:4222, Secret s"


def test_missing_leader_replica_or_platform_status_is_unhealthy() -> None:
    state = status_view.AetherState(
        deployments=[an_operator(1)], leases=[a_lease("")], platforms=[{"metadata": {**a_platform()["metadata"]}}]
    )
    assert not state.healthy
    page = shown(status_view.status_lines(state))
    assert "1 of 2 replicas, no leader" in page
    assert "no status yet" in page


def test_unmanaged_platform_is_not_healthy() -> None:
    left = status_view.AetherState(platforms=[a_platform(READY)])
    assert not left.healthy
    assert "platforms are not reconciled" in shown(status_view.status_lines(left))
    unled = status_view.AetherState(deployments=[an_operator()], leases=[a_lease("")], platforms=[a_platform(READY)])
    assert not unled.healthy
    edited = a_platform(READY)
    edited["metadata"]["generation"] = 3
    assert not status_view.is_ready(edited)


def test_nothing_is_printed_without_objects() -> None:
    assert list(status_view.status_lines(status_view.AetherState())) == []
    assert status_view.AetherState().healthy


def test_cluster_without_our_kinds_is_reported_as_without_aether() -> None:
    state = status_view.AetherState(installed=False)
    assert (
        shown(status_view.status_lines(state)) == "  Aether is not installed: the cluster has no kind TradingPlatform"
    )
    assert state.record()["installed"] is False


def test_json_has_the_leader_and_each_complete_status() -> None:
    platform = a_platform(READY)
    state = status_view.AetherState(deployments=[an_operator()], leases=[a_lease("pod-a_1")], platforms=[platform])
    record = state.record()
    assert record["operators"][0]["leader"] == "pod-a"
    assert record["platforms"] == [
        {
            "namespace": "aether", "name": "paper", "venue": {"name": "Simulated", "feed": "Synthetic"},
            "generation": 2, "reconciled": True, "status": platform["status"],
        }
    ]  # fmt: skip


def test_each_missing_item_is_named_once_with_meaning_and_remedy() -> None:
    text = shown(
        explanation.explanation_lines(
            a_platform(
                WAITING,
                a_condition("Reconciling", "True", "SecretMissing", "Secret paper-redis does not exist"),
                a_condition("RedisReady", "False", "SecretMissing", "Secret paper-redis does not exist"),
                a_condition("KafkaReady", "True", "Ready"),
            ),
            [],
        )
    )
    assert "is being reconciled" in text
    assert text.count("Secret paper-redis does not exist") == 1
    assert "A Secret that the spec names does not exist in this namespace." in text
    assert "What to do:" in text
    assert "KafkaReady" not in text


def test_stalled_platform_needs_a_person() -> None:
    conditions = (
        a_condition("Ready", "False", "InvalidSpec", "spec.x"),
        a_condition("Stalled", "True", "InvalidSpec", "spec.x"),
    )
    assert "only a change by a person" in shown(explanation.explanation_lines(a_platform(*conditions), []))


def test_unobserved_edit_is_reported() -> None:
    platform = a_platform(READY)
    platform["metadata"]["generation"] = 3
    assert "no operator has reconciled the edit yet" in shown(explanation.explanation_lines(platform, []))
    page = shown(status_view.status_lines(status_view.AetherState(deployments=[an_operator()], platforms=[platform])))
    text = "not yet reconciled  generation 3, the status is of generation 2"
    assert f"  Ready          Unknown {text}" in page
    assert "True Ready" not in page


def test_forbidden_resources_are_named_and_do_not_affect_health() -> None:
    unreadable = [
        status_view.UnreadableResource(resource="leases", namespace="aether-system"),
        status_view.UnreadableResource(resource="nodes"),
    ]
    state = status_view.AetherState(deployments=[an_operator()], platforms=[a_platform(READY)], unreadable=unreadable)
    assert state.healthy
    page = shown(status_view.status_lines(state))
    assert "2 of 2 replicas, leader unknown" in page
    assert page.endswith("Not shown: forbidden to you  leases in namespace aether-system; nodes")
    hidden = status_view.AetherState(
        platforms=[a_platform(READY)],
        unreadable=[status_view.UnreadableResource(resource="deployments", namespace="s")],
    )
    assert hidden.healthy
    assert "platforms are not reconciled" not in shown(status_view.status_lines(hidden))
    assert not status_view.AetherState(
        deployments=[an_operator(1)], platforms=[a_platform(READY)], unreadable=unreadable
    ).healthy


def test_unready_pod_is_not_healthy() -> None:
    done, waiting = {"status": {"phase": "Succeeded"}}, {"status": {"phase": "Pending", "conditions": None}}
    assert status_view.AetherState(pods=[done]).healthy
    assert status_view.AetherState(pods=[done, waiting]).unhealthy_pods == [waiting]
    assert not status_view.AetherState(pods=[waiting]).healthy


def test_unknown_venue_is_shown_unchanged() -> None:
    platform = a_platform(READY)
    platform["spec"] = {"venue": {"name": "Elsewhere", "feed": "Odd"}}
    assert status_view.venues([platform]) == "venue Elsewhere, feed Odd"
    assert status_view.venues([]) == "no platform"
    assert status_view.venue({"spec": {}}) == {"name": "unknown", "feed": "unknown"}


def test_failed_reconcile_missing_from_the_status_is_reported() -> None:
    """The status still says Ready; the newest event says that the reconcile failed."""
    failed = {"eventTime": "2026-11-24T10:00:05Z", "reason": "ReconcileFailed", "note": "Refused: 422"}
    ready = {"eventTime": "2026-11-24T10:00:00Z", "reason": "Ready", "note": "n"}
    text = shown(explanation.explanation_lines(a_platform(READY), [failed, ready]))
    assert "A reconcile failed at 2026-11-24T10:00:05" in text
    assert "What to do: Read the message, and the operator's log" in text
    again = {"eventTime": "2026-11-24T10:00:09Z", "reason": "Reconciled", "note": "n"}
    assert "A reconcile failed" not in shown(explanation.explanation_lines(a_platform(READY), [failed, ready, again]))


def test_platform_without_a_watching_operator_is_reported() -> None:
    platform = {**a_platform(), "status": {}}
    assert "no operator has reconciled it yet" in shown(explanation.explanation_lines(platform, []))


def test_newest_events_are_shown_in_order_of_time() -> None:
    events = [{"eventTime": f"2026-11-24T10:00:0{n}Z", "reason": f"R{n}", "note": "n"} for n in (7, 1, 3, 2, 5, 4)]
    text = shown(explanation.explanation_lines(a_platform(READY), events))
    assert [line.split()[1] for line in text.splitlines() if line.startswith("    2026")] == [
        "R2:",
        "R3:",
        "R4:",
        "R5:",
        "R7:",
    ]


def test_reason_of_a_newer_operator_is_shown_as_unknown() -> None:
    text = shown(explanation.explanation_lines(a_platform(a_condition("Ready", "False", "FromTheFuture")), []))
    assert "older than the operator" in text


def test_kinds_have_kubectls_names() -> None:
    assert (
        status_view.parse_target("tp/paper")
        == status_view.parse_target("TradingPlatform/paper")
        == (DEFINITION, "paper")
    )
    assert status_view.parse_target("tradingplatform.trading.aether.io/paper") == (DEFINITION, "paper")
    assert status_view.parse_target("tradingplatform.apps/paper") is None
    assert status_view.parse_target("paper") is None
    assert status_view.parse_target("pod/x") is None
    assert status_view.parse_target("tp/") is None
    assert status_view.parse_target("wd/small") is None
    assert status_view.parse_target("wd/small", WITH_WIDGETS) == (WIDGET, "small")


def a_widget(*conditions: dict[str, Any], generation: int = 1) -> dict[str, Any]:
    meta = {"namespace": "aether", "name": "small", "uid": UID, "generation": generation}
    return {
        "kind": "Widget",
        "metadata": meta,
        "spec": {"size": 2},
        "status": {"observedGeneration": 1, "conditions": list(conditions), "applied": {}},
    }


def test_objects_of_other_kinds_are_listed_after_platforms() -> None:
    waits = a_condition("Ready", "False", "Progressing", "it dries")
    state = status_view.AetherState(
        deployments=[an_operator()],
        leases=[a_lease("aether-operator-x_17")],
        platforms=[a_platform(READY)],
        others=[a_widget(waits, a_condition("Stalled", "False", "Ready"))],
    )
    assert not state.healthy
    assert shown(status_view.status_lines(state)).splitlines()[1:] == [
        "TradingPlatform paper  namespace aether, venue Simulated, feed Synthetic",
        "  Ready          True Ready",
        "Widget small  namespace aether",
        "  Ready          False Progressing  it dries",
    ]
    (record,) = state.record()["others"]
    assert (record["kind"], record["name"], record["reconciled"]) == ("Widget", "small", True)


def test_objects_without_an_operator_are_not_healthy() -> None:
    left = status_view.AetherState(others=[a_widget(READY)])
    assert not left.healthy
    assert "objects are not reconciled" in shown(status_view.status_lines(left))
    assert not status_view.is_ready(a_widget(READY, generation=2))


def test_another_kind_is_explained_like_a_platform() -> None:
    lines = shown(explanation.explanation_lines(a_widget(a_condition("Ready", "False", "NameTaken", "taken")), []))
    assert lines.startswith("Widget small in namespace aether is not Ready.")
    assert "NameTaken  An object that does not belong to it" in lines
