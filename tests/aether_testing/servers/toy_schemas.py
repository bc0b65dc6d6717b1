"""A tiny second schema for tests of the database engine: one growing table, one user, two revisions."""

from __future__ import annotations

import dataclasses
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aether_operator.catalog.schemas import Column, GrowingTable, Privileges, SchemaDefinition, Table
from aether_operator.observed.endpoints import SecretText
from aether_operator.observed.reports import Login
from aether_testing.servers import postgres

if TYPE_CHECKING:
    from aether_operator.observed.reports import DesiredSchema

_KEY: Final = (Column("sensor", "text"), Column("at", "timestamp with time zone"))
_SAMPLES: Final = Table(name="samples", columns=_KEY, constraints={"samples_pkey": "PRIMARY KEY (sensor, at)"})
USER: Final = "sampler"
TOY: Final = SchemaDefinition(
    name="toy",
    migrations=Path(__file__).parent / "toy_schema",
    tables={
        "samples": dataclasses.replace(_SAMPLES, columns=(*_KEY, Column("value", "numeric", required=False))),
        "sensors": Table(name="sensors", columns=(Column("sensor", "text"),)),
    },
    growing={"samples": GrowingTable(time="at", segment="sensor", partition_days=1, compress_days=7)},
    users={USER: Privileges(description="samples", writes={"samples": frozenset({"INSERT"})})},
)


def first_revision(folder: Path) -> SchemaDefinition:
    """The schema as it was before its second revision; the migrations are copied to a new folder."""
    shutil.copytree(TOY.migrations, folder, ignore=shutil.ignore_patterns("__pycache__", "0002*"))
    return dataclasses.replace(TOY, migrations=folder, tables={"samples": _SAMPLES})


def a_toy(**other: Any) -> DesiredSchema:
    """The desired schema, for the owner of `postgres.a_schema`."""
    login = Login(
        username=f"{USER}_{secrets.token_hex(4)}", password=SecretText(postgres.LOGIN_PASSWORD), kept_in="toy-login"
    )
    plain: dict[str, Any] = {"definition": TOY, "days": {"samples": 30}, "logins": {USER: login}}
    return postgres.a_schema(**plain | other)
