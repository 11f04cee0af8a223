"""Metrics of live containers, gathered by `ContainerMetrics`; and of the gathering itself."""

from __future__ import annotations

from functools import partial

from memguard.report.metrics.metric import counter, gauge

_container_gauge = partial(gauge, read=None, label="container", of_guard=False)
_container_counter = partial(counter, read=None, label="container", of_guard=False)
CONTAINERS = gauge(
    "containers", "Live containers of memguard.", None, of_guard=False, across="livesum"
)
FOLDED = gauge(
    "containers_folded",
    "Containers without labels of their own, summed as other.",
    None,
    of_guard=False,
    across="livesum",
)
ITEMS = _container_gauge(
    "container_items",
    "Live entries.",
    across="livesum",
    otel=("memguard.container.items", "{item}", "sum"),
)
BYTES = _container_gauge(
    "container_bytes",
    "Size as the container counts it, or its estimate.",
    across="livesum",
    otel=("memguard.container.size", "By", "sum"),
)
FILL = _container_gauge(
    "container_fill_ratio", "How much of its bound is used; of several, the most.", across="livemax"
)
HITS = _container_counter("cache_hits", "Lookups that found a value.")
MISSES = _container_counter("cache_misses", "Lookups that found no value.")
EVICTIONS = _container_counter("cache_evictions", "Entries that were evicted.")
LEASED = _container_gauge("pool_leased", "Objects that are leased now.", across="livesum")
LOST = _container_counter("pool_lost", "Objects that were leased and never released.")
ALIVE = _container_gauge(
    "", "Containers alive.", otel=("memguard.containers", "{container}", "sum")
)
"""By name and kind; in Prometheus they are counted altogether."""
OF_CONTAINERS = (ITEMS, BYTES, FILL, HITS, MISSES, EVICTIONS, LEASED, LOST)

# -- gathering itself -----------------------------------------------------------------------------

COLLECTOR_RUNS = counter(
    "collector_runs", "Times that these metrics were gathered.", None, of_guard=False
)
COLLECTOR_SECONDS = counter("collector_seconds", "Time spent gathering them.", None, of_guard=False)
COLLECTOR_ERRORS = counter(
    "collector_errors",
    "Parts that could not be gathered and were left out.",
    None,
    "part",
    of_guard=False,
)
