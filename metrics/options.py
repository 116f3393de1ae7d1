"""Options of metrics that are one of a few names."""

from __future__ import annotations

from collections.abc import Collection

from vpbench.configuration import unknown_name
from vpbench.measuring import Metric


def check_options(metric: Metric, **known: Collection[str]) -> None:
    """Check that options of a metric, by name, have one of the known values.

    Raises:
        ConfigError: one has not; the message suggests the nearest value and lists all.
    """
    for option, values in known.items():
        if (given := getattr(metric, option)) not in values:
            raise unknown_name(f"{metric.name}[{metric.region}]: {option}", str(given), values)
