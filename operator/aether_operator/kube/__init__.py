"""Clients of the Kubernetes API: requests, sessions, leader election, events."""
