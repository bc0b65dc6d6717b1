"""Watches of the Kubernetes API through Kopf: every event becomes a key in the workqueue, and nothing else happens."""
