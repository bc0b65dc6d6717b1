"""The proxies of servers that tests share."""

from __future__ import annotations

import contextlib
import gc
import socket

from aether_testing.servers import shared_servers


def test_proxies_close_connections_that_nobody_reads() -> None:
    """An unclosed socket is a warning, and so an error, of whichever test runs at the next garbage collection."""
    with socket.create_server((shared_servers.HOST, 0)) as server:
        with shared_servers.running() as proxies:
            proxy = proxies.add(server.getsockname()[1])
            client = socket.create_connection((shared_servers.HOST, proxy.port), timeout=1)
            upstream, _ = server.accept()
            with contextlib.suppress(TimeoutError):
                while True:  # until every buffer on the way is full
                    client.sendall(b"x" * 65536 + b"\n")
        client.close()
        upstream.close()
    gc.collect()
