"""What ingest decides, without touching anything: messages, tapes, outboxes, sharing, what is asked for."""
