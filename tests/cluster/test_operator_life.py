"""A platform's life with the real operator: created, ready, edited, repaired, paused, deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aether_testing import operators, planes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aether_cli.local.starting import Cluster
    from aether_testing.namespaces import Namespace
    from aether_testing.operators import Operator
    from aether_testing.planes import Plane


@pytest.fixture
def operator(control_plane: Cluster, namespace: Namespace, plane: Plane, tmp_path: Path) -> Iterator[Operator]:
    place = operators.prepare(control_plane, namespace, tmp_path)
    with place.operator(supervised=True, managedAddresses=plane.addresses()) as one:
        one.wait_leading()
        yield one


def test_a_platform_on_external_servers_becomes_ready_and_then_nothing_is_written(
    operator: Operator, namespace: Namespace, plane: Plane
) -> None:
    planes.put(namespace, planes.a_platform(plane.external(plane.database())))
    waiting = planes.until(namespace, "Ready", "False", reason="SecretMissing")
    assert planes.SECRET in waiting["status"]["message"]
    planes.put(namespace, planes.login_secret())
    ready = planes.until(namespace, "Ready", "True")
    assert ready["status"]["schema"]["engine"] == "pg_partman"
    assert ready["status"]["endpoints"]["postgres"]["port"] == plane.postgres.port
    operators.settled(operator, resyncs=10)
