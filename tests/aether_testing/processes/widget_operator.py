"""`python -m aether_testing.processes.widget_operator`: the operator, with Widget as one kind more."""

from __future__ import annotations

import sys
from typing import Final

from aether_operator import __main__ as operator
from aether_testing.values.widgets import WidgetReconciler

MODULE: Final = "aether_testing.processes.widget_operator"
"""For `Installation.operator`, which starts it."""

if __name__ == "__main__":
    sys.exit(operator.main(reconcilers=(*operator.RECONCILERS, WidgetReconciler)))
