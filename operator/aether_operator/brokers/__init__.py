"""The only speaker to Kafka, NATS and Redis."""
