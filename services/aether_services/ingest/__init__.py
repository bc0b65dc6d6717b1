"""Market data: received from a venue, verified, and delivered to Kafka, NATS and tables, each at its own pace."""
