"""The adapters of ingest: the venue, the three outputs, the other replicas, the live settings."""
