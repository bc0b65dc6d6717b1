"""A component is one row, one field of the spec and two modules; what one of them lacks is an error at the start."""

from __future__ import annotations

import pkgutil
import re
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import pytest

from aether_operator.api import platforms
from aether_operator.api.platform_definition import DEFINITION
from aether_operator.api.platforms import Components, VenueName
from aether_operator.api.reasons import ConditionType
from aether_operator.catalog import module_lookup
from aether_operator.catalog.components import COMPONENTS, Component, server_variables
from aether_operator.controllers.platforms import PlatformReconciler
from aether_operator.desired import components as desired_components
from aether_operator.desired import environments
from aether_operator.observed import child_refs
from aether_operator.status import components as status_components
from aether_operator.status import replicas
from aether_testing.values import observations

if TYPE_CHECKING:
    from types import ModuleType

OPERATOR: Final = Path(module_lookup.__file__).parents[1]


@pytest.mark.parametrize("package", [desired_components, status_components], ids=lambda one: one.__name__)
def test_package_has_exactly_one_module_per_component(package: ModuleType) -> None:
    assert {one.name for one in pkgutil.iter_modules(package.__path__)} == set(Component)


def test_only_catalog_and_component_modules_name_a_component() -> None:
    named = re.compile(rf"\bComponent\.[A-Z]|\bcomponents\.({'|'.join(Component)})\b")
    their_own = ("api", "catalog", "desired/components", "status/components")
    assert [
        str(path.relative_to(OPERATOR))
        for path in sorted(OPERATOR.rglob("*.py"))
        if not str(path.relative_to(OPERATOR)).startswith(their_own) and named.search(path.read_text(encoding="utf-8"))
    ] == []


@pytest.mark.parametrize("component", Component)
def test_module_and_row_agree_on_live_settings(component: Component) -> None:
    found = desired_components.module_of(component)
    assert hasattr(found, "live_settings") is COMPONENTS[component].has_live_settings


@pytest.mark.parametrize("component", Component)
def test_module_names_no_variable_that_follows_from_its_row(component: Component) -> None:
    # It would replace the operator's value: the venue's guard compares that of live components with the platform's.
    row = COMPONENTS[component]
    of_row = {environments.INSTANCE, environments.VENUE, "AETHER_RELEASE", "AETHER_LIVE_SETTINGS"}
    of_row |= {name for server in row.servers for name in server_variables(server)}
    own = desired_components.module_of(component).environment(observations.a_platform())
    assert own.keys() & of_row == set()


def _package(monkeypatch: pytest.MonkeyPatch, **names: Any) -> None:
    monkeypatch.setitem(sys.modules, "package", types.ModuleType("package"))
    module = types.ModuleType("package.ingest")
    vars(module).update(names)
    monkeypatch.setitem(sys.modules, "package.ingest", module)


def test_module_that_lacks_a_name_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    _package(monkeypatch, environment=dict)
    needed = {Component.INGEST: ("environment", "live_settings")}
    with pytest.raises(ImportError, match=r"package\.ingest has no live_settings"):
        module_lookup.load("package", needed)
    _package(monkeypatch, environment=dict, live_settings=dict)
    assert module_lookup.load("package", needed)[Component.INGEST].environment is dict


def test_component_without_a_module_stops_the_start() -> None:
    with pytest.raises(ImportError, match="exchange_sim"):
        module_lookup.load("aether_operator.planning", {Component.EXCHANGE_SIM: ()})


@pytest.mark.parametrize("component", Component)
def test_spec_has_the_settings_of_every_component(component: Component) -> None:
    annotation = Components.model_fields[component].annotation
    assert set(Components.model_fields) == set(Component)
    optional = type(None) in get_args(annotation)
    assert optional is (set(COMPONENTS[component].venues) != set(VenueName)), (
        "None where the venue has no such component"
    )
    assert isinstance(observations.a_platform().spec.components.of(component), platforms.ComponentSpec)


def test_sizes_come_from_the_spec_or_its_defaults() -> None:
    plain, sized = (
        observations.a_platform(components=spec).spec.components
        for spec in ({}, {"ingest": {"replicas": 3}, "exchangeSim": {"storage": "2Gi"}})
    )
    assert [(one.replicas("ingest"), one.replicas("exchange_sim")) for one in (plain, sized)] == [(1, 1), (3, 1)]
    assert [(one.storage("ingest"), one.storage("exchange_sim")) for one in (plain, sized)] == [
        (None, "1Gi"),
        (None, "2Gi"),
    ]


def test_every_volume_names_the_field_with_its_size() -> None:
    fields = PlatformReconciler.storage_fields
    assert fields[COMPONENTS[Component.EXCHANGE_SIM].name] == "spec.components.exchangeSim.storage"
    assert {row.name for row in COMPONENTS.values() if row.has_volume} <= set(fields)


def test_every_component_has_a_condition_of_its_own() -> None:
    conditions = [row.condition for row in COMPONENTS.values()]
    assert len(set(conditions)) == len(conditions)
    assert {*conditions} <= set(DEFINITION.conditions)
    assert all(condition.part for condition in conditions)


@pytest.mark.parametrize("component", Component)
def test_component_with_servers_says_for_which_venue_it_runs(component: Component) -> None:
    env = environments.for_component(component, observations.a_platform(), observations.a_release())
    assert (environments.VENUE in {one["name"] for one in env}) is bool(COMPONENTS[component].servers)


def test_component_of_another_venue_has_nothing_to_be_wrong() -> None:
    platform = observations.a_platform(venue={"name": "Kraken"})
    observed = observations.healthy(platform)
    assert Component.EXCHANGE_SIM not in child_refs.components_of(platform)
    assert replicas.unavailable(Component.EXCHANGE_SIM, platform, observed) is None
    assert replicas.not_ready(Component.EXCHANGE_SIM, platform, observed) is None


@pytest.mark.parametrize(
    ("condition", "part"),
    [
        (ConditionType.INGEST_READY, "ingest"),
        (ConditionType.READY, ""),
        (ConditionType.WARNING, ""),
        (ConditionType.RECONCILING, ""),
    ],
)
def test_condition_of_a_part_names_it(condition: ConditionType, part: str) -> None:
    assert condition.part == part
