"""A plain Kopf operator, as its tutorial teaches: handlers that write the same child and a status.

The peer of `operator-cold`: it observes nothing, contacts no server and repairs nothing.
"""

from __future__ import annotations

import os
import secrets
from typing import Any

import kopf
from kubernetes.aio import client, config

from aether_operator.api import labels, models, platforms
from aether_testing.values import observations

API: dict[str, client.CoreV1Api] = {}


@kopf.on.startup()
async def connect(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.posting.enabled = False
    settings.scanning.disabled = True
    found = client.Configuration()
    await config.load_kube_config(os.environ["KUBECONFIG"], client_configuration=found)
    API["core"] = client.CoreV1Api(client.ApiClient(found))


@kopf.on.create(models.GROUP, models.VERSION, platforms.PLURAL)
@kopf.on.update(models.GROUP, models.VERSION, platforms.PLURAL)
async def create(spec: kopf.Spec, name: str, namespace: str | None, patch: kopf.Patch, **_: Any) -> None:
    where = spec["dataPlane"]["postgres"]["external"]
    login = {"host": where["host"], "port": str(where["port"]), "database": where["database"]}
    secret = {
        "metadata": {
            "name": f"{name}-postgres-reader",
            "labels": labels.for_child(observations.an_owner(name), "postgres"),
        },
        "stringData": {**login, "username": "aether_reader", "password": secrets.token_urlsafe(24)},
    }
    await API["core"].create_namespaced_secret(namespace, secret)
    patch.status["state"] = "Ready"
