"""Values of samples, and a row that must be inserted once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = op.get_context().opts["schema"]
    op.add_column("samples", sa.Column("value", sa.Numeric), schema=schema)
    op.create_table("sensors", sa.Column("sensor", sa.Text, nullable=False), schema=schema)
    op.execute(f"INSERT INTO {schema}.sensors (sensor) VALUES ('first')")
