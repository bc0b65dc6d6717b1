"""The operator's configuration: the file that the chart renders, and its pod's identity from the environment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import pydantic
import yaml
from pydantic import Field

from aether_operator.api.models import Model
from aether_operator.api.platforms import Server
from aether_operator.catalog.releases import Release

if TYPE_CHECKING:
    from collections.abc import Mapping

ENVIRONMENT: Final = "AETHER_CONFIG"
Name = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]
Address = Annotated[str, Field(pattern=r"^([^:\s\[\]]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$")]


class InvalidConfig(Exception):
    """The configuration cannot be used. The message has a line for each problem, with the name of the field."""


class LeaseName(Model):
    namespace: Name
    name: Name = "aether-operator"


class Config(Model):
    """The configuration file.

    `resync_seconds` is the longest time between two reconciles of an object, unless there are so many steady objects
    that it takes longer at `RESYNCS_PER_SECOND`.

    Two fields are for an operator outside of the cluster, which cannot resolve names of Services or reach pods:
    `managed_addresses` has `host:port` or `[IPv6]:port` of each managed server; `component_address` is a URL of a
    component's pod with `{namespace}` and `{pod}` in it. Beside `kubectl proxy` that is
    `http://127.0.0.1:8001/api/v1/namespaces/{namespace}/pods/{pod}:8000/proxy`.
    """

    namespaces: Annotated[tuple[Name, ...], Field(min_length=1, max_length=64)]
    lease: LeaseName
    release: Release
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    resync_seconds: Annotated[float, Field(gt=0, le=86400)] = 600
    watch_silence_seconds: Annotated[float, Field(gt=0, le=70)] = 70
    max_concurrent_reconciles: Annotated[int, Field(ge=1, le=64)] = 8
    managed_addresses: dict[Server, Address] = Field(default_factory=dict)
    component_address: Annotated[str, Field(pattern=r"^$|^https?://[^{}\s]*(\{(namespace|pod)\}[^{}\s]*)+$")] = ""


def load(path: str) -> Config:
    """Read and validate the configuration file.

    Raises:
        InvalidConfig: The file is missing, is not YAML, or has an invalid field.
    """
    if not path:
        raise InvalidConfig(f"--config: not given, and {ENVIRONMENT} is not set")
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidConfig(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InvalidConfig(f"{path}: not YAML") from error
    try:
        return Config.model_validate(data)
    except pydantic.ValidationError as error:
        raise InvalidConfig(
            "\n".join(f"{path}: {'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        ) from None


def identity(env: Mapping[str, str]) -> tuple[str, str]:
    """The name and the namespace of the operator's own pod.

    Raises:
        InvalidConfig: A variable is not set.
    """
    missing = [name for name in ("POD_NAME", "POD_NAMESPACE") if not env.get(name)]
    if missing:
        raise InvalidConfig("\n".join(f"{name}: not set in the environment" for name in missing))
    return env["POD_NAME"], env["POD_NAMESPACE"]
