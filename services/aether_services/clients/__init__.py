"""Clients of the servers that services share: addresses, credentials, connections, and why one failed."""
