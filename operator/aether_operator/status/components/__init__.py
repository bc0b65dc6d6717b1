"""What the status says about a platform's components: one module per component, named like its service.

A module says how the /status of its service is parsed (`Status`, `report`), and what that means for the condition that
the component's row in the catalog names (`evaluate`). What may be wrong with any component is in `replicas`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, cast

from aether_operator.api.reasons import Reason
from aether_operator.catalog import module_lookup
from aether_operator.catalog.components import COMPONENTS
from aether_operator.observed import components as reports
from aether_operator.status import findings
from aether_operator.status.conditions import Condition, Truth
from aether_operator.status.summaries import Evaluation

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from aether_operator.api.platforms import Platform
    from aether_operator.catalog.components import Component, ComponentDefinition
    from aether_operator.observed.components import ComponentReport
    from aether_operator.observed.platforms import ObservedPlatform
    from aether_operator.status.evaluations import ComponentEvaluation


class ComponentModule(reports.Parser, Protocol):
    """A module of this package."""

    def evaluate(
        self, platform: Platform, observed: ObservedPlatform, earlier: Mapping[Component, ComponentEvaluation]
    ) -> ComponentEvaluation:
        """Whether the component works; it also says so on a platform whose venue has no such component.

        `earlier` are those of the components above it in the catalog: what only follows from their problems is
        no finding of its own.
        """
        ...


_MODULES: Final = module_lookup.load(__name__, dict.fromkeys(COMPONENTS, ("Status", "report", "evaluate")))


def module_of(component: Component) -> ComponentModule:
    """The module of a component."""
    return cast("ComponentModule", _MODULES[component])


def read(
    text: str, component: Component, secret_values: Collection[str] = (), addresses: Collection[str] = ()
) -> ComponentReport:
    """Parse the /status of a component's pod; `observed.components.read` says how."""
    return reports.read(text, component, module_of(component), secret_values, addresses)


def evaluate(platform: Platform | None, observed: ObservedPlatform) -> Evaluation:
    """The findings about all components, their conditions, and the fields of the status that are theirs."""
    if platform is None:
        nothing = findings.not_started("", observed)
        conditions = [
            Condition(row.condition, findings.truth(nothing), nothing.reason, nothing.message)
            for row in COMPONENTS.values()
        ]
        return Evaluation(findings=(), conditions=conditions)
    evaluations: dict[Component, ComponentEvaluation] = {}
    for component in COMPONENTS:
        evaluations[component] = module_of(component).evaluate(platform, observed, evaluations)
    return Evaluation(
        findings=[one.finding for one in evaluations.values() if one.finding is not None],
        conditions=[_condition(COMPONENTS[component], one) for component, one in evaluations.items()],
        fields={name: value for one in evaluations.values() for name, value in one.fields.items()},
    )


def _condition(row: ComponentDefinition, evaluation: ComponentEvaluation) -> Condition:
    finding = evaluation.finding
    if finding is not None:
        return Condition(row.condition, findings.truth(finding), finding.reason, finding.message)
    if evaluation.waiting_for:
        return Condition(row.condition, Truth.UNKNOWN, Reason.PROGRESSING, f"waiting for {evaluation.waiting_for}")
    return Condition(row.condition, Truth.TRUE, Reason.READY, evaluation.message)
