"""What the operator, its chart, its pages and the command line know of a kind: one row of the table of kinds.

The table is in `definitions`. A row lives with its kind, so adding a kind changes no other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aether_operator.api.models import GROUP
from aether_operator.api.reasons import ConditionType

if TYPE_CHECKING:
    from aether_operator.api.models import Model
    from aether_operator.api.reasons import Reason

Schema = dict[str, Any]
"""A part of an OpenAPI schema."""
Rule = dict[str, Any]
"""An item of `x-kubernetes-validations`: a CEL rule with its message."""


def text(length: int, description: str = "", **rest: Any) -> Schema:
    """The schema of a text of limited length."""
    return {"type": "string", "maxLength": length, **({"description": description} if description else {}), **rest}


def rule(cel: str, message: str, *, at: str = "", **rest: Any) -> Rule:
    """A CEL rule; `at` is the path of the field that it is about, from where the rule stands."""
    return {"rule": cel, "message": message, **({"fieldPath": at} if at else {}), **rest}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of `kubectl get`."""

    name: str
    path: str
    """A plain path, such as `.status.state`."""
    description: str = ""
    type: str = "string"
    priority: int = 0
    """0: always shown; 1: only with `-o wide`."""


def _as_written(spec: Any) -> Model:
    written: Model = spec
    return written


def _no_problems(_spec: Any) -> list[str]:
    return []


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Definition:
    """A kind of Aether's. Each is equal to itself only: then it has a hash, which its mappings do not have."""

    kind: str
    plural: str
    short: str
    """kubectl's short name."""
    noun: str
    """What texts call an object of this kind: "platform"."""
    description: str
    """What the kind is, in one line."""
    spec: type[Model]
    status: Mapping[str, Schema] = field(default_factory=dict)
    """The schemas of the status fields that only this kind has."""
    columns: tuple[Column, ...] = ()
    """The columns that only this kind has."""
    rules: Mapping[tuple[str, ...], list[Rule]] = field(default_factory=dict)
    """Path within `spec` → the CEL rules at that path."""
    root_rules: tuple[Rule, ...] = ()
    """CEL rules of the whole object, beside those of its name."""
    checks: Callable[[Any], list[str]] = _no_problems
    """Problems of a spec beyond its model, each beginning with the path of a field below `spec`."""
    resolved: Callable[[Any], Model] = _as_written
    """A spec with its implied defaults filled in, as `status.applied` shows it."""
    conditions: Mapping[ConditionType, str] = field(default_factory=dict)
    """The condition types that only this kind has → what True means; also its own meaning of a common one."""
    reasons: frozenset[Reason]
    """Every reason that its status may have."""
    kept: str
    """For its page: what stays when an object is deleted, and how to remove that."""
    terminating: str
    """The message of an object's status while it is being deleted."""
    max_name_length: int = 40
    """The names of its children contain an object's name, and some have limits of their own."""
    finalizer: bool = False
    """Whether something outside the cluster must be undone before an object may go."""
    urgent: bool = False
    """Whether its keys use the urgent lane of the workqueue."""

    @property
    def resource(self) -> str:
        """The plural with the group, as kubectl takes it: no other API's kind can be meant."""
        return f"{self.plural}.{GROUP}"

    @property
    def page(self) -> str:
        """The name of its reference page: `trading-platform`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", self.kind).lower()

    @property
    def all_conditions(self) -> Mapping[ConditionType, str]:
        """Every condition that its objects have → what True means, in the order of `ConditionType`."""
        found = {**COMMON_CONDITIONS, **self.conditions}
        if "paused" not in self.spec.model_fields:
            del found[ConditionType.PAUSED]
        return {kind: found[kind] for kind in ConditionType if kind in found}

    def is_called(self, name: str) -> bool:
        """Whether a user means this kind by a name: kind, plural or short name, as kubectl reads them."""
        return name.lower().removesuffix(f".{GROUP}") in {self.kind.lower(), self.plural, self.short}


Definitions = Mapping[str, Definition]
"""Kind → its definition."""

COMMON_CONDITIONS: Final[Mapping[ConditionType, str]] = {
    ConditionType.READY: "the object matches its spec",
    ConditionType.RECONCILING: "work is in progress, or something is missing that may still appear without your help",
    ConditionType.STALLED: "a person has to act",
    ConditionType.PAUSED: "`spec.paused` is true",
}
"""The conditions of every kind → what True means; `Paused` only where the spec has that field."""
