"""The sockets on which operator and services listen."""

from __future__ import annotations

import socket

import pytest

from aether_runtime import listening_sockets
from aether_testing.servers import address_families


@pytest.mark.parametrize("without", [address_families.not_in_the_kernel, address_families.switched_off])
def test_without_ipv6_a_process_listens_on_ipv4(without: address_families.Make) -> None:
    assert address_families.of(listening_sockets.bind(0, without)) == {socket.AF_INET}


def test_port_in_use_is_not_served_on_one_family_alone() -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))  # noqa: S104 - as a process would
        taken.listen()
        with pytest.raises(OSError, match="Address already in use"):
            listening_sockets.bind(taken.getsockname()[1])
