"""The addresses of the local cluster, and the commands that give its namespace a network. Values only.

Every cluster has the same addresses: each lives in a network namespace of its own.
"""

from __future__ import annotations

from typing import Final

NODE_NAME: Final = "aether"
NODE: Final = "10.99.0.1"
SERVICES: Final = "10.96.0.0/16"
API_SERVICE: Final = "10.96.0.1"
DNS_SERVICE: Final = "10.96.0.10"
PODS: Final = "10.244.0.0/16"
DOMAIN: Final = "cluster.local"
API_PORT: Final = 6443
TAP: Final = "tap0"
EGRESS_DNS: Final = "10.0.2.3"
"""Where the user-mode network of `--egress` answers names."""

# For `ip -batch`. The kernel may have no dummy interface, so the node's address sits on a bridge of its own.
LINKS: Final = f"""\
link set lo up
link add aether0 type bridge
addr add {NODE}/32 dev aether0
link set aether0 up
route add {SERVICES} dev aether0
route add blackhole {PODS}
"""
# The service range goes to the bridge: until kube-proxy's rules exist, its packets would take a way out, if there is
# one. A blackhole there would also stop the node itself from reaching services; for the pods' range it is right, since
# a route of the container bridge is always longer.

SYSCTLS: Final = {"net/ipv4/ip_forward": "1"}
