"""The variables of a server: what the operator renders is what the kit's settings read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aether_operator.api.platforms import Server
from aether_operator.catalog import components
from aether_services.clients import servers
from aether_services.kit import settings

if TYPE_CHECKING:
    from aether_services.kit.settings import Settings


@pytest.mark.parametrize(
    ("server", "model"),
    [
        (Server.POSTGRES, settings.PostgresSettings),
        (Server.KAFKA, settings.KafkaSettings),
        (Server.NATS, settings.NatsSettings),
    ],
)
def test_settings_of_a_server_are_the_variables_of_the_catalog(server: Server, model: type[Settings]) -> None:
    assert model.variables() == dict.fromkeys(components.server_variables(server), True)
    values = {"HOST": "h", "PORT": "1", "TLS": "Disabled", "DATABASE": "d", "CREDENTIALS": "/c"}
    read = model.read({name: values[name.rpartition("_")[2]] for name in model.variables()})
    assert getattr(read, server.value) == servers.Server(host="h", port=1, tls=servers.Tls.OFF, credentials=Path("/c"))
