"""Kopf: notice that something happened, and nothing more."""
