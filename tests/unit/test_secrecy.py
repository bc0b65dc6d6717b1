"""No text contains a value of a Secret: what counts as quoting it, in the operator and in services."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
import sqlalchemy

from aether_operator import desired
from aether_operator.api.platforms import Server
from aether_operator.catalog.components import STATUS_VERSION, Component
from aether_operator.observed.endpoints import Endpoint, SecretText
from aether_operator.status import components
from aether_operator.status.components.ingest import IngestReport
from aether_runtime import logs, secrecy
from aether_services.clients import servers
from aether_services.clients.servers import Tls
from aether_testing.servers import tls
from aether_testing.values import observations

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

VALUE: Final = "S3cret/p@ss word-9f21"
QUOTED: Final = 'a"b'
LONG: Final = "".join(f"{number:02x}" for number in range(64))
LOGS: Final = pytest.mark.parametrize(
    "lines", [logs.JsonFormatter(), logs.JsonFormatter("ingest")], ids=["operator", "services"]
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (f'password authentication failed for user "{VALUE}"', VALUE),
        (f'no such user: "{LONG[:63]}"', LONG),  # PostgreSQL cuts names
        (f"no such user: {VALUE.upper()}", VALUE),
        ("no such user: S3cret%2Fp%40ss%20word-9f21", VALUE),
        (f"bad line {json.dumps(QUOTED)}", QUOTED),
        (f"text {base64.b64encode(VALUE.encode()).decode()}", VALUE),
        ("text S3cret/p@ss\nword-9f21", VALUE),
        ("user x7 is unknown", "x7\n"),
        ("user x7 is unknown", "x7"),
    ],
)
def test_value_in_any_encoding_counts_as_quoted(text: str, value: str) -> None:
    assert secrecy.quotes(text, ["other", value])


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("password authentication failed", [VALUE, "", "\n"]),
        ("certificate verify failed: self-signed certificate", [tls.a_certificate().ca]),
        ("the user S3cret is unknown", [VALUE]),  # seven characters of it
        ("", [VALUE]),
    ],
)
def test_a_text_without_a_value_does_not_quote_it(text: str, values: list[str]) -> None:
    assert not secrecy.quotes(text, values)


def test_server_message_that_quotes_any_key_is_dropped_whole() -> None:
    endpoint = Endpoint(
        host="db",
        port=1,
        username="canary-u",
        password=SecretText("canary-p"),
        ca="canary-ca",
        others=(SecretText("x"),),
    )
    assert endpoint.excerpt("out of\n memory") == "out of memory"
    for text in ("user canary-u", "canary-p is wrong", "ca canary-ca", "ends with x"):
        assert endpoint.excerpt(text) == secrecy.WITHHELD
    assert "canary" not in repr(endpoint)


def test_generated_login_name_is_not_secret() -> None:
    ours = Endpoint(host="db", port=1, username="aether", password=SecretText("canary-p"), ours=True)
    assert ours.excerpt('relation "aether.trades" does not exist') == 'relation "aether.trades" does not exist'
    assert ours.excerpt("canary-p is wrong") == secrecy.WITHHELD


def _read(text: str, secret_values: Collection[str] = (), addresses: Collection[str] = ()) -> IngestReport:
    report = components.read(text, Component.INGEST, secret_values, addresses)
    assert isinstance(report, IngestReport)
    return report


def test_service_report_that_quotes_a_secret_is_dropped() -> None:
    check = {"ok": False, "detail": f'failed for user "{VALUE}"'}
    status = {
        "version": 2,
        "service": "ingest",
        "ready": False,
        "outputs": {"tables": check},
        "checks": {"feed": check},
    }
    text = json.dumps({**status, "feed": {"connected": False, "detail": VALUE}})
    report = _read(text, {VALUE})
    assert (report.outputs, report.failing) == ({"tables": secrecy.WITHHELD}, {"feed": secrecy.WITHHELD})
    assert report.disconnected == secrecy.WITHHELD
    assert VALUE in repr(_read(text))


CODES: Final = frozenset({"reason", "settings"})
"""Texts of a /status that quote nobody: a code of ours, and a digest, which is only compared."""


def _every_text(schema: dict[str, Any], parts: dict[str, Any]) -> Any:
    """A value of a JSON schema in which nothing is ok, and every text quotes a secret."""
    schema = schema.get("anyOf", [schema])[0]
    if "$ref" in schema:
        return _every_text(parts[schema["$ref"].rpartition("/")[2]], parts)
    if "properties" in schema:
        return {
            name: "code" if name in CODES else _every_text(one, parts) for name, one in schema["properties"].items()
        }
    if "additionalProperties" in schema:
        return {"name": _every_text(schema["additionalProperties"], parts)}
    if "items" in schema:
        return [_every_text(schema["items"], parts)]
    return {"string": f"it says {VALUE}", "boolean": False, "integer": 1, "number": 1}[schema["type"]]


@pytest.mark.parametrize("component", Component)
def test_no_text_of_any_service_reveals_a_secret(component: Component) -> None:
    schema = components.module_of(component).Status.model_json_schema()
    status = {**_every_text(schema, schema.get("$defs", {})), "version": STATUS_VERSION, "service": component.value}
    text = json.dumps(status)
    assert VALUE in repr(components.read(text, component)), "its texts are in the report"
    report = components.read(text, component, {VALUE})
    assert report.ok
    assert VALUE not in repr(report)


class Counted(list[str]):
    """Values that count how often they are searched for."""

    searches = 0

    def __iter__(self) -> Iterator[str]:
        self.searches += 1
        return super().__iter__()


def test_one_cause_of_many_markets_is_searched_for_secrets_once() -> None:
    refused = {"usable": True, "trades": "a time ahead of the clock"}
    status = {"version": 2, "service": "ingest", "ready": True, "books": {f"A{one}/USD": refused for one in range(64)}}
    hidden = Counted([VALUE])
    report = _read(json.dumps(status), hidden)
    assert set(report.trades.values()) == {"a time ahead of the clock"}
    assert (len(report.trades), hidden.searches) == (64, 1)


def test_address_of_a_server_does_not_quote_a_username() -> None:
    detail = "kafka.aether.svc:9092: connection refused"
    outputs = {"kafka": {"ok": False, "detail": detail}, "nats": {"ok": False, "detail": "no such user: aether"}}
    status = {"version": 2, "service": "ingest", "ready": True, "outputs": outputs}
    found = _read(json.dumps(status), ["aether"], ["kafka.aether.svc:9092"])
    assert found.outputs == {"kafka": detail, "nats": secrecy.WITHHELD}


@pytest.mark.parametrize("password", ["svc:9092-canary", "of kafka.aether.svc:9092 canary"])
def test_password_that_overlaps_an_address_is_withheld(password: str) -> None:
    outputs = {"kafka": {"ok": False, "detail": f"kafka.aether.{password}" if password[0] == "s" else password}}
    status = {"version": 2, "service": "ingest", "ready": True, "outputs": outputs}
    found = _read(json.dumps(status), [password], ["kafka.aether.svc:9092"])
    assert found.outputs == {"kafka": secrecy.WITHHELD}


@pytest.mark.parametrize("swapped", [False, True])
def test_output_error_never_quotes_its_credentials(*, swapped: bool) -> None:
    names = (VALUE, "desk") if swapped else ("desk", VALUE)
    login = servers.Login(username=names[0], password=names[1], hidden=frozenset(names))
    server = servers.Server(host="db.desk", port=5432, tls=Tls.OFF, credentials=Path("/nowhere"))
    for fault in (
        psycopg.OperationalError(f'failed for user "{names[0]}"'),
        ValueError(f"cannot log in as {names[1]}"),
    ):
        assert server.cause(fault, login) == f"db.desk:5432: {type(fault).__name__}"
    assert server.cause(psycopg.DataError("disk\n full"), login) == "db.desk:5432: DataError: disk full"
    assert VALUE not in repr(login)


# ---- log lines


def _failing(fault: Exception) -> None:
    raise fault


def _of_a_driver() -> None:
    try:
        psycopg.conninfo.conninfo_to_dict(f"host=x {VALUE}")
    except psycopg.Error as fault:
        raise sqlalchemy.exc.OperationalError(f"SELECT '{VALUE}'", {}, fault) from fault


def _of_a_group() -> None:
    raise ExceptionGroup("several", [psycopg.OperationalError(f"as {VALUE}"), ValueError("ours")])


@LOGS
@pytest.mark.parametrize(
    ("failing", "named"),
    [
        (_of_a_driver, ["ProgrammingError", "OperationalError", "_of_a_driver"]),
        (_of_a_group, ["ExceptionGroup: several", "OperationalError", "ValueError: ours"]),
        (lambda: json.loads(f'{{"{VALUE}": '), ["JSONDecodeError", "decode"]),
        (lambda: _failing(psycopg.OperationalError(VALUE)), ["OperationalError", "_failing"]),
    ],
    ids=["driver", "group", "library", "raised here"],
)
def test_traceback_names_places_and_types_but_no_library_message(
    lines: logging.Formatter, failing: Callable[[], None], named: list[str]
) -> None:
    record = logging.LogRecord("x", logging.ERROR, "/a.py", 1, "reconcile_failed", (), None)
    try:
        failing()
    except Exception:  # noqa: BLE001 - whatever it is
        record.exc_info = sys.exc_info()
    text = lines.format(record)
    assert [one for one in named if one not in text] == []
    assert VALUE not in text.replace(f"'{VALUE}'", "")


@LOGS
async def test_unobserved_task_exception_does_not_quote_the_secret(lines: logging.Formatter) -> None:
    emitted: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: loop.default_exception_handler(context))
    handler = logging.Handler()
    handler.emit = lambda record: emitted.append(lines.format(record))  # type: ignore[method-assign]
    logging.getLogger("asyncio").addHandler(handler)
    try:
        future = asyncio.get_running_loop().create_future()
        future.set_exception(psycopg.OperationalError(f"as {VALUE}"))
        del future
    finally:
        logging.getLogger("asyncio").removeHandler(handler)
    assert "OperationalError" in emitted[0]
    assert VALUE not in emitted[0]


def test_every_value_of_every_secret_is_hidden_whatever_its_key() -> None:
    platform = observations.an_external_platform()
    given = {key: f"canary-{key}" for key in ("username", "password", "ca.crt", "host", "note")}
    observed = observations.healthy(platform)
    observed = dataclasses.replace(observed, secrets=dict.fromkeys(observed.secrets, given))
    generated = {desired.decoded(one)["password"] for ref, one in observed.children.items() if ref.kind == "Secret"}
    assert desired.secret_values(platform, observed) == {*given.values(), *generated}
    for server in Server:
        found = desired.endpoint(server, platform, observed)
        assert not isinstance(found, desired.Missing)
        assert found.secret_values == set(given.values())
        assert "canary" not in repr(found)


def test_managed_server_secrets_hide_only_the_password() -> None:
    platform = observations.a_platform()
    observed = observations.healthy(platform)
    found = desired.endpoint(Server.POSTGRES, platform, observed)
    assert not isinstance(found, desired.Missing)
    assert found.secret_values - {""} == {found.password.text} <= desired.secret_values(platform, observed)
