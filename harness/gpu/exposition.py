"""Prometheus' text format, as an exporter serves it on /metrics. What comes from there is a stranger's text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import NamedTuple

from harness.plain import short_plain

__all__ = ["Series", "read_series"]


class Series(NamedTuple):
    """One series of a scrape: its name, its labels and its value, which is finite."""

    name: str
    labels: Mapping[str, str]
    value: float


def read_series(text: str, names: tuple[str, ...]) -> Iterator[Series]:
    """The series whose names begin with one of these. Raises ValueError where such a line cannot be read.

    No other line is parsed: a server has hundreds of series that say nothing here, and its histograms take milliseconds. Types and
    help are left out too; names and values do not depend on them.
    """
    from prometheus_client.parser import text_string_to_metric_families  # slow to import

    wanted = "".join(f"{line}\n" for line in text.split("\n") if line.startswith(names))
    try:
        for family in text_string_to_metric_families(wanted):
            for sample in family.samples:
                if isfinite(sample.value):
                    yield Series(sample.name, sample.labels, sample.value)
    except (ValueError, IndexError, KeyError) as error:  # the parser raises the last two for what is cut in a label
        raise ValueError(f"not Prometheus' text format: {short_plain(str(error))}") from None
