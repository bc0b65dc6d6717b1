"""The operator and the services agree: environment variables, /status, ports, names and grace periods."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import pytest
import yaml

from aether_operator import desired
from aether_operator.api import labels, platforms
from aether_operator.api.reasons import Reason
from aether_operator.catalog import components
from aether_operator.catalog.components import COMPONENTS, Component
from aether_operator.desired import environments, networkpolicies
from aether_operator.observed import child_refs
from aether_operator.status import components as component_status
from aether_operator.status.components import ingest
from aether_operator.status.components.exchange_sim import VenueReport
from aether_operator.status.components.ingest import IngestReport
from aether_services import __main__ as program
from aether_services.contracts.statuses import (
    BookState,
    Check,
    Feed,
    IngestStatus,
    Output,
    OutputState,
    Status,
    StatusVersion,
    VenueStatus,
)
from aether_services.domain import books
from aether_services.domain.times import Nanoseconds
from aether_services.ingest.core import wire
from aether_testing.values import observations, policies

if TYPE_CHECKING:
    from aether_operator.observed.components import ComponentReport
    from aether_services.kit.settings import Settings

GUIDE: Final = Path(__file__).resolve().parents[2] / "docs/guide/operator.md"
SPECS: Final[dict[str, dict[str, Any]]] = {
    "paper": {},
    "elsewhere": {"dataPlane": observations.EXTERNAL},
    "real": {"venue": {"name": "Kraken"}},
    "fast": {"components": {"exchangeSim": {"speed": 10}, "ingest": {"replicas": 8}}},
}
_POD_ADDRESS: Final = "a pod listens on all addresses, at the port of the catalog, which a test compares"
_VENUE_LIMITS: Final = "the venue's limits are fixed; a platform does not set them"
NOT_SET: Final = (
    *((component, name, _POD_ADDRESS) for component in Component for name in ("AETHER_HTTP_HOST", "AETHER_HTTP_PORT")),
    *((component, "AETHER_LOG_LEVEL", "lines of level INFO are rare events") for component in Component),
    (
        Component.EXCHANGE_SIM,
        "AETHER_ADMIN_PORT",
        "faults are injected from inside the pod, where no other process uses the port",
    ),
    (Component.EXCHANGE_SIM, "AETHER_RECORDING", "only the feed Replay reads it, which no platform has"),
    (Component.EXCHANGE_SIM, "AETHER_SEED", "a fixed seed only serves the comparison of two runs"),
    (Component.EXCHANGE_SIM, "AETHER_TRADES_DAYS", "the guide promises a week of trades to an ingest that was down"),
    (Component.EXCHANGE_SIM, "AETHER_CONNECTS", _VENUE_LIMITS),
    (Component.EXCHANGE_SIM, "AETHER_MESSAGE_RATE", _VENUE_LIMITS),
    (Component.EXCHANGE_SIM, "AETHER_REST_RATE", _VENUE_LIMITS),
    (Component.EXCHANGE_SIM, "AETHER_IDLE_SECONDS", _VENUE_LIMITS),
    (Component.EXCHANGE_SIM, "AETHER_QUEUE", _VENUE_LIMITS),
    (Component.INGEST, "AETHER_BOOK_DEPTH", "the guide promises a hundred levels"),
    (Component.INGEST, "AETHER_BOOK_REFRESH_SECONDS", "the guide promises five minutes"),
    (
        Component.INGEST,
        "AETHER_TAPE_LENGTH",
        "trades that left memory are requested from the venue again: a longer log saves none",
    ),
)
"""Settings that a service declares and the operator does not set, and why not."""
COMMON: Final[dict[str, Any]] = {"release": "1", "instance": "one-0", "started": Nanoseconds(1_700_000_000 * 10**9)}


def _settings(component: Component) -> type[Settings]:
    found: type[Settings] = importlib.import_module(f"aether_services.{component}.settings").Settings
    return found


def _env(component: Component, **spec: Any) -> dict[str, str]:
    env = environments.for_component(component, observations.a_platform(**spec), observations.a_release())
    return {one["name"]: one.get("value", "one-0") for one in env}


def test_catalog_lists_the_services_that_the_program_knows() -> None:
    assert {str(component) for component in Component} == set(program.SERVICES)


@pytest.mark.parametrize("component", Component)
def test_component_gets_the_settings_it_needs_and_no_undeclared_ones(component: Component) -> None:
    declared, given = _settings(component).variables(), set(_env(component))
    assert {name for name, needed in declared.items() if needed} <= given <= set(declared)


@pytest.mark.parametrize("component", Component)
def test_settings_left_at_their_default_are_listed_with_a_reason(component: Component) -> None:
    left = [name for of, name, _ in NOT_SET if of is component]
    assert sorted(left) == sorted(set(_settings(component).variables()) - set(_env(component)))


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("component", Component)
def test_service_accepts_the_settings_of_its_component(component: Component, name: str) -> None:
    spec = SPECS[name]
    if component in child_refs.components_of(observations.a_platform(**spec)):
        _settings(component).read(_env(component, **spec))


@pytest.mark.parametrize("component", Component)
def test_service_listens_on_the_port_of_its_component(component: Component) -> None:
    fields = _settings(component).model_fields
    assert fields["http_port"].default == components.PORT


def test_prometheus_reaches_ingest_and_by_policy_the_simulated_venue() -> None:
    platform = observations.a_platform(name="paper")
    manifests = desired.children(
        platform, observations.created(platform), observations.a_release(), observations.tokens()
    )
    ours = [one for one in manifests if one["kind"] == "NetworkPolicy"]
    (text,) = re.findall(r"^```yaml\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    theirs = yaml.safe_load(text)
    theirs["metadata"]["namespace"] = platform.namespace
    spaces = {name: {networkpolicies.NAMESPACE_NAME: name} for name in (platform.namespace, "monitoring", "other")}

    def reached(*around: dict[str, Any]) -> set[tuple[str, str]]:
        cluster = policies.Evaluator(around, spaces)
        pods = {run.name: labels.for_child(observations.an_owner("paper"), run.name) for run in COMPONENTS.values()}
        return {
            (source, component)
            for source in ("monitoring", "other")
            for component, marks in pods.items()
            if cluster.allows(
                policies.Pod(source, "prometheus"), policies.Pod(platform.namespace, component, marks), components.PORT
            )
        }

    public = {("monitoring", "ingest"), ("other", "ingest")}
    assert reached(*ours) == public
    assert reached(*ours, theirs) == public | {("monitoring", "exchange")}


def test_status_version_is_the_one_the_operator_parses() -> None:
    assert get_args(StatusVersion) == (components.STATUS_VERSION,)


def _read(status: Status, component: Component) -> ComponentReport:
    return component_status.read(status.model_dump_json(), component)


def test_operator_parses_the_status_of_ingest() -> None:
    status = IngestStatus(
        **COMMON,
        service="ingest",
        ready=False,
        checks={"feed": Check(ok=False, detail="closed"), "settings": Check(ok=True)},
        settings="0123456789ab",
        feed=Feed(connected=False, detail="closed", system="maintenance", age_seconds=4.0),
        books={
            "BTC/USD": BookState(usable=True, trades="trade 7: no number", silent=("book", "trade")),
            "FOO/USD": BookState(usable=False, reason="UnknownPair"),
        },
        outputs={Output.KAFKA: OutputState(ok=False, detail="no broker"), Output.TABLES: OutputState(ok=True)},
    )
    assert _read(status, Component.INGEST) == IngestReport(
        reason=Reason.READY,
        failing={"feed": "closed"},
        settings="0123456789ab",
        system="maintenance",
        disconnected="closed",
        received=True,
        books={"BTC/USD": "", "FOO/USD": ingest.UNKNOWN_PAIR},
        trades={"BTC/USD": "trade 7: no number"},
        silent={"BTC/USD": ("book", "trade")},
        outputs={"kafka": "no broker", "tables": ""},
    )
    before = _read(status.model_copy(update={"feed": Feed(connected=False)}), Component.INGEST)
    assert isinstance(before, IngestReport)
    assert not before.received


def test_operator_knows_the_contradicted_book_and_channel_of_ingest() -> None:
    assert (books.UnusableReason.CONTRADICTED.value, wire.Channel.BOOK.value) == (
        ingest.BOOK_CONTRADICTED,
        ingest.BOOK,
    )


def test_operator_parses_the_status_of_the_simulated_venue() -> None:
    status = VenueStatus(**COMMON, service="exchange_sim", ready=True, system="online", clients=1, trades=5)
    assert _read(status, Component.EXCHANGE_SIM) == VenueReport(reason=Reason.READY, ready=True, system="online")


def test_default_pairs_of_a_platform_are_simulated_markets() -> None:
    markets = importlib.import_module("aether_services.exchange_sim.core.markets")
    assert set(platforms.DEFAULT_PAIRS) <= set(markets.MARKETS)


@pytest.mark.parametrize("component", Component)
def test_every_component_has_its_termination_grace_period(component: Component) -> None:
    assert COMPONENTS[component].grace_seconds >= 30
