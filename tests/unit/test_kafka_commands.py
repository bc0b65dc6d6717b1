"""What an operator's message says about Kafka's own commands."""

from __future__ import annotations

from typing import Any

import pytest

from aether_operator.brokers import kafka as of_kafka
from aether_operator.observed.endpoints import Endpoint, SecretText


@pytest.mark.parametrize(
    ("settings", "file"),
    [
        ({}, ""),
        ({"tls": True}, "security.protocol=SSL"),
        (
            {"tls": True, "ca": "PEM"},
            "security.protocol=SSL, ssl.truststore.type=PEM, ssl.truststore.location (ca.crt of the Secret)",
        ),
        (
            {"tls": True, "username": "aether-login"},
            "security.protocol=SASL_SSL, sasl.mechanism=SCRAM-SHA-512, sasl.jaas.config (of an authorized login)",
        ),
    ],
)
def test_settings_file_has_what_kafkas_commands_need(settings: dict[str, Any], file: str) -> None:
    plain: dict[str, Any] = {"host": "kafka.example.org", "port": 9092, "username": "", "password": SecretText("")}
    assert of_kafka.client_properties(Endpoint(**plain | settings)) == file
