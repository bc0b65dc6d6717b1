"""The only speaker to PostgreSQL and TimescaleDB."""
