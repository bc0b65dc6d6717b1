"""The API server's treatment of a custom resource, as values: defaulting, validation, and server-side apply.

Written from the documentation of structural schemas and of server-side apply, independently of the operator's code:
tests compare the two, and a test with a real API server verifies this module.
"""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypothesis.strategies import SearchStrategy

Schema = dict[str, Any]
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_TYPES: Final = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
_WIDTHS: Final = {"int32": 31, "int64": 63}


def problems(value: Any, schema: Schema, path: str) -> Iterator[str]:
    """Validation errors, each with the path of its field."""
    if schema.get("x-kubernetes-int-or-string"):
        types: tuple[type, ...] = (int, str)
    else:
        types = (_TYPES[schema["type"]],)
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        yield f"{path}: must be of type {'/'.join(one.__name__ for one in types)}: {type(value).__name__}"
        return
    if value not in schema.get("enum", [value]):
        yield f"{path}: not in the enumeration"
    if isinstance(value, bool):
        return
    if isinstance(value, int):
        yield from _of_number(value, schema, path)
    elif isinstance(value, str):
        yield from _of_text(value, schema, path)
    elif isinstance(value, list):
        yield from _of_list(value, schema, path)
    elif isinstance(value, dict):
        yield from _of_object(value, schema, path)


def _of_number(value: int, schema: Schema, path: str) -> Iterator[str]:
    limit = 1 << _WIDTHS.get(schema.get("format", "int64"), 63)
    if not max(-limit, schema.get("minimum", -limit)) <= value <= min(limit - 1, schema.get("maximum", limit)):
        yield f"{path}: out of range"


def _of_object(value: dict[str, Any], schema: Schema, path: str) -> Iterator[str]:
    yield from (f"{path}.{key}: required" for key in schema.get("required", ()) if key not in value)
    for key, one in value.items():
        if key not in schema["properties"]:
            yield f"{path}.{key}: unknown"
        else:
            yield from problems(one, schema["properties"][key], f"{path}.{key}")


def _of_text(value: str, schema: Schema, path: str) -> Iterator[str]:
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        yield f"{path}: length {len(value)}"
    # `$` matches the end of the text, as in Go, and not before a trailing newline.
    if "pattern" in schema and not re.search(schema["pattern"].replace("$", r"\Z"), value, re.ASCII):
        yield f"{path}: pattern"
    if schema.get("format") == "date-time" and not _MOMENT.fullmatch(value):
        yield f"{path}: not a time"
    if value != value.encode(errors="replace").decode():
        yield f"{path}: would be stored differently"


def _of_list(value: list[Any], schema: Schema, path: str) -> Iterator[str]:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        yield f"{path}: {len(value)} items"
    keys = schema.get("x-kubernetes-list-map-keys", ())
    known = [tuple(one.get(key) for key in keys) for one in value] if keys else []
    if len(known) != len(set(known)):
        yield f"{path}: duplicate"
    for place, one in enumerate(value):
        yield from problems(one, schema["items"], f"{path}[{place}]")


def admit(value: Any, schema: Schema) -> Any:
    """A spec after admission: nulls of fields that are not nullable are dropped, defaults are filled in."""
    if not isinstance(value, dict) or "properties" not in schema:
        return value
    kept = {key: one for key, one in value.items() if one is not None}
    for key, part in schema["properties"].items():
        if key not in kept and "default" in part:
            kept[key] = copy.deepcopy(part["default"])
    return {
        key: admit(one, schema["properties"][key]) if key in schema["properties"] else one for key, one in kept.items()
    }


def apply(stored: Any, before: Any, now: Any) -> Any:
    """The stored value after an applier that applied `before` applies `now`.

    Fields that it no longer names are removed; an object that it still names, but none of whose former fields, becomes
    null.
    """
    if not isinstance(now, dict) or not isinstance(stored, dict):
        return now
    left = dict(stored)
    for key in before if isinstance(before, dict) else ():
        if key not in now:
            left.pop(key, None)
    for key, one in now.items():
        past = before.get(key) if isinstance(before, dict) else None
        left[key] = apply(left.get(key), past, one)
        if left[key] == {} and past:
            left[key] = None
    return left


# ---- generated values


def values(schema: Schema) -> SearchStrategy[Any]:  # noqa: PLR0911 - one for each type
    """Valid values of a schema; optional fields may be null, which the API server treats as left out."""
    if schema.get("x-kubernetes-int-or-string"):
        small = st.integers(min_value=schema.get("minimum", 0), max_value=1 << 62)
        return small | st.from_regex(schema["pattern"], fullmatch=True).filter(
            lambda one: len(one) <= schema["maxLength"]
        )
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema["type"]:
        case "object":
            parts = {key: values(one) for key, one in schema["properties"].items()}
            needed = {key: parts.pop(key) for key in schema.get("required", ())}
            return st.fixed_dictionaries(needed, optional={key: st.none() | one for key, one in parts.items()})
        case "array":
            return st.lists(values(schema["items"]), min_size=schema.get("minItems", 0), max_size=4)
        case "string" if "pattern" in schema:
            fits = st.from_regex(schema["pattern"], fullmatch=True)
            return fits.filter(lambda one: schema.get("minLength", 0) <= len(one) <= schema["maxLength"])
        case "integer":
            return st.integers(min_value=schema["minimum"], max_value=schema["maximum"])
        case "boolean":
            return st.booleans()
    raise AssertionError(schema)
