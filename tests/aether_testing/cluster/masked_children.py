"""The operator's children in a namespace, comparable between two runs."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

from aether_operator.api import labels
from aether_operator.desired import secrets
from aether_operator.observed import kinds
from aether_operator.planning import child_kinds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_testing.cluster.namespaces import Namespace


def of(namespace: Namespace) -> dict[str, dict[str, Any]]:
    """All children in a namespace by kind and name, with everything masked that may differ between two equal runs.

    References stay recognisable: an owner that does not exist, and a hash that is of no Secret, are not masked.
    """
    plurals = ",".join(one.plural for one in child_kinds.KINDS)
    children = namespace.get(plurals, f"--selector={labels.MANAGED_BY}={labels.OPERATOR}")["items"]
    owners = namespace.get(f"{kinds.PLATFORMS.plural}.{kinds.PLATFORMS.api_version.partition('/')[0]}")["items"]
    known = {namespace.name: "<namespace>"}
    for one in (*children, *owners):
        known[one["metadata"]["uid"]] = f"<uid of {kinds.ref(one)}>"
    for one in children:
        if one["kind"] == "Secret":
            name = one["metadata"]["name"]
            word = one["metadata"].get("annotations", {}).get(labels.CREDENTIALS, "")
            password = secrets.decoded(one).get("password", "")
            if secrets.PASSWORD.fullmatch(password):
                known[password] = f"<password of {name}>"
            if word:
                known[word] = f"<hash of {name}>"
    return {str(kinds.ref(one)): json.loads(_replaced(json.dumps(_lasting(one)), known)) for one in children}


def _replaced(text: str, known: Mapping[str, str]) -> str:
    longest_first = sorted(known, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest_first)), lambda found: known[found.group()], text)


def _lasting(thing: dict[str, Any]) -> dict[str, Any]:
    """A child without the fields that the API server and its controllers write."""
    one: dict[str, Any] = json.loads(json.dumps(thing))
    one.pop("status", None)
    meta = one["metadata"]
    for key in ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"):
        meta.pop(key, None)
    notes = {key: value for key, value in meta.get("annotations", {}).items() if not _of_a_controller(key)}
    meta.pop("annotations", None)
    if notes:
        meta["annotations"] = notes
    match one["kind"]:
        case "Secret":
            one["data"] = {
                key: base64.b64decode(value).decode(errors="replace") for key, value in one.get("data", {}).items()
            }
        case "Service":
            for key in ("clusterIP", "clusterIPs"):
                if one["spec"].get(key) not in (None, "None", ["None"]):
                    one["spec"][key] = "<address>"
        case "PersistentVolumeClaim":
            one["spec"].pop("volumeName", None)
    return one


def _of_a_controller(annotation: str) -> bool:
    return annotation.partition("/")[0] in {"pv.kubernetes.io", "volume.kubernetes.io"}
