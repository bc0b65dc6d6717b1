"""The command line of Aether, and under `local` the one-node Kubernetes that it can start on this machine.

It reads clusters by running kubectl and parsing its JSON; it uses no Kubernetes client library.
"""

__version__ = "0.1.0.dev0"
