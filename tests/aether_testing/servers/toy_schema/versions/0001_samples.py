"""Samples."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from aether_operator.observed.reports import Engine

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    ours = op.get_context().opts
    partitioned: dict[str, Any] = {"postgresql_partition_by": "RANGE (at)"} if ours["engine"] is Engine.PARTMAN else {}
    op.create_table(
        "samples",
        sa.Column("sensor", sa.Text, nullable=False),
        sa.Column("at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sensor", "at", name="samples_pkey"),
        schema=ours["schema"],
        **partitioned,
    )
