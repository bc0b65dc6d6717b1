"""Cuts or drops the parts of a status that its schema does not allow, so that the API server accepts the rest.

The result has no empty object and no null. Server-side apply removes the fields that an applier no longer names. If
those were all fields of an object, and the object itself is still named, it leaves a null in its place, which the
schema rejects; an object that is left out is removed whole.
"""

from __future__ import annotations

import functools
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from aether_operator.api import crds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_operator.api.definition import Definition, Schema

_WIDTHS: Final = {"int32": 31, "int64": 63}


def sanitize(status: Mapping[str, Any], definition: Definition) -> dict[str, Any]:
    """A status of this kind that the API server accepts."""
    result: dict[str, Any] = _object(status, _schema(definition)) or {}
    return result


@functools.cache
def _schema(definition: Definition) -> Schema:
    return crds.status_schema(definition)


def _sanitized(value: Any, schema: Schema) -> Any:
    """A value as far as its schema allows it; None if nothing of it is allowed."""
    if schema.get("x-kubernetes-int-or-string"):
        return _number(value, schema) if isinstance(value, int) else _text(value, schema)
    return _BY_TYPE[schema["type"]](value, schema)


def _object(value: Any, schema: Schema) -> Any:
    if not hasattr(value, "items"):
        return None
    parts = {
        key: _sanitized(one, schema["properties"][key]) for key, one in value.items() if key in schema["properties"]
    }
    result = {key: one for key, one in parts.items() if one is not None}
    return result if result and result.keys() >= set(schema.get("required", ())) else None


def _array(value: Any, schema: Schema) -> Any:
    if not isinstance(value, list | tuple):
        return None
    keys: list[str] = schema.get("x-kubernetes-list-map-keys", [])
    kept = [one for item in value if (one := _sanitized(item, schema["items"])) is not None]
    first = {tuple(one[key] for key in keys): one for one in reversed(kept)} if keys else {}
    result = [one for one in kept if not keys or first[tuple(one[key] for key in keys)] is one]
    result = result[: schema.get("maxItems", len(result))]
    return result if len(result) >= max(1, schema.get("minItems", 0)) else None


def _text(value: Any, schema: Schema) -> Any:
    if not isinstance(value, str):
        return None
    # The API server replaces invalid characters, such as half of a surrogate pair: the text would differ on each write.
    text = value.encode(errors="replace").decode()
    max_length = schema.get("maxLength", len(text))
    if len(text) > max_length and not {"pattern", "enum", "format"} & schema.keys():
        text = f"{text[: max_length - 1]}…"
    valid = (
        schema.get("minLength", 0) <= len(text) <= max_length
        and text in schema.get("enum", (text,))
        # The patterns are anchored; Python's own `$` would also match before a trailing newline.
        and ("pattern" not in schema or re.fullmatch(schema["pattern"], text, re.ASCII) is not None)
        and (schema.get("format") != "date-time" or _is_time(text))
    )
    return text if valid else None


def _is_time(text: str) -> bool:
    try:
        return "T" in text and datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _number(value: Any, schema: Schema) -> Any:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    limit = 1 << _WIDTHS.get(schema.get("format", ""), 63)
    valid = max(-limit, schema.get("minimum", -limit)) <= value <= min(limit - 1, schema.get("maximum", limit))
    return value if valid else None


def _boolean(value: Any, _: Schema) -> Any:
    return value if isinstance(value, bool) else None


_BY_TYPE: Final = {"object": _object, "array": _array, "string": _text, "integer": _number, "boolean": _boolean}
