"""What the counting proxy makes of a path, and what it answers by itself."""

from __future__ import annotations

import pytest

from aether_testing.servers.api_proxy import faults, targets
from aether_testing.servers.api_proxy.targets import Target

CORE = {"group": "", "version": "v1"}
APPS = {"group": "apps", "version": "v1"}


@pytest.mark.parametrize(
    ("path", "about"),
    [
        ("/api/v1/namespaces/a/secrets/b", Target(**CORE, resource="secrets", namespace="a", name="b")),
        ("/api/v1/namespaces/a/secrets", Target(**CORE, resource="secrets", namespace="a")),
        ("/api/v1/secrets", Target(**CORE, resource="secrets")),
        ("/api/v1/namespaces", Target(**CORE, resource="namespaces")),
        ("/api/v1/namespaces/a", Target(**CORE, resource="namespaces", name="a")),
        ("/api/v1/namespaces/a/status", Target(**CORE, resource="namespaces", name="a", subresource="status")),
        ("/api/v1/nodes/n", Target(**CORE, resource="nodes", name="n")),
        (
            "/apis/apps/v1/namespaces/a/statefulsets/b/scale",
            Target(**APPS, resource="statefulsets", namespace="a", name="b", subresource="scale"),
        ),
        ("/apis/apps/v1/statefulsets", Target(**APPS, resource="statefulsets")),
        ("/api", None),
        ("/api/v1", None),
        ("/apis/apps/v1", None),
        ("/livez", None),
        ("/openapi/v3/api/v1", None),
    ],
)
def test_path_identifies_the_target_of_a_request(path: str, about: Target | None) -> None:
    assert targets.parse(path) == about


@pytest.mark.parametrize(
    ("path", "counted"),
    [
        ("/api/v1/namespaces/a/secrets/b", True),
        ("/apis/trading.aether.io/v1alpha1/namespaces/a/tradingplatforms/b/status", True),
        ("/apis/coordination.k8s.io/v1/namespaces/a/leases/b", False),
        ("/apis/events.k8s.io/v1/namespaces/a/events", False),
        ("/api/v1/namespaces/a/events", False),
        ("/api/v1/namespaces/a/serviceaccounts/b/token", False),
        ("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", False),
    ],
)
def test_leases_events_and_reviews_are_not_counted_writes_by_default(path: str, *, counted: bool) -> None:
    about = targets.parse(path)
    assert about is not None
    assert targets.is_counted_by_default(about) is counted


def test_response_with_retry_after_gives_the_time() -> None:
    body = faults.status(429, retry_after=3)
    assert (body["kind"], body["reason"], body["code"]) == ("Status", "TooManyRequests", 429)
    assert body["details"] == {"retryAfterSeconds": 3}
    assert "details" not in faults.status(409)
