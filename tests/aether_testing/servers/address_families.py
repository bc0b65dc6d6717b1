"""IPv4 and IPv6: which of them this machine has, and simulated kernels without IPv6."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

Make = Callable[[int], socket.socket]
_IPV6: Final = "00000000000000000000000000000001" in (
    Path("/proc/net/if_inet6").read_text() if Path("/proc/net/if_inet6").exists() else ""
)
LOOPBACKS: Final = ("127.0.0.1", *(("[::1]",) if _IPV6 else ()))
"""The loopback address of each family of this machine, in URL notation."""


def not_in_the_kernel(family: int) -> socket.socket:
    """Simulate a kernel that was built without IPv6."""
    if family == socket.AF_INET6:
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
    return socket.socket(family)


class _SwitchedOff(socket.socket):
    def bind(self, _: object) -> None:
        """Fail as for a family without an address."""
        raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))


def switched_off(family: int) -> socket.socket:
    """Simulate a kernel with IPv6 disabled."""
    return _SwitchedOff(family) if family == socket.AF_INET6 else socket.socket(family)


def of(sockets: Iterable[socket.socket]) -> set[int]:
    """Close sockets and return their families."""
    found: set[int] = set()
    for one in sockets:
        found.add(one.family)
        one.close()
    return found
