"""
`MemguardCollector`: the metrics of guards and containers, gathered at each scrape.

Needs the package ``prometheus-client`` (extra ``prometheus``). Nothing is gathered between two
scrapes, and no thread is started. For servers of several processes see
`memguard.report.metrics.prometheus.multiprocess`.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from typing import Self

from memguard.bounded.options import check_instance
from memguard.errors import ConfigError
from memguard.extras import missing
from memguard.lifecycle.fork import reset_after_fork
from memguard.report.metrics import catalog
from memguard.report.metrics.metric import Metric, Pauses, bound_label
from memguard.report.metrics.prometheus.gatherer import Column, Gatherer
from memguard.report.state import Guarded

try:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric as Family
    from prometheus_client.samples import Exemplar, Sample
except ImportError as error:
    raise missing("prometheus-client", "prometheus") from error


__all__ = ["MemguardCollector"]


class MemguardCollector:
    """
    Give ``memguard_*`` metrics to a registry of ``prometheus_client``, computed at each scrape.

    Registers itself; `close` takes it out again. The names are listed in ``docs/prometheus.md``.

    Bounded by: *max_containers* pairs of name and kind of containers, and one for all others; no
        other label takes a value that is neither in one of our lists nor the name of a guard.
    Locks: private mutexes around counters; guards, containers and the host's code run outside of
        them.
    Keeps alive: its guards and the samples of the last scrape, and the registry keeps it.

    Thread-safe: may be scraped by several at once. In a forked child it goes on, with the child's
    numbers.

    Example:
        >>> from memguard import MemoryGuard
        >>> from prometheus_client import generate_latest
        >>> with MemoryGuard(leaks=False) as guard, MemguardCollector(guard) as collector:
        ...     text = generate_latest(collector.registry).decode()
        >>> "memguard_private_bytes" in text
        True

    Args:
        guard: The guard whose metrics these are.
        more: Other guards of this process; each has a name of its own.
        registry: Where to register: ``prometheus_client.REGISTRY`` for the default one. None makes
            a registry with nothing else in it.
        max_containers: Pairs of name and kind of containers that get labels of their own, for the
            life of the collector; the rest is summed as ``container="other"``. 0 to 1000.
        containers: Names of containers that get labels before all others.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: It is out of range, two guards have the same name, or the registry has
            metrics with these names already.
        MissingExtraError: At import: ``prometheus-client`` is not installed.
    """

    registry: CollectorRegistry
    """Where it is registered."""

    def __init__(
        self,
        guard: Guarded,
        *more: Guarded,
        registry: CollectorRegistry | None = None,
        max_containers: int = 100,
        containers: Collection[str] = (),
    ) -> None:
        check_instance(registry, CollectorRegistry, "registry", optional=True)
        self._gatherer = Gatherer(
            (guard, *more), max_containers=max_containers, containers=containers
        )
        self._last: dict[Metric, tuple[Column, list[Sample]]] = {}
        # Made once: the client checks each name again whenever one is made.
        self._families = {metric: _family(metric) for metric in catalog.FAMILIES}
        self.registry = CollectorRegistry() if registry is None else registry
        try:
            self.registry.register(self)
        except ValueError as error:
            raise ConfigError(
                "this registry has metrics named memguard_* already; a process needs one "
                "MemguardCollector, which takes several guards: MemguardCollector(first, second). "
                "close() takes the old one out"
            ) from error
        reset_after_fork(self)

    def _reset(self) -> None:
        """Reset to idle: runs after fork."""
        self._gatherer.reset()

    def describe(self) -> list[Family]:
        """Return every metric without samples: what registering asks for."""
        return [_family(metric) for metric in catalog.FAMILIES]

    def collect(self) -> list[Family]:
        """
        Return every metric with its samples. Raises nothing; what fails is left out and counted.

        Cost: see ``docs/prometheus.md``.
        """
        table = self._gatherer.gather()
        for metric, family in self._families.items():
            # A new list: who scrapes at the same time goes on with the earlier one.
            family.samples = self._samples(metric, table.get(metric, _NOTHING)).copy()
        found, marks = self._families[catalog.LEAKS_FOUND], self._gatherer.fingerprints
        found.samples = [_with_exemplar(sample, marks) for sample in found.samples]
        return list(self._families.values())

    def _samples(self, metric: Metric, column: Column) -> list[Sample]:
        """Return the samples of *metric*: those of the last time if nothing has changed."""
        before = self._last.get(metric)
        if before is None or before[0] != column:
            before = self._last[metric] = (column, _samples(metric, column))
        return before[1]

    def close(self) -> None:
        """Take it out of its registry; idempotent."""
        try:
            self.registry.unregister(self)
        except KeyError:
            return  # closed before, or taken out by its owner

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _family(metric: Metric) -> Family:
    # The client names a counter without its suffix, and adds it where it writes.
    return Family(metric.prometheus.removesuffix("_total"), metric.help, metric.kind)


_NOTHING: Column = ([], [])


def _samples(metric: Metric, column: Column) -> list[Sample]:
    name, pairs = metric.prometheus, zip(*column, strict=True)
    if metric.kind == "histogram":
        return [sample for labels, pauses in pairs for sample in _histogram(name, labels, pauses)]
    return [Sample(name, labels, value) for labels, value in pairs]


def _with_exemplar(sample: Sample, fingerprints: Mapping[str, str]) -> Sample:
    """Return *sample* with the fingerprint of the guard's latest leak; OpenMetrics shows it."""
    mark = fingerprints.get(sample.labels["guard"])
    return sample._replace(exemplar=Exemplar({"fingerprint": mark}, 1.0)) if mark else sample


def _histogram(name: str, labels: dict[str, str], pauses: Pauses) -> list[Sample]:
    """Return the samples of a histogram; its buckets are cumulative and end with all."""
    counts = list(itertools.accumulate(count for _, count in pauses.buckets))
    samples = [
        Sample(f"{name}_bucket", {**labels, "le": bound_label(bound)}, count)
        for (bound, _), count in zip(pauses.buckets, counts, strict=True)
    ]
    samples.append(Sample(f"{name}_count", labels, counts[-1]))
    samples.append(Sample(f"{name}_sum", labels, pauses.total))
    return samples
