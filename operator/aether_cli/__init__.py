"""The command line of Aether, and under `local` the one-node Kubernetes it can start by itself.

It reads a cluster through kubectl's JSON, never through a client library.
"""

__version__ = "0.1.0.dev0"
