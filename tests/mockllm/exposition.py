"""The text of `/metrics` read by the Prometheus client's own parser, and what a linter would say of it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

__all__ = ["Exposed", "HistogramSeries", "lint"]

Labels = frozenset[tuple[str, str]]


class HistogramSeries(NamedTuple):
    """One series of a histogram: cumulative counts by bound, as text."""

    buckets: dict[str, float]
    num: float
    total: float


class Exposed:
    """A scrape, by sample name and labels."""

    def __init__(self, text: bytes) -> None:
        self.text = text.decode()
        self.kinds: dict[str, str] = {}
        self.samples: dict[tuple[str, Labels], float] = {}
        self._histograms: dict[str, dict[Labels, HistogramSeries]] = {}
        for family in text_string_to_metric_families(self.text):
            self.kinds[family.name] = family.type
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in self.samples, f"{key} stands twice"
                self.samples[key] = sample.value

    def value(self, name: str, **labels: str) -> float | None:
        """The sample with exactly these labels; None when there is none."""
        return self.samples.get((name, frozenset(labels.items())))

    def series(self, name: str) -> dict[Labels, float]:
        return {labels: value for (found, labels), value in self.samples.items() if found == name}

    def histograms(self, name: str) -> dict[Labels, HistogramSeries]:
        """All series of a histogram, by their labels without `le`."""
        if name not in self._histograms:
            buckets: dict[Labels, dict[str, float]] = defaultdict(dict)
            for labels, num in self.series(f"{name}_bucket").items():
                bound = dict(labels)["le"]
                buckets[labels - {("le", bound)}][bound] = num
            counts, sums = self.series(f"{name}_count"), self.series(f"{name}_sum")
            assert counts.keys() == sums.keys() == buckets.keys()
            self._histograms[name] = {
                labels: HistogramSeries(buckets[labels], counts[labels], sums[labels]) for labels in counts
            }
        return self._histograms[name]


def labels_of(pairs: Mapping[str, str]) -> Labels:
    return frozenset(pairs.items())


def lint(exposed: Exposed) -> list[str]:
    """Broken rules of the text format and of naming; NVIDIA's own names are as they are."""
    wrong = []
    types = re.findall(r"^# TYPE (\S+) (\S+)$", exposed.text, re.M)
    helps = re.findall(r"^# HELP (\S+) \S", exposed.text, re.M)
    wrong += [f"{name} has no help" for name, _ in types if name not in helps]
    wrong += [f"{name} stands {num} times" for name, num in Counter(name for name, _ in types).items() if num > 1]
    for name, kind in types:
        if kind == "counter" and not name.startswith("DCGM_") and not name.endswith("_total"):
            wrong.append(f"counter {name} does not end in _total")
        if kind == "gauge" and name.endswith("_total"):
            wrong.append(f"gauge {name} ends in _total")
        if kind == "histogram":
            wrong += _uneven(exposed, name)
    return wrong + [f"{name} is untyped" for name, kind in exposed.kinds.items() if kind in ("untyped", "unknown")]


def _uneven(exposed: Exposed, name: str) -> Iterable[str]:
    for labels, series in exposed.histograms(name).items():
        counts = [series.buckets[bound] for bound in sorted(series.buckets, key=float)]
        if counts != sorted(counts) or counts[-1] != series.num or "+Inf" not in series.buckets:
            yield f"{name}{dict(labels)} is not cumulative"
