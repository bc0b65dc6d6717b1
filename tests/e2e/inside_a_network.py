"""Run by test_egress in a network namespace: an outside server, a cluster, and a pod that requests the former."""

from __future__ import annotations

import http.server
import json
import sys
import threading
from dataclasses import replace
from pathlib import Path

from aether_cli import processes
from aether_testing.cluster import clusters, namespaces
from aether_testing.values import builders

REQUESTS = """
import json, urllib.request
def get(url):
    try:
        return urllib.request.urlopen(url, timeout=5).read().decode()
    except OSError:
        return "unreachable"
print(json.dumps({"internet": get("http://198.51.100.1:8080/"), "machine": get("http://10.0.2.2:8081/")}))
"""


class Hello(http.server.BaseHTTPRequestHandler):
    """Responds to every request with the same text."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


def main(folder: Path, *, egress: bool, network: str) -> None:
    processes.run(["ip", "-batch", "-"], stdin=network)
    # One on an outside address, one on the machine's loopback: the second must stay closed in any case.
    for address in (("198.51.100.1", 8080), ("127.0.0.1", 8081)):
        server = http.server.ThreadingHTTPServer(address, Hello)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    with clusters.running(replace(clusters.BARE_NODE, egress=egress), clusters.unique_paths(folder)) as cluster:
        namespace = namespaces.create(cluster, "egress")
        pod = builders.a_pod("python3", "-c", REQUESTS, image=cluster.images["base"], restartPolicy="Never")
        namespace.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "requests"}, "spec": pod})
        namespace.until(
            lambda seen: any(one["status"].get("phase") == "Succeeded" for one in seen.values()),
            "pods",
            expected="the pod has ended",
        )
        print(namespace.text("logs", "requests").strip())


if __name__ == "__main__":
    main(Path(sys.argv[1]), egress=json.loads(sys.argv[2]), network=sys.argv[3])
