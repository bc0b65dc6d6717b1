"""The addresses of a local cluster, and the `ip` commands that set up its network namespace. No I/O.

All clusters have the same addresses, each in a separate network namespace.
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
"""The DNS server of slirp4netns, the user-mode network of `--egress`."""

# For `ip -batch`. Not every kernel has dummy interfaces, so the node's address is on a separate bridge.
LINKS: Final = f"""\
link set lo up
link add aether0 type bridge
addr add {NODE}/32 dev aether0
link set aether0 up
route add {SERVICES} dev aether0
route add blackhole {PODS}
"""
# The service range is routed to the bridge: until kube-proxy's rules exist, its packets would otherwise leave by a
# default route. A blackhole would keep the node itself from reaching services. The pods' range may have one: the
# container bridge's route is more specific.

SYSCTLS: Final = {"net/ipv4/ip_forward": "1"}
