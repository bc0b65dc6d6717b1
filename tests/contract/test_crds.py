"""The CRDs: generated files are up to date, and the API server and its clients accept the schemas."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from aether_operator.api import crds, pages, platforms, reasons
from aether_operator.api.reasons import ConditionType, Reason
from aether_testing import generator

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST: Final = 200 * 1024
MOST_COLUMNS: Final = 6
PLAIN_PATH: Final = re.compile(r"(\.[a-zA-Z]+)+")
FILES: Final = generator.files()
DEFINITION: Final = crds.definition()
(VERSION,) = DEFINITION["spec"]["versions"]


def parts(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A schema and all its parts, by path."""
    yield path, schema
    for name, one in schema.get("properties", {}).items():
        yield from parts(one, f"{path}.{name}")
    if "items" in schema:
        yield from parts(schema["items"], f"{path}[]")


SPEC: Final = dict(parts(crds.spec_schema(), "spec"))
STATUS: Final = dict(parts(crds.status_schema(), "status"))
WHOLE: Final = SPEC | STATUS


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
    patterns = {one["pattern"] for one in WHOLE.values() if "pattern" in one}
    assert patterns
    assert all(one.startswith("^") and one.endswith("$") and "|^" not in one for one in patterns)


def test_few_default_columns_each_with_a_simple_path() -> None:
    columns = VERSION["additionalPrinterColumns"]
    assert len([one for one in columns if one.get("priority", 0) == 0]) <= MOST_COLUMNS
    for one in columns:
        assert PLAIN_PATH.fullmatch(one["jsonPath"]), one
        path = one["jsonPath"].removeprefix(".")
        assert path in WHOLE or path == "metadata.creationTimestamp"


@pytest.mark.parametrize("path", WHOLE)
def test_every_field_is_bounded(path: str) -> None:
    part = WHOLE[path]
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


@pytest.mark.parametrize("path", SPEC)
def test_every_field_of_the_spec_has_a_description(path: str) -> None:
    description = SPEC[path].get("description", "")
    assert description.endswith(".")
    assert "\n" not in description


def test_every_rule_names_its_field_and_is_on_the_page() -> None:
    page = FILES["docs/reference/trading-platform.md"]
    found = [rule for one in SPEC.values() for rule in one.get("x-kubernetes-validations", [])]
    found += VERSION["schema"]["openAPIV3Schema"]["x-kubernetes-validations"]
    # Rules of each server, the name, the venue, the pairs and the resources of each component.
    assert len(found) == 7 * len(platforms.Server) + 2 + 4 + 2 * 2 + 1
    for rule in found:
        field, _, words = rule["message"].partition(": ")
        assert field in SPEC or field == "metadata.name" or field.rsplit(".", 1)[0] in SPEC
        assert words
        assert f"- {rule['message']}\n" in page


def test_every_reason_has_a_message_and_a_row() -> None:
    assert set(reasons.EXPLANATIONS) == set(Reason)
    page = pages.conditions()
    for reason, text in reasons.EXPLANATIONS.items():
        assert text.meaning.endswith((".", "!"))
        assert page.count(f"\n| `{reason.value}` | {text.meaning} |") == 1


def test_every_condition_has_a_row() -> None:
    page = pages.conditions()
    for kind in ConditionType:
        assert page.count(f"\n| `{kind.value}` |") >= 1


def test_reasons_that_need_a_person_give_the_remedy() -> None:
    for reason, text in reasons.EXPLANATIONS.items():
        assert text.action or text.remedy is reasons.Remedy.NONE, reason
