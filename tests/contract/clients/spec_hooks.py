"""Hooks of schemathesis for Kraken's own description of its REST: corrections of it, and more checks of responses."""

from __future__ import annotations

from typing import Any

import schemathesis

PAIRS = ["BTC/USD", "XBT/USD", "XBTUSD", "XXBTZUSD", "ETHUSD", "XDGUSD"]
ASSETS = ["XBT", "XBT,ETH", "ZUSD", "DOGE"]
METHOD_NOT_ALLOWED = 405
ODD = ("EGeneral:Invalid arguments:since",)
"""What may be wrong with data that the description allows: a time before 1970, or one of forty digits."""


@schemathesis.hook
def before_load_schema(_: object, raw_schema: dict[str, Any]) -> None:
    """Name a type that there is, and names that there are: a made-up pair is unknown everywhere."""
    for path in raw_schema["paths"].values():
        parameters = path.get("get", {}).get("parameters", [])
        for place, parameter in enumerate(parameters):
            file = parameter.get("$ref", "").rsplit("/", 1)[-1]
            if parameter.get("name") == "country_code":
                parameter["schema"] = {"type": "string"}
            elif file in {"pair.yaml", "wildcard_pair.yaml"} or parameter.get("name") == "pair":
                schema = {"type": "string", "enum": PAIRS}
                required = file == "pair.yaml" or parameter.get("required", False)
                parameters[place] = {"in": "query", "name": "pair", "required": required, "schema": schema}
            elif file == "asset.yaml" or parameter.get("name") == "asset":
                schema = {"type": "string", "enum": ASSETS}
                parameters[place] = {"in": "query", "name": "asset", "schema": schema}


@schemathesis.check
def envelope(_: object, response: Any, case: Any) -> None:
    """Either errors in the envelope, or a result; and of valid data a result."""
    if response.status_code == METHOD_NOT_ALLOWED:
        return
    body = response.json()
    assert set(body) in ({"error"}, {"error", "result"}), "the envelope has two parts"
    assert bool(body["error"]) != ("result" in body), "either errors or a result"
    assert all(isinstance(one, str) and one[0] in "EW" and ":" in one for one in body["error"])
    if case.meta is not None and case.meta.generation.mode.value == "positive":
        assert not body["error"] or tuple(body["error"]) == ODD, f"valid data was rejected: {body['error']}"
