"""The table of kinds: what walks it takes another kind as it is."""

from __future__ import annotations

import dataclasses

import pydantic
import pytest

from aether_operator.api import crds, pages, parsing, platform_definition
from aether_operator.api.definitions import DEFINITIONS
from aether_operator.api.models import Model
from aether_operator.api.reasons import ConditionType
from aether_testing import generator
from aether_testing.values.widgets import WIDGET, WITH_WIDGETS, WidgetSpec

NEEDED = {"platform": "paper", "secretName": "mine"}


class Plain(Model):
    """A spec without `paused`."""


def test_names_of_kinds_are_unique() -> None:
    # The page of a kind of one word is called as the kind.
    names = [one for kind in DEFINITIONS.values() for one in {kind.kind.lower(), kind.plural, kind.short, kind.page}]
    assert len(names) == len(set(names))
    assert [one.kind for one in DEFINITIONS.values()] == list(DEFINITIONS)


def test_another_kind_changes_no_file_of_the_others() -> None:
    before, after = generator.files(), generator.files(WITH_WIDGETS)
    assert after.keys() - before.keys() == {
        "crds/v1alpha1/widgets.yaml", "helm/aether-operator/files/crds/widgets.yaml", "docs/reference/widget.md",
    }  # fmt: skip
    shared = {"crds/Kustomization", "docs/reference/conditions.md", "helm/aether-operator/files/kinds.yaml"}
    assert {path for path in before if before[path] != after[path]} == shared


def test_crd_is_made_of_the_row() -> None:
    crd = crds.of(WIDGET)
    assert crd["metadata"]["name"] == "widgets.trading.aether.io"
    assert crd["spec"]["names"]["shortNames"] == ["wd"]
    (version,) = crd["spec"]["versions"]
    assert [one["name"] for one in version["additionalPrinterColumns"]] == ["Size", "State", "Reason", "Age", "Message"]
    schema = version["schema"]["openAPIV3Schema"]
    assert schema["x-kubernetes-validations"][0]["rule"] == "self.metadata.name.size() <= 20"
    assert (
        schema["properties"]["spec"]["properties"]["platform"]["x-kubernetes-validations"] == WIDGET.rules["platform",]
    )
    assert list(schema["properties"]["status"]["properties"]) == [
        "observedGeneration", "state", "reason", "message", "recorded", "conditions", "applied",
    ]  # fmt: skip
    assert crds.all_of(WITH_WIDGETS) == [*crds.all_of(), crd]


def test_page_is_made_of_the_row() -> None:
    page = pages.of(WIDGET)
    assert page.startswith("# Widget\n")
    assert "| `spec.size` | integer, 1 to 9 | `1` | How large it is. |" in page
    assert "- spec.platform: immutable\n" in page
    assert "| `status.recorded` | string | The size that is recorded outside of the cluster |" in page
    assert page.endswith("## What is kept when a widget is deleted\n\nIts Secret.\n")


def test_conditions_of_several_kinds_name_their_kinds() -> None:
    platform = platform_definition.DEFINITION
    rows = pages.conditions({one.kind: one for one in (platform, WIDGET)}).splitlines()
    assert "| `Stalled` | `TradingPlatform`, `Widget` | a person has to act |" in rows
    assert "| `Ready` | `Widget` | the widget is recorded |" in rows
    assert len([row for row in rows if row.startswith("| `KafkaReady` | `TradingPlatform` |")]) == 1


def test_only_kinds_that_can_be_paused_have_that_condition() -> None:
    plain = dataclasses.replace(WIDGET, spec=Plain)
    assert ConditionType.PAUSED in WIDGET.all_conditions
    assert list(plain.all_conditions) == ["Ready", "Reconciling", "Stalled"]


@pytest.mark.parametrize("name", ["wd", "widget", "Widget", "widgets", "WIDGETS.trading.aether.io"])
def test_a_kind_is_found_by_all_its_names(name: str) -> None:
    assert WIDGET.is_called(name)
    assert not any(one.is_called(name) for one in DEFINITIONS.values())


def test_any_model_is_parsed_or_its_problems_are_listed() -> None:
    assert parsing.read_spec(WidgetSpec, {"size": 3, **NEEDED}, "spec") == WidgetSpec.model_validate(
        {"size": 3, **NEEDED}
    )
    wrong = parsing.read_spec(WidgetSpec, {"size": 0, "colour": "red", **NEEDED}, "status.applied")
    assert isinstance(wrong, parsing.Invalid)
    assert [line.partition(":")[0] for line in wrong.problems] == ["status.applied.colour", "status.applied.size"]
    assert parsing.name_problems("a" * WIDGET.max_name_length, WIDGET.max_name_length) == []
    (problem,) = parsing.name_problems("a" * 21, WIDGET.max_name_length)
    assert problem.startswith("metadata.name: up to 20 ")


def test_specs_of_kinds_reject_unknown_fields_and_do_not_change() -> None:
    for definition in WITH_WIDGETS.values():
        with pytest.raises(pydantic.ValidationError, match="Extra inputs"):
            definition.spec.model_validate({"unknown": 1})
        assert definition.spec.model_config["frozen"] is True
