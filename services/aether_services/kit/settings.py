"""Settings: a strict model of the environment variables that the operator renders. Undeclared ones are an error.

A service's settings are a class that joins what it needs: `class Settings(ServiceSettings, PostgresSettings)`. The
variables of each server are those that the operator's catalog renders for it, which a contract test compares.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

import pydantic

from aether_services.clients.servers import Server, Tls

if TYPE_CHECKING:
    from collections.abc import Mapping

Port = Annotated[int, pydantic.Field(ge=0, le=65535)]
PREFIX: Final = "AETHER_"
"""The prefix of our variables: one with this prefix that no field declares is an error."""


class InvalidSettings(Exception):
    """A variable is missing, unknown or invalid; the message names each of them, and no value."""


class Settings(pydantic.BaseModel):
    """A service's settings, read once at its start: field `kafka_port` is the variable AETHER_KAFKA_PORT."""

    model_config = pydantic.ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        alias_generator=lambda name: PREFIX + name.upper(),
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    @classmethod
    def variables(cls) -> dict[str, bool]:
        """Variable → whether it is required."""
        return {str(field.alias): field.is_required() for field in cls.model_fields.values()}

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Parse the settings from an environment.

        Raises:
            InvalidSettings: A variable is missing, unknown or invalid.
        """
        try:
            return cls.model_validate({name: value for name, value in environ.items() if name.startswith(PREFIX)})
        except pydantic.ValidationError as fault:
            problems = (
                f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in fault.errors(include_url=False)
            )
            raise InvalidSettings("; ".join(problems)) from None


class ServiceSettings(Settings):
    """The settings of every service."""

    instance: str
    """The name of the pod."""
    release: str
    """The release of the software."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    http_host: str | None = None
    """The address to listen on; unset: all addresses of the pod, IPv4 and IPv6."""
    http_port: Port = 8000


class PostgresSettings(Settings):
    """The settings of a service that uses PostgreSQL."""

    postgres_host: str
    postgres_port: Port
    postgres_tls: Tls
    postgres_database: str
    postgres_credentials: Path
    """The folder with the credentials; likewise those of the other servers."""

    @property
    def postgres(self) -> Server:
        return Server(
            host=self.postgres_host,
            port=self.postgres_port,
            tls=self.postgres_tls,
            credentials=self.postgres_credentials,
        )


class KafkaSettings(Settings):
    """The settings of a service that uses Kafka."""

    kafka_host: str
    kafka_port: Port
    kafka_tls: Tls
    kafka_credentials: Path

    @property
    def kafka(self) -> Server:
        return Server(
            host=self.kafka_host, port=self.kafka_port, tls=self.kafka_tls, credentials=self.kafka_credentials
        )


class NatsSettings(Settings):
    """The settings of a service that uses NATS."""

    nats_host: str
    nats_port: Port
    nats_tls: Tls
    nats_credentials: Path

    @property
    def nats(self) -> Server:
        return Server(host=self.nats_host, port=self.nats_port, tls=self.nats_tls, credentials=self.nats_credentials)
