"""The connection check, on a real server."""

from __future__ import annotations

import dataclasses
import socket
from typing import TYPE_CHECKING, Any

import pytest

from aether_operator.api.platforms import Timescale
from aether_operator.api.reasons import Reason
from aether_operator.database import checks, connections, migrator
from aether_operator.observed.endpoints import SecretText
from aether_runtime import network_errors
from aether_testing.servers import postgres as servers
from aether_testing.servers import tls

if TYPE_CHECKING:
    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.reports import ServerReport


def checked(endpoint: Endpoint, timescale: Timescale = Timescale.PREFERRED, **other: Any) -> ServerReport:
    return checks.check(dataclasses.replace(endpoint, **other), "aether", timescale, deadline=20)


def test_suitable_server_reports_its_versions(postgres: servers.Postgres, fresh: Endpoint) -> None:
    report = checked(fresh)
    assert report.ok
    assert report.version.startswith(f"{postgres.release.major}.")
    assert report.partman.startswith(postgres.release.partman)
    assert (report.timescale, report.message) == ("", "")


def test_timescale_in_webassembly_passes_the_check(timescale: Endpoint) -> None:
    report = checked(timescale, Timescale.REQUIRED)
    assert report.ok
    assert report.version.startswith("17.")
    assert report.timescale.startswith("2.23")


def test_port_without_a_listener_is_unreachable(fresh: Endpoint) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        report = checked(fresh, port=taken.getsockname()[1])
    assert (report.reason, "refused" in report.message) == (Reason.UNREACHABLE, True)


def test_silent_server_is_unreachable_after_the_deadline(fresh: Endpoint) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_one = dataclasses.replace(fresh, port=silent.getsockname()[1])
        report = checks.check(silent_one, "aether", Timescale.PREFERRED, deadline=2)
    assert report.reason is Reason.UNREACHABLE
    assert "no response within 2 s" in report.message


def test_unknown_host_name_is_unreachable(fresh: Endpoint) -> None:
    report = checked(fresh, host="db.invalid")
    assert report.reason is Reason.UNREACHABLE
    assert report.message == f"db.invalid:{fresh.port}/{fresh.database}: {network_errors.NOT_RESOLVED}"


def test_server_certificate_of_the_given_ca_is_trusted(postgres: servers.Postgres, fresh: Endpoint) -> None:
    assert checked(fresh, tls=True, ca=postgres.ca).ok
    assert migrator.ensure_schema(
        dataclasses.replace(fresh, tls=True, ca=postgres.ca), servers.a_schema(), servers.a_leader(), deadline=60
    ).ok


def test_ca_may_have_comments_in_any_encoding(postgres: servers.Postgres, fresh: Endpoint) -> None:
    assert checked(fresh, tls=True, ca=f"# Főtanúsítvány\n{postgres.ca}").ok


def test_certificate_of_another_ca_is_not_trusted(fresh: Endpoint) -> None:
    report = checked(fresh, tls=True, ca=tls.a_certificate().ca)
    assert report.reason is Reason.TLS_FAILED
    assert "certificate verify failed" in report.message


def test_system_certificates_are_used_when_no_ca_is_given(fresh: Endpoint) -> None:
    report = checked(fresh, tls=True)
    assert report.reason is Reason.TLS_FAILED
    assert "certificate verify failed" in report.message


def test_a_certificate_for_another_name_is_not_trusted(postgres: servers.Postgres, fresh: Endpoint) -> None:
    report = checked(fresh, tls=True, ca=postgres.ca, host="localhost")
    assert report.reason is Reason.TLS_FAILED
    assert "localhost" in report.message


def test_invalid_ca_is_reported(fresh: Endpoint) -> None:
    report = checked(fresh, tls=True, ca="not a certificate")
    assert report.reason is Reason.TLS_FAILED
    assert report.message.endswith(f"/{fresh.database}: ca.crt of the Secret is not a certificate in PEM")


def test_server_without_tls_fails_where_tls_is_required(postgres: servers.Postgres, fresh: Endpoint) -> None:
    with postgres.set("ssl", "off"):
        report = checked(fresh, tls=True, ca=postgres.ca)
    assert report.reason is Reason.TLS_FAILED
    assert "does not support SSL" in report.message


@pytest.mark.parametrize("password", ["canary-wrong", ""])
def test_wrong_password_is_rejected(fresh: Endpoint, password: str) -> None:
    report = checked(fresh, password=SecretText(password))
    assert report.reason is Reason.AUTHENTICATION_FAILED
    assert report.message.startswith(f"127.0.0.1:{fresh.port}/{fresh.database}: ")
    assert not [one for one in ("canary", "creator") if one in repr(report)]


def test_password_used_as_username_appears_nowhere(fresh: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    for username in ("canary-S3cret", "canary" * 20):  # PostgreSQL truncates a name to 63 bytes
        report = checked(fresh, username=username, password=SecretText("creator"))
        assert report.reason is Reason.AUTHENTICATION_FAILED
        assert report.message.endswith(f"/{fresh.database}: {network_errors.AUTHENTICATION_FAILED}")
        assert "canary" not in repr(report) + caplog.text


def test_unknown_login_is_rejected(fresh: Endpoint) -> None:
    assert checked(fresh, username="nobody").reason is Reason.AUTHENTICATION_FAILED


def test_role_without_login_is_rejected(postgres: servers.Postgres, fresh: Endpoint) -> None:
    name, password = postgres.login()
    postgres.run("postgres", f"ALTER ROLE {name} NOLOGIN")
    assert checked(fresh, username=name, password=SecretText(password)).reason is Reason.AUTHENTICATION_FAILED


def test_missing_database_is_named(fresh: Endpoint) -> None:
    report = checked(fresh, database="nowhere")
    assert report.reason is Reason.DATABASE_MISSING
    assert 'database "nowhere" does not exist' in report.message


def test_login_that_may_not_connect_lacks_a_permission(postgres: servers.Postgres, fresh: Endpoint) -> None:
    name, password = postgres.login()
    postgres.run(fresh.database, f"REVOKE CONNECT ON DATABASE {fresh.database} FROM PUBLIC")
    report = checked(fresh, username=name, password=SecretText(password))
    assert report.reason is Reason.PERMISSION_DENIED


def test_login_that_may_not_create_schemas_lacks_a_permission(postgres: servers.Postgres, fresh: Endpoint) -> None:
    name, password = postgres.login()
    postgres.run(
        fresh.database,
        f"GRANT ALL ON SCHEMA partman TO {name}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA partman TO {name}",
    )
    report = checked(fresh, username=name, password=SecretText(password))
    assert report.reason is Reason.PERMISSION_DENIED
    assert 'the login may not create the schema "aether": grant it CREATE on the database' in report.message


def test_login_without_access_to_pg_partman_names_the_missing_grant(
    postgres: servers.Postgres, fresh: Endpoint
) -> None:
    name, password = postgres.login()
    postgres.run(fresh.database, f"GRANT CREATE ON DATABASE {fresh.database} TO {name}")
    report = checked(fresh, username=name, password=SecretText(password))
    assert report.reason is Reason.PERMISSION_DENIED
    assert "USAGE on schema partman, CREATE on schema partman, ALL on the tables of schema partman" in report.message


def test_pg_partman_that_only_a_superuser_installs_lacks_a_permission(postgres: servers.Postgres) -> None:
    endpoint = postgres.endpoint(postgres.database(owner=servers.CREATOR), servers.CREATOR, servers.CREATOR_PASSWORD)
    report = checked(endpoint)
    assert report.reason is Reason.PERMISSION_DENIED
    assert "CREATE EXTENSION pg_partman SCHEMA partman" in report.message


def test_missing_required_timescale_is_reported(postgres: servers.Postgres, fresh: Endpoint) -> None:
    report = checked(fresh, Timescale.REQUIRED)
    assert report.reason is Reason.TIMESCALE_MISSING
    assert report.version.startswith(f"{postgres.release.major}.")


def test_server_without_free_connections_is_unreachable_and_says_so(
    postgres: servers.Postgres, fresh: Endpoint
) -> None:
    postgres.run("postgres", f"ALTER DATABASE {fresh.database} CONNECTION LIMIT 1")
    with servers.connected(fresh):
        report = checked(fresh)
    assert report.reason is Reason.UNREACHABLE
    assert "too many connections" in report.message


def hang(endpoint: Endpoint) -> None:
    with connections.session(endpoint, deadline=2) as connection:
        connection.exec_driver_sql("SET statement_timeout = 0")
        connection.exec_driver_sql("SELECT pg_sleep(60)")


def test_session_is_closed_at_its_deadline(fresh: Endpoint) -> None:
    with pytest.raises(connections.ConnectionFailed) as error:
        hang(fresh)
    assert error.value.reason is Reason.UNREACHABLE
    assert "no response within 2 s" in error.value.message
