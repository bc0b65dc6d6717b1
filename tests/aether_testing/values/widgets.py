"""Widget: a small kind that only tests have, to prove that neither the engine nor what walks the table knows a kind."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field

from aether_operator.api import models, reasons
from aether_operator.api.definition import Column, Definition, rule, text
from aether_operator.api.definitions import DEFINITIONS
from aether_operator.api.reasons import ConditionType, Reason
from aether_operator.api.resources import Resource
from aether_operator.controllers import reconciler, workqueue
from aether_operator.controllers.resync_schedule import Resync
from aether_operator.desired import metadata
from aether_operator.observed import kinds
from aether_operator.observed.observation import Observed
from aether_operator.status import Evaluation, Finding, StatusInput, findings


class WidgetSpec(models.Model):
    """The desired state of a widget."""

    paused: Annotated[bool, Field(strict=True)] = False
    """If true, the operator changes nothing."""
    progress_deadline_seconds: Annotated[int, Field(strict=True, ge=10)] = models.PROGRESS_DEADLINE_SECONDS
    """Seconds without becoming Ready after which the widget is Stalled."""
    size: Annotated[int, Field(strict=True, ge=1, le=9)] = 1
    """How large it is."""
    platform: Annotated[str, Field(min_length=1, max_length=63)]
    """Its TradingPlatform. Immutable."""
    secret_name: Annotated[str, Field(min_length=1, max_length=63)]
    """A Secret of a user."""


WIDGET: Final = Definition(
    kind="Widget", plural="widgets", short="wd", noun="widget", description="Widget: something with a size.",
    spec=WidgetSpec, status={"recorded": text(16, "The size that is recorded outside of the cluster")},
    columns=(Column(name="Size", path=".spec.size", description="Its size", type="integer"),),
    rules={("platform",): [rule("self == oldSelf", "spec.platform: immutable")]},
    checks=lambda spec: ["secretName: it is the platform's name"] if spec.secret_name == spec.platform else [],
    conditions={ConditionType.READY: "the widget is recorded"}, reasons=reasons.COMMON | {Reason.SECRET_MISSING},
    kept="Its Secret.", terminating="The widget is being deleted", max_name_length=20, finalizer=True, urgent=True,
)  # fmt: skip
WITH_WIDGETS: Final = {**DEFINITIONS, WIDGET.kind: WIDGET}
"""The table of kinds, with one more."""
Widget = Resource[WidgetSpec]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedWidget(Observed):
    """Its objects, and the size that is recorded outside of the cluster; empty if none is."""

    recorded: str = ""


@dataclass
class WidgetReconciler(reconciler.Reconciler[WidgetSpec, ObservedWidget]):
    """Sizes are recorded in files in the working directory; none is removed while there is another, `….hold`."""

    definition: ClassVar = WIDGET

    def references(self, resource: Widget) -> reconciler.References:
        parents = {kinds.Ref("TradingPlatform", resource.spec.platform): kinds.PLATFORMS}
        return reconciler.References(secrets=frozenset({resource.spec.secret_name}), parents=parents)

    def child_refs(self, resource: Widget) -> tuple[kinds.Ref, ...]:
        return kinds.Ref("ConfigMap", f"{resource.name}-settings"), kinds.Ref("Secret", f"{resource.name}-reader")

    async def observe(self, key: workqueue.Key, _resource: Widget | None, objects: Observed) -> ObservedWidget:
        return ObservedWidget.of(objects, recorded=_file(key).read_text() if _file(key).exists() else "")

    def children(self, resource: Widget, observed: ObservedWidget) -> list[kinds.Manifest]:
        if observed.deleting:
            return []
        release, (settings, secret) = self.context.config.release, self.child_refs(resource)
        config_map = metadata.owned(kinds.CONFIG_MAPS, settings.name, resource.owner, "widget", release)
        retained = metadata.retained(kinds.SECRETS, secret.name, resource.owner, "widget", release)
        new = base64.b64encode(self.context.new_password().encode()).decode()
        token = observed.children.get(secret, {}).get("data", {}).get("token", new)
        return [config_map | {"data": {"size": str(resource.spec.size)}}, retained | {"data": {"token": token}}]

    async def act(self, key: workqueue.Key, resource: Widget, observed: ObservedWidget) -> ObservedWidget:
        if not observed.paused:
            _file(key).write_text(str(resource.spec.size))
        return await self.observe(key, resource, observed)

    async def undo(self, key: workqueue.Key, _resource: Widget, _observed: ObservedWidget) -> str:
        if (hold := _file(key, ".hold")).exists():
            return f"{hold} keeps the record"
        _file(key).unlink(missing_ok=True)
        return ""

    def evaluate(self, inputs: StatusInput[Widget, ObservedWidget]) -> Evaluation:
        widget, observed = inputs.in_force, inputs.observed
        if widget is None:
            return Evaluation(findings=[findings.not_started("widget", observed)])
        refs, spec = self.child_refs(widget), widget.spec
        found = [findings.of_children("children", refs, None, observed), *findings.of_other_objects(refs, observed)]
        if None in observed.secrets.values():
            found.append(Finding("secret", Reason.SECRET_MISSING, f"Secret {spec.secret_name} does not exist"))
        if None in observed.parents.values():
            found.append(Finding("platform", Reason.PROGRESSING, f"TradingPlatform {spec.platform} does not exist"))
        return Evaluation(findings=[one for one in found if one], fields={"recorded": observed.recorded})

    def requeue_after(self, _computed: Any) -> Resync:
        return Resync(600)  # all that it waits for sends events


def _file(key: workqueue.Key, suffix: str = "") -> Path:
    return Path(f"{key.namespace}.{key.name}{suffix}")
