"""Which servers are suitable, and what a failed connection means, with values only: no server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aether_operator.api.platforms import Timescale
from aether_operator.api.reasons import Reason
from aether_operator.database import connections, plans, servers
from aether_operator.observed.endpoints import Endpoint, SecretText
from aether_operator.observed.reports import Engine
from aether_testing.servers import database_states, postgres

if TYPE_CHECKING:
    from aether_operator.database.pg_catalog import (
        ServerFacts,
    )


@pytest.mark.parametrize(
    ("server", "timescale", "expected"),
    [
        (database_states.facts(major=14), Timescale.PREFERRED, Reason.VERSION_UNSUPPORTED),
        (database_states.facts(major=15), Timescale.PREFERRED, Engine.PARTMAN),
        (database_states.facts(major=16), Timescale.PREFERRED, Engine.PARTMAN),
        (database_states.facts(major=17), Timescale.PREFERRED, Engine.PARTMAN),
        (database_states.facts(major=18), Timescale.PREFERRED, Reason.VERSION_UNSUPPORTED),
        (database_states.facts("2.17.0"), Timescale.REQUIRED, Engine.TIMESCALE),
        (database_states.facts("2.23.0-dev"), Timescale.PREFERRED, Engine.TIMESCALE),
        (database_states.facts("3.0.0"), Timescale.PREFERRED, Engine.TIMESCALE),
        (database_states.facts("2.16.9"), Timescale.REQUIRED, Reason.VERSION_UNSUPPORTED),
        (database_states.facts("2.16.9"), Timescale.PREFERRED, Reason.VERSION_UNSUPPORTED),
        (database_states.facts("2.16.9", installed=False, superuser=True), Timescale.PREFERRED, Engine.PARTMAN),
        (database_states.facts("2.20.0", timescale_licence="apache"), Timescale.REQUIRED, Reason.VERSION_UNSUPPORTED),
        (database_states.facts("2.20.0", timescale_licence="apache"), Timescale.PREFERRED, Engine.PARTMAN),
        (database_states.facts(), Timescale.REQUIRED, Reason.TIMESCALE_MISSING),
        (database_states.facts(partman=""), Timescale.PREFERRED, Reason.PARTMAN_MISSING),
        (database_states.facts(partman="4.6.2"), Timescale.PREFERRED, Reason.VERSION_UNSUPPORTED),
        (database_states.facts(partman="5.0.0"), Timescale.PREFERRED, Engine.PARTMAN),
        (database_states.facts(partman="5.2.4"), Timescale.PREFERRED, Engine.PARTMAN),
        (database_states.facts(partman="6.0.0"), Timescale.PREFERRED, Reason.VERSION_UNSUPPORTED),
        (database_states.facts(installed=False), Timescale.PREFERRED, Reason.PERMISSION_DENIED),
        (database_states.facts(partman_rights=("USAGE",)), Timescale.PREFERRED, Reason.PERMISSION_DENIED),
        (database_states.facts(may_create=False), Timescale.PREFERRED, Reason.PERMISSION_DENIED),
        (database_states.facts(standby=True), Timescale.PREFERRED, Reason.PERMISSION_DENIED),
    ],
)
def test_server_is_evaluated_by_version_and_extensions(
    server: ServerFacts, timescale: Timescale, expected: Engine | Reason
) -> None:
    chosen = servers.choose(server, timescale, database="desk", schema="aether")
    assert (chosen.reason if isinstance(chosen, servers.Unsuitable) else chosen) is expected


def test_missing_timescaledb_is_accepted_where_the_spec_allows_it() -> None:
    state = database_states.a_state(server=database_states.facts("2.20.0", installed=False, superuser=True), tables={})
    context = plans.PlanContext(database="desk", leads=True, verifier=str, timescale_error="it is not preloaded")
    assert plans.engine_of(state, postgres.a_schema(), context) is Engine.PARTMAN
    error = plans.engine_of(state, postgres.a_schema(timescale=Timescale.REQUIRED), context)
    assert error == servers.Unsuitable(Reason.TIMESCALE_MISSING, "it is not preloaded")


@pytest.mark.parametrize(
    ("text", "asked_for_password", "expected"),
    [
        ('connection failed: FATAL:  database "x" does not exist', True, Reason.DATABASE_MISSING),
        ('connection failed: FATAL:  password authentication failed for user "x"', True, Reason.AUTHENTICATION_FAILED),
        ('connection failed: FATAL:  role "x" is not permitted to log in', True, Reason.AUTHENTICATION_FAILED),
        (
            'failed: FATAL:  no pg_hba.conf entry for host "10.0.0.1", no encryption',
            False,
            Reason.AUTHENTICATION_FAILED,
        ),
        ("fe_sendauth: no password supplied", True, Reason.AUTHENTICATION_FAILED),
        ('failed: FATAL:  permission denied for database "x"', True, Reason.PERMISSION_DENIED),
        ("failed: SSL error: certificate verify failed", False, Reason.TLS_FAILED),
        ('server certificate for "a" does not match host name "b"', False, Reason.TLS_FAILED),
        ("failed: FATAL:  the database system is starting up", False, Reason.UNREACHABLE),
        ("failed: FATAL:  sorry, too many clients already", True, Reason.UNREACHABLE),
        (
            'failed: FATAL:  Passwort-Authentifizierung für Benutzer "x" fehlgeschlagen',
            True,
            Reason.AUTHENTICATION_FAILED,
        ),
        ("failed: Connection refused", False, Reason.UNREACHABLE),
    ],
)
def test_libpq_messages_are_parsed(text: str, *, asked_for_password: bool, expected: Reason) -> None:
    assert connections.connect_error(text, asked_for_password=asked_for_password)[0] is expected


@pytest.mark.parametrize(
    ("reason", "text", "message"),
    [
        (
            Reason.AUTHENTICATION_FAILED,
            'password authentication failed for user "desk"',
            "authentication failed: check",
        ),
        (
            Reason.AUTHENTICATION_FAILED,
            'role "canary-login" is not permitted to log in',
            "authentication failed: check",
        ),
        (Reason.AUTHENTICATION_FAILED, 'no pg_hba.conf entry for host "10.0.0.1"', "the server rejects this client"),
        (Reason.UNREACHABLE, "the database system is starting up", "the server is starting or shutting down: wait"),
        (Reason.UNREACHABLE, "sorry, too many clients already", "no free connection: raise max_connections"),
        (Reason.UNREACHABLE, "", "no connection: check host and port"),
    ],
)
def test_failed_connection_is_described_in_our_words(reason: Reason, text: str, message: str) -> None:
    endpoint = Endpoint(host="db", port=5432, username="canary-login", password=SecretText("x"))
    found = connections.connect_message(reason, text, endpoint)
    assert found.startswith(message)
    assert "canary" not in found
    assert ("(" in found) == ("pg_hba" in text or "too many" in text), "the server's text, only where it says more"
