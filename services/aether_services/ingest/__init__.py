"""Market data: received from a venue, verified, and handed to Kafka, NATS and tables, each at its own pace."""
