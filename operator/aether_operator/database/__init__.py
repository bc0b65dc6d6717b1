"""The only client of PostgreSQL and TimescaleDB: checks, ownership, migrations, policies and logins."""
