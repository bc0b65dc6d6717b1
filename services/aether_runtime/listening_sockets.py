"""The sockets of an HTTP server in a pod: on all addresses, IPv4 and IPv6."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def bind(port: int, create_socket: Callable[[int], socket.socket] = socket.socket) -> list[socket.socket]:
    """One bound socket for each of IPv4 and IPv6 that the kernel supports, on all addresses.

    Two sockets rather than one dual-stack socket, so that IPv4 clients keep their addresses instead of appearing as
    IPv4-mapped IPv6.

    Args:
        port: The port of both; with 0 the kernel chooses one, the same for both.
        create_socket: Creates the socket of a family.

    Raises:
        OSError: The port is in use.
    """
    bound: list[socket.socket] = []
    try:
        for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104 - within a pod
            try:
                sock = create_socket(family)
            except OSError:
                continue  # the kernel does not support this family
            bound.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind((any_address, port))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                bound.pop().close()  # supported by the kernel, but disabled
                continue
            port = sock.getsockname()[1]
    except OSError:
        for sock in bound:
            sock.close()
        raise
    return bound
