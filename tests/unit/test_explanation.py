"""The output of `aether explain` for statuses that the operator really computes: causes, what they block, commands."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from rich.text import Text

from aether_cli import explanation
from aether_operator.api.platform_definition import DEFINITION
from aether_operator.api.platforms import Server
from aether_operator.api.reasons import Reason
from aether_operator.catalog.components import COMPONENTS
from aether_operator.observed.reports import ServerReport
from aether_testing.values import evaluations, observations, states

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aether_operator.api.platforms import Platform


def as_object(platform: Platform, status: Mapping[str, Any]) -> dict[str, Any]:
    meta = {"namespace": platform.namespace, "name": platform.name, "uid": "0-1", "generation": 1}
    spec = platform.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {"kind": "TradingPlatform", "metadata": meta, "spec": spec, "status": status}


def with_broken_servers(reason: Reason, message: str, *, secret: str = "", **spec: Any) -> dict[str, Any]:
    """A new platform with four External servers, whose Secrets have the same problem; {} is the Secret's name."""
    servers = {}
    for nth, server in enumerate(Server):
        external = {"host": f"{server}.example.com", "port": 5000 + nth, "secretName": secret or f"{server}-login"}
        database = {"database": "trading"} if server is Server.POSTGRES else {}
        servers[server.value] = {"mode": "External", "external": {**external, **database}}
    platform = observations.a_platform(dataPlane=servers, **spec)
    observed = observations.created(platform)
    for server in Server:
        text = message.format(secret or f"{server}-login")
        observed = observations.with_server_report(observed, ServerReport(server=server, reason=reason, message=text))
    observed = dataclasses.replace(observed, schema=None, topics=None, owners={})
    return as_object(platform, evaluations.status_of(evaluations.inputs(platform, observed)))


def shown(platform: dict[str, Any], *events: dict[str, Any]) -> list[str]:
    return [Text.from_markup(line).plain for line in explanation.explanation_lines(platform, events)]


def commands(lines: list[str]) -> Iterator[str]:
    return (line.strip() for line in lines if line.strip().startswith("kubectl "))


def users_of(*which: Server) -> str:
    """The parts of the components that use one of these servers."""
    return ", ".join(row.condition.part for row in COMPONENTS.values() if set(which) & set(row.servers))


def test_four_missing_secrets_are_one_group_with_their_commands() -> None:
    lines = shown(with_broken_servers(Reason.SECRET_MISSING, "Secret {} does not exist", venue={"name": "Kraken"}))
    assert lines == [
        "TradingPlatform paper in namespace desk is being reconciled.",
        "",
        "  SecretMissing  A Secret that the spec names does not exist in this namespace.",
        f"    Secret postgres-login does not exist (blocks postgres, schema, venue, {users_of(Server.POSTGRES)})",
        f"    Secret kafka-login does not exist (blocks kafka, topics, venue, {users_of(Server.KAFKA)})",
        f"    Secret nats-login does not exist (blocks nats, venue, {users_of(Server.NATS)})",
        "    Secret redis-login does not exist (blocks redis)",
        "    What to do: Create the Secret, or name another.",
        *(
            f"      kubectl create secret generic {server}-login --namespace desk "
            "--from-literal=username=… --from-literal=password=…"
            for server in Server
        ),
        "    Add --from-file=ca.crt=FILE where the server's certificate is not signed by one of the system's CAs.",
        "",
        "  The operator continues by itself once this is resolved.",
    ]


def test_secret_of_all_servers_is_one_cause_with_one_command() -> None:
    lines = shown(with_broken_servers(Reason.SECRET_MISSING, "Secret {} does not exist", secret="logins"))  # noqa: S106
    (cause,) = [line for line in lines if "does not exist (" in line]
    blocked = f"postgres, kafka, nats, redis, schema, topics, {users_of(*Server)}"
    assert cause == f"    Secret logins does not exist (blocks {blocked})"
    assert len(list(commands(lines))) == 1


def test_missing_keys_of_a_secret_are_those_of_its_command() -> None:
    message = "Secret {} has no key username and no key password"
    lines = shown(with_broken_servers(Reason.SECRET_KEY_MISSING, message))
    patch = '\'{"stringData":{"username":"…","password":"…"}}\''
    assert next(commands(lines)) == f"kubectl patch secret postgres-login --namespace=desk -p {patch}"
    (first, *_) = commands(shown(with_broken_servers(Reason.SECRET_KEY_MISSING, "Secret {} has no key password")))
    assert first.endswith("""-p '{"stringData":{"password":"…"}}'""")


def test_event_message_is_not_repeated_where_the_status_has_it() -> None:
    platform = with_broken_servers(Reason.SECRET_MISSING, "Secret {} does not exist")
    old = {"eventTime": "2026-11-27T10:00:00Z", "reason": "Failed", "note": "something else"}
    new = {"eventTime": "2026-11-27T10:00:09Z", "reason": "SecretMissing", "note": platform["status"]["message"]}
    assert shown(platform, new, old)[-2:] == [
        "    2026-11-27T10:00:00  Failed: something else",
        "    2026-11-27T10:00:09  SecretMissing",
    ]


def test_problem_of_the_spec_is_shown_beside_those_of_parts() -> None:
    platform = observations.a_platform()
    observed = observations.with_server_report(
        observations.healthy(platform), ServerReport(server=Server.NATS, reason=Reason.UNREACHABLE, message="no route")
    )
    inputs = evaluations.inputs(
        platform, observed, generation=2, newest=None, problems=("spec.pairs: a; b", "spec.x: c")
    )
    found = explanation.causes(as_object(platform, evaluations.status_of(inputs)))
    assert [(one.reason, one.message, one.blocked) for one in found] == [
        (Reason.INVALID_SPEC, "spec.pairs: a; b; spec.x: c", ()),
        (Reason.UNREACHABLE, "no route", ("nats",)),
    ]


def test_parts_without_a_valid_spec_wait_for_it() -> None:
    status = evaluations.status_of(evaluations.inputs(None, newest=None, problems=("spec.retention: no",)))
    (cause,) = explanation.causes(as_object(observations.a_platform(), status))
    assert (cause.reason, cause.message) == (Reason.INVALID_SPEC, "spec.retention: no")
    assert set(cause.blocked) == {one.part for one in DEFINITION.all_conditions if one.part}


@pytest.mark.parametrize("venue", ["Simulated", "Kraken"])
def test_parts_that_wait_for_each_other_are_shown_themselves(venue: str) -> None:
    waiting = {"status": "Unknown", "reason": "Progressing"}
    conditions = [{"type": kind, "message": f"{kind} waits", **waiting} for kind in ("VenueReady", "IngestReady")]
    platform = as_object(observations.a_platform(venue={"name": venue}), {"conditions": conditions})
    assert {part for one in explanation.causes(platform) for part in one.blocked} == {"venue", "ingest"}


@pytest.mark.parametrize("state", states.STATES, ids=lambda one: one.title)
def test_every_problem_is_shown_or_follows_from_one_that_is(state: states.State) -> None:
    meta = {"namespace": "desk", "name": "paper", "generation": 1}
    platform = {"kind": "TradingPlatform", "metadata": meta, "spec": state.spec}
    found = explanation.causes({**platform, "status": state.status})
    conditions = {one["type"]: one for one in state.status.get("conditions", ())}
    bad = {
        part: conditions[kind]
        for kind, part in explanation.PART_CONDITIONS.items()
        if kind in conditions and conditions[kind]["status"] != "True"
    }
    assert bad.keys() <= {part for one in found for part in one.blocked}
    assert bool(found) is (state.state not in {"", "Ready"})
    assert all(one.message for one in found)


@pytest.mark.parametrize(
    ("venue", "of_venue"), [("Simulated", set()), ("Kraken", {"ingest"}), ("of a newer release", {"ingest"})]
)
def test_parts_wait_for_what_their_rows_name(venue: str, of_venue: set[str]) -> None:
    found = explanation.dependencies_of({"spec": {"venue": {"name": venue}}})
    assert {part: set(found[part]) for part in ("schema", "topics", "venue", "ingest")} == {
        "schema": {"postgres"},
        "topics": {"kafka"},
        "venue": of_venue,
        "ingest": {"postgres", "kafka", "nats", "schema", "topics", "venue"},
    }


def test_healthy_platform_has_no_cause() -> None:
    platform = observations.a_platform()
    status = evaluations.status_of(evaluations.inputs(platform, observations.healthy(platform)))
    assert explanation.causes(as_object(platform, status)) == []
