"""Conditions of components: the venue and ingest, with messages that name pods, pairs and outputs."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from aether_operator.api.platforms import Server
from aether_operator.api.reasons import Reason
from aether_operator.catalog.components import COMPONENTS, Component
from aether_operator.observed.components import expected
from aether_operator.observed.kinds import Ref
from aether_operator.observed.server_owners import Ownership
from aether_operator.status import components
from aether_operator.status.components import ingest
from aether_operator.status.components.ingest import IngestReport
from aether_testing.values import evaluations, observations

if TYPE_CHECKING:
    from aether_operator.api.platforms import Platform
    from aether_operator.observed.platforms import ObservedPlatform

SPEC: Final[dict[str, Any]] = {"pairs": ["BTC/USD", "ETH/USD"], "components": {"ingest": {"replicas": 2}}}
KRAKEN: Final[dict[str, Any]] = {**SPEC, "venue": {"name": "Kraken"}}
SET: Final = Ref("StatefulSet", "paper-ingest")
FIRST, SECOND, EXCHANGE = "paper-ingest-0", "paper-ingest-1", "paper-exchange-0"


def _conditions(platform: Platform, observed: ObservedPlatform) -> dict[str, tuple[str, str, str]]:
    """Condition → its status, reason and message."""
    result = evaluations.status_of(evaluations.inputs(platform, observed))
    return {one["type"]: (one["status"], one["reason"], one["message"]) for one in result["conditions"]}


def _healthy(**spec: Any) -> tuple[Platform, ObservedPlatform]:
    platform = observations.a_platform(**{**SPEC, **spec})
    return platform, observations.healthy(platform)


def test_healthy_message_is_stable() -> None:
    result = _conditions(*_healthy())
    assert result["VenueReady"] == ("True", Reason.READY, "Simulated, online")
    assert result["IngestReady"] == ("True", Reason.READY, "2 markets on 2 replicas")
    assert _conditions(*_healthy(venue={"name": "Kraken"}))["VenueReady"] == ("True", Reason.READY, "Kraken, online")


def test_components_are_unknown_before_anything_runs() -> None:
    found = components.evaluate(None, observations.created(observations.a_platform()))
    assert {one.type: one.truth for one in found.conditions} == {
        row.condition: "Unknown" for row in COMPONENTS.values()
    }
    assert found.findings == ()


def test_pair_is_ready_with_a_usable_book_on_some_replica() -> None:
    platform, observed = _healthy()
    assert ingest.ready_pairs(platform, observed) == "2/2"
    books = {"BTC/USD": "Resyncing", "ETH/USD": ""}
    observed = observations.with_report(observed, "paper-ingest-0", books=books)
    observed = observations.with_report(observed, "paper-ingest-1", books={"BTC/USD": "Resyncing"})
    assert ingest.ready_pairs(platform, observed) == "1/2"
    assert ingest.ready_pairs(platform, observations.created(platform)) == "0/2"


def test_ingest_that_waits_for_an_owner_names_the_servers() -> None:
    platform, observed = _healthy()
    owners = {**observed.owners, Server.KAFKA: Ownership.UNCLAIMED, Server.NATS: Ownership.UNKNOWN}
    result = _conditions(platform, dataclasses.replace(observations.without(observed, SET), owners=owners))
    message = "it is not started until it is confirmed that kafka, nats belong to this platform"
    assert result["IngestReady"] == ("Unknown", Reason.PROGRESSING, message)
    assert _conditions(platform, dataclasses.replace(observed, owners=owners))["IngestReady"][0] == "True", (
        "it runs already"
    )


def test_a_pair_that_one_replica_serves_is_served() -> None:
    platform, observed = _healthy()
    observed = observations.with_report(observed, FIRST, books={"BTC/USD": ""})
    assert (
        _conditions(platform, observations.with_report(observed, SECOND, books={"ETH/USD": ""}))["IngestReady"][0]
        == "True"
    )
    bad = observations.with_report(observed, SECOND, books={"BTC/USD": "Resyncing", "ETH/USD": "Resyncing"})
    assert _conditions(platform, bad)["IngestReady"] == ("False", Reason.BOOK_UNUSABLE, "ETH/USD: Resyncing")


def test_channel_silent_on_every_replica_is_named_with_its_pair() -> None:
    platform, observed = _healthy()
    both = {"BTC/USD": "", "ETH/USD": ""}
    observed = observations.with_report(
        observed, FIRST, books=both, silent={"BTC/USD": ("ticker", "trade"), "ETH/USD": ("trade",)}
    )
    result = _conditions(
        platform, observations.with_report(observed, SECOND, books=both, silent={"BTC/USD": ("trade",)})
    )
    assert result["IngestReady"] == ("False", Reason.CHANNEL_SILENT, "BTC/USD: silent: trade")
    assert _conditions(platform, observations.with_report(observed, SECOND, books=both))["IngestReady"][0] == "True"


def test_message_of_a_contradicted_book_is_stable_for_silent_channels() -> None:
    platform, observed = _healthy()
    silent = {"BTC/USD": ("book",)}
    observed = observations.with_report(observed, SECOND, books={"ETH/USD": ""})
    result = [
        _conditions(platform, observations.with_report(observed, FIRST, books={"BTC/USD": why}, silent=silent))[
            "IngestReady"
        ]
        for why in ("Contradicted", "")
    ]
    assert result == [("False", Reason.CHANNEL_SILENT, "BTC/USD: silent: book")] * 2
    mismatch = observations.with_report(observed, FIRST, books={"BTC/USD": "ChecksumMismatch"}, silent=silent)
    assert _conditions(platform, mismatch)["IngestReady"] == (
        "False", Reason.BOOK_UNUSABLE, "BTC/USD: ChecksumMismatch; BTC/USD: silent: book",
    )  # fmt: skip


def test_unserved_pair_is_named() -> None:
    platform, observed = _healthy()
    for pod in (FIRST, SECOND):
        observed = observations.with_report(observed, pod, books={"BTC/USD": ""})
    result = _conditions(platform, observed)
    assert result["IngestReady"] == ("False", Reason.BOOK_UNUSABLE, "ETH/USD: NotServed")
    assert result["Ready"] == ("False", Reason.BOOK_UNUSABLE, "ingest: ETH/USD: NotServed")


def test_unknown_pair_needs_a_person_and_comes_first() -> None:
    platform, observed = _healthy()
    for pod in (FIRST, SECOND):
        observed = observations.with_report(observed, pod, books={"BTC/USD": "Resyncing", "ETH/USD": "UnknownPair"})
    result = _conditions(platform, observed)
    assert result["IngestReady"] == ("False", Reason.UNKNOWN_PAIR, "ETH/USD: UnknownPair; BTC/USD: Resyncing")
    assert result["Stalled"][:2] == ("True", Reason.UNKNOWN_PAIR)


def test_pair_whose_trades_are_withheld_is_named_with_the_cause() -> None:
    platform, observed = _healthy()
    observed = observations.with_report(observed, SECOND, trades={"ETH/USD": "trade 7: its time is ahead of our clock"})
    assert _conditions(platform, observed)["IngestReady"] == (
        "False", Reason.TRADES_INVALID, "ETH/USD: trade 7: its time is ahead of our clock",
    )  # fmt: skip


def test_failing_output_is_named_once_with_its_pods() -> None:
    platform, observed = _healthy()
    for pod in (FIRST, SECOND):
        observed = observations.with_report(
            observed, pod, outputs={"kafka": "no broker answers", "nats": "", "tables": ""}
        )
    assert _conditions(platform, observed)["IngestReady"] == (
        "False", Reason.OUTPUT_FAILED, f"kafka: no broker answers ({FIRST}, {SECOND})",
    )  # fmt: skip
    one = observations.with_report(observed, SECOND, outputs={"kafka": "", "nats": "", "tables": ""})
    assert _conditions(platform, one)["IngestReady"][2] == f"kafka: no broker answers ({FIRST})"


def test_replica_with_older_settings_is_awaited_and_its_books_ignored() -> None:
    platform, observed = _healthy()
    result = _conditions(
        platform, observations.with_report(observed, SECOND, settings="of-before", books={"BTC/USD": "UnknownPair"})
    )
    assert result["IngestReady"] == (
        "False", Reason.PROGRESSING, f"Pod {SECOND} does not follow the newest settings yet",
    )  # fmt: skip
    assert result["Reconciling"][0] == "True"


def test_unresponsive_pod_is_named_and_an_unqueried_one_is_unknown() -> None:
    platform, observed = _healthy()
    unqueried = observations.with_report(observed, SECOND, reason=Reason.UNREACHABLE, message="no response within 3 s")
    assert _conditions(platform, unqueried)["IngestReady"] == (
        "False", Reason.UNREACHABLE, f"Pod {SECOND}: no response within 3 s",
    )  # fmt: skip
    unqueried = dataclasses.replace(
        observed,
        component_reports={EXCHANGE: observed.component_reports[EXCHANGE], FIRST: observed.component_reports[FIRST]},
    )
    assert _conditions(platform, unqueried)["IngestReady"] == (
        "Unknown", Reason.PROGRESSING, f"Pod {SECOND}: not queried yet",
    )  # fmt: skip


def test_component_with_a_failing_check_reports_it_itself() -> None:
    platform, observed = _healthy()
    result = _conditions(
        platform, observations.with_report(observed, EXCHANGE, ready=False, failing={"journal": "disk full"})
    )
    assert result["VenueReady"] == ("False", Reason.FAILED, f"Pod {EXCHANGE}: journal: disk full")


def test_unavailable_venue_is_the_only_cause_that_ingest_reports() -> None:
    platform, observed = _healthy()
    observed = observations.without(observed, Ref("StatefulSet", "paper-exchange"))
    for pod in (FIRST, SECOND):
        observed = observations.with_report(
            observed, pod, disconnected="refused", books={"BTC/USD": "NoFeed", "ETH/USD": "NoFeed"}
        )
    result = _conditions(platform, observed)
    assert result["VenueReady"][:2] == ("False", Reason.PROGRESSING)
    assert result["IngestReady"] == ("Unknown", Reason.PROGRESSING, "waiting for the venue")
    assert result["Ready"][2] == "venue: StatefulSet paper-exchange does not exist yet"


def _not_ready(observed: ObservedPlatform, name: str) -> ObservedPlatform:
    live = copy.deepcopy(observed.children[Ref("StatefulSet", name)])
    live["status"] |= {"readyReplicas": 0, "availableReplicas": 0}
    return observations.with_objects(observed, live)


@pytest.mark.parametrize("component", Component)
def test_failing_check_of_any_component_is_named_even_while_unready(component: Component) -> None:
    platform, row = observations.a_platform(), COMPONENTS[component]
    (pod,) = expected(component, platform)
    observed = observations.with_report(observations.healthy(platform), pod, ready=False, failing={"it": "has no disk"})
    named = ("False", Reason.FAILED, f"Pod {pod}: it: has no disk")
    assert _conditions(platform, observed)[row.condition] == named
    assert _conditions(platform, _not_ready(observed, f"paper-{row.name}"))[row.condition] == named


@pytest.mark.parametrize("component", Component)
def test_unready_or_silent_pod_of_any_component_is_named(component: Component) -> None:
    platform, row = observations.a_platform(), COMPONENTS[component]
    healthy, (pod,) = observations.healthy(platform), expected(component, platform)
    unready = _conditions(platform, _not_ready(healthy, f"paper-{row.name}"))[row.condition]
    assert unready == ("False", Reason.ROLLING_OUT, f"StatefulSet paper-{row.name} has 0 of 1 pods ready")
    silent = observations.with_report(healthy, pod, reason=Reason.UNREACHABLE, message="no response")
    assert _conditions(platform, silent)[row.condition] == ("False", Reason.UNREACHABLE, f"Pod {pod}: no response")


def test_unready_pods_that_respond_report_the_cause_themselves() -> None:
    platform, observed = _healthy()
    observed = _not_ready(observed, "paper-ingest")
    for pod in (FIRST, SECOND):
        observed = observations.with_report(observed, pod, ready=False, books={"BTC/USD": "", "ETH/USD": "Resyncing"})
    assert _conditions(platform, observed)["IngestReady"] == ("False", Reason.BOOK_UNUSABLE, "ETH/USD: Resyncing")
    venue = _not_ready(
        observations.with_report(observed, EXCHANGE, ready=False, failing={"journal": "disk full"}), "paper-exchange"
    )
    assert _conditions(platform, venue)["VenueReady"][2] == f"Pod {EXCHANGE}: journal: disk full"
    unqueried = dataclasses.replace(
        observed,
        component_reports={EXCHANGE: observed.component_reports[EXCHANGE], FIRST: observed.component_reports[FIRST]},
    )
    assert _conditions(platform, unqueried)["IngestReady"][2] == "StatefulSet paper-ingest has 0 of 2 pods ready"
    healthy = _not_ready(_healthy()[1], "paper-ingest")
    assert _conditions(platform, healthy)["IngestReady"][:2] == ("False", Reason.ROLLING_OUT)


def test_unready_pods_without_a_venue_are_no_second_cause() -> None:
    platform, observed = _healthy(venue={"name": "Kraken"})
    observed = _not_ready(observed, "paper-ingest")
    for pod in (FIRST, SECOND):
        observed = observations.with_report(
            observed, pod, ready=False, disconnected="name not known", received=False, books={}
        )
    result = _conditions(platform, observed)
    assert result["VenueReady"][1] == Reason.NO_EGRESS
    assert result["IngestReady"] == ("Unknown", Reason.PROGRESSING, "waiting for the venue")
    assert "StatefulSet" not in result["Ready"][2]


def test_failing_output_is_reported_also_without_the_venue() -> None:
    platform, observed = _healthy()
    observed = observations.without(observed, Ref("StatefulSet", "paper-exchange"))
    result = _conditions(
        platform, observations.with_report(observed, FIRST, outputs={"tables": "login refused"}, disconnected="refused")
    )
    assert result["IngestReady"] == ("False", Reason.OUTPUT_FAILED, f"tables: login refused ({FIRST})")


def test_real_venue_without_egress_names_what_the_cluster_needs() -> None:
    platform, observed = _healthy(venue={"name": "Kraken"})
    for pod in (FIRST, SECOND):
        observed = observations.with_report(observed, pod, disconnected="name not known", received=False, books={})
    truth, reason, message = _conditions(platform, observed)["VenueReady"]
    assert (truth, reason) == ("False", Reason.NO_EGRESS)
    assert "the cluster needs egress to the internet, port 443" in message
    assert f"{FIRST}, {SECOND}: name not known" in message
    assert (
        _conditions(platform, observations.with_report(observed, FIRST, received=True))["VenueReady"][1]
        == Reason.UNREACHABLE
    )


def test_real_venue_is_unknown_before_a_replica_reports_it() -> None:
    platform, observed = _healthy(venue={"name": "Kraken"})
    result = _conditions(platform, dataclasses.replace(observed, component_reports={}))
    assert result["VenueReady"][:2] == ("Unknown", Reason.PROGRESSING)


def test_report_of_a_surplus_replica_is_ignored() -> None:
    platform, observed = _healthy()
    more = {
        **observed.component_reports,
        "paper-ingest-2": IngestReport(reason=Reason.READY, outputs={"kafka": "gone"}),
    }
    assert _conditions(platform, dataclasses.replace(observed, component_reports=more))["IngestReady"][0] == "True"


@pytest.mark.parametrize("spec", [SPEC, KRAKEN])
def test_unchanged_state_gives_the_same_bytes(spec: dict[str, Any]) -> None:
    platform, observed = _healthy(**spec)
    first = evaluations.status_of(evaluations.inputs(platform, observed))
    again = dataclasses.replace(observed, component_reports=dict(reversed(list(observed.component_reports.items()))))
    later = evaluations.status_of(evaluations.inputs(platform, again), first, at=3600)
    assert json.dumps(later) == json.dumps(first)


def test_applied_spec_has_the_complete_feed_and_simulated_venue() -> None:
    def applied(**spec: Any) -> dict[str, Any]:
        platform = observations.a_platform(**spec)
        healthy = observations.healthy(platform)
        result: dict[str, Any] = evaluations.status_of(evaluations.inputs(platform, healthy))["applied"]
        return result

    paper, real = applied(), applied(venue={"name": "Kraken"})
    assert paper["venue"] == {"name": "Simulated", "feed": "Synthetic"}
    assert paper["components"]["exchangeSim"] == {"storage": "1Gi", "speed": 1}
    assert real["venue"] == {"name": "Kraken", "feed": "Live"}
    assert "exchangeSim" not in real["components"]
