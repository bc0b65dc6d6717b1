"""The CRDs: generated files are up to date, and the API server and its clients accept the schemas."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from aether_operator.api import crds, models, pages, platforms, reasons
from aether_operator.api.definitions import DEFINITIONS
from aether_operator.api.reasons import Reason
from aether_testing import generator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aether_operator.api.definition import Definition

LARGEST: Final = 200 * 1024
MOST_COLUMNS: Final = 6
PLAIN_PATH: Final = re.compile(r"(\.[a-zA-Z]+)+")
FILES: Final = generator.files()
CRDS: Final = generator.TOP / "crds"


def parts(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A schema and all its parts, by path."""
    yield path, schema
    for name, one in schema.get("properties", {}).items():
        yield from parts(one, f"{path}.{name}")
    if "items" in schema:
        yield from parts(schema["items"], f"{path}[]")


SPECS: Final = {kind: dict(parts(crds.spec_schema(one), "spec")) for kind, one in DEFINITIONS.items()}
STATUSES: Final = {kind: dict(parts(crds.status_schema(one), "status")) for kind, one in DEFINITIONS.items()}
WHOLE: Final = {kind: SPECS[kind] | STATUSES[kind] for kind in DEFINITIONS}
IN_SPECS: Final = [(kind, path) for kind, fields in SPECS.items() for path in fields]
FIELDS: Final = [(kind, path) for kind, fields in WHOLE.items() for path in fields]
each_kind: Final = pytest.mark.parametrize("definition", DEFINITIONS.values(), ids=lambda one: one.kind)


@pytest.mark.parametrize("path", FILES)
def test_generated_files_are_committed_unchanged(path: str) -> None:
    target = generator.TOP / path
    assert target.is_file(), f"{path} is missing: make crds"
    assert target.read_text(encoding="utf-8") == FILES[path], f"{path} is not of this code: make crds, make docs"


def test_every_kind_has_a_crd_file_and_nothing_else() -> None:
    for folder in ("crds/v1alpha1", "helm/aether-operator/files/crds"):
        there = {f"{folder}/{one.name}" for one in (generator.TOP / folder).iterdir()}
        assert there == {path for path in FILES if str(Path(path).parent) == folder}


def test_crd_fits_the_annotation_of_kubectl_apply() -> None:
    sizes = {path: len(text.encode()) for path, text in FILES.items() if path.startswith("crds/")}
    assert sizes
    assert max(sizes.values()) < LARGEST


def test_every_pattern_is_anchored_at_both_ends() -> None:
    """The sanitizer relies on it, and the API server would accept a part of a text."""
    patterns = {one["pattern"] for fields in WHOLE.values() for one in fields.values() if "pattern" in one}
    assert patterns
    assert all(one.startswith("^") and one.endswith("$") and "|^" not in one for one in patterns)


@each_kind
def test_few_default_columns_each_with_a_simple_path(definition: Definition) -> None:
    (version,) = crds.of(definition)["spec"]["versions"]
    columns = version["additionalPrinterColumns"]
    assert len([one for one in columns if one.get("priority", 0) == 0]) <= MOST_COLUMNS
    for one in columns:
        assert PLAIN_PATH.fullmatch(one["jsonPath"]), one
        path = one["jsonPath"].removeprefix(".")
        assert path in WHOLE[definition.kind] or path == "metadata.creationTimestamp"


@pytest.mark.parametrize(("kind", "path"), FIELDS)
def test_every_field_is_bounded(kind: str, path: str) -> None:
    part = WHOLE[kind][path]
    if part.get("x-kubernetes-int-or-string"):
        assert "maxLength" in part
        assert "minimum" in part
        return
    match part["type"]:
        case "string":
            assert {"maxLength", "enum", "format"} & part.keys()
        case "array":
            assert "maxItems" in part
        case "integer":
            assert {"maximum", "format"} & part.keys()
        case "object":
            assert part["properties"]
            assert "additionalProperties" not in part
        case other:
            assert other == "boolean"


@pytest.mark.parametrize(("kind", "path"), IN_SPECS)
def test_every_field_of_the_spec_has_a_description(kind: str, path: str) -> None:
    description = SPECS[kind][path].get("description", "")
    assert description.endswith(".")
    assert "\n" not in description


def rules_of(definition: Definition) -> list[dict[str, Any]]:
    """The CEL rules in the CRD of a kind."""
    inside = [rule for one in SPECS[definition.kind].values() for rule in one.get("x-kubernetes-validations", [])]
    (version,) = crds.of(definition)["spec"]["versions"]
    return [*inside, *version["schema"]["openAPIV3Schema"]["x-kubernetes-validations"]]


@each_kind
def test_every_rule_names_its_field_and_is_on_the_page(definition: Definition) -> None:
    page, fields = FILES[f"docs/reference/{definition.page}.md"], SPECS[definition.kind]
    for rule in rules_of(definition):
        field, _, words = rule["message"].partition(": ")
        assert field in fields or field == "metadata.name" or field.rsplit(".", 1)[0] in fields
        assert words
        assert f"- {rule['message']}\n" in page


def test_platform_rules_cover_name_venue_pairs_servers_and_components() -> None:
    models = platforms.component_models().values()
    of_components = 2 * len(models) + sum(issubclass(one, platforms.Stored) for one in models)
    assert len(rules_of(DEFINITIONS[platforms.KIND])) == 7 * len(platforms.Server) + 2 + 4 + of_components


@each_kind
def test_a_kind_s_row_agrees_with_its_model(definition: Definition) -> None:
    assert definition.reasons >= reasons.COMMON
    assert definition.all_conditions.keys() >= {"Ready", "Reconciling", "Stalled"}
    assert ("Paused" in definition.all_conditions) is ("paused" in SPECS[definition.kind]["spec"]["properties"])
    assert definition.status.keys().isdisjoint(
        {"observedGeneration", "state", "reason", "message", "conditions", "applied"}
    )


def test_every_reason_has_a_message_and_a_row() -> None:
    assert set(reasons.EXPLANATIONS) == set(Reason) == {one for kind in DEFINITIONS.values() for one in kind.reasons}
    page = pages.conditions()
    for reason, text in reasons.EXPLANATIONS.items():
        assert text.meaning.endswith((".", "!"))
        assert page.count(f"\n| `{reason.value}` | {text.meaning} |") == 1


@each_kind
def test_every_condition_has_a_row(definition: Definition) -> None:
    page = pages.conditions()
    for kind, meaning in definition.all_conditions.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{kind}` |") and f"| {meaning} |" in line]
        assert len(DEFINITIONS) == 1 or f"`{definition.kind}`" in row


@each_kind
def test_pages_that_list_kinds_list_every_kind(definition: Definition) -> None:
    assert f"| `{definition.kind}` ({models.VERSION}) | `{definition.short}` |" in (CRDS / "README.md").read_text()
    assert f"[{definition.kind}]({definition.page}.md)" in (generator.TOP / "docs/reference/README.md").read_text()


def test_reasons_that_need_a_person_give_the_remedy() -> None:
    for reason, text in reasons.EXPLANATIONS.items():
        assert text.action or text.remedy is reasons.Remedy.NONE, reason
