"""
The metrics that memguard gives to Prometheus: names, types, help, labels. Data alone.

Names and units follow https://prometheus.io/docs/practices/naming/ and OpenMetrics 1.0: base units
as suffixes, ``_total`` for counters, shares as ratios from 0 to 1. What the client's own collectors
say already (``process_*``, ``python_gc_*``) is not said again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FamilyType = Literal["gauge", "counter", "histogram"]
Across = Literal["liveall", "livesum", "livemax"]


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """One metric: what its samples have in common."""

    name: str
    """With the unit, and for counters with ``_total``."""
    type: FamilyType
    help: str
    labels: tuple[str, ...] = ()
    across: Across = "liveall"
    """What several processes make of a gauge: one sample for each, their sum, or the highest."""


GUARD = ("guard",)
CONTAINER = ("container", "kind")

FAMILIES: list[Family] = []
"""Every one, in the order of exposition."""


def _gauge(
    name: str, text: str, labels: tuple[str, ...] = (), across: Across = "liveall"
) -> Family:
    family = Family(f"memguard_{name}", "gauge", text, labels, across)
    FAMILIES.append(family)
    return family


def _counter(name: str, text: str, labels: tuple[str, ...] = GUARD) -> Family:
    family = Family(f"memguard_{name}_total", "counter", text, labels)
    FAMILIES.append(family)
    return family


def _histogram(name: str, text: str, labels: tuple[str, ...]) -> Family:
    family = Family(f"memguard_{name}", "histogram", text, labels)
    FAMILIES.append(family)
    return family


# -- this process ---------------------------------------------------------------------------------

BUILD_INFO = _gauge("build_info", "1, with the version of memguard.", ("version",), "livemax")
PRIVATE = _gauge(
    "private_bytes", "Memory that only this process holds, resident or swapped: what a leak grows."
)
RESIDENT = _gauge(
    "resident_bytes", "Resident memory by kind: anonymous, file or shared.", ("memory",)
)
SWAPPED = _gauge("swapped_bytes", "Anonymous memory that was swapped out.")
PEAK = _gauge("peak_resident_bytes", "The highest resident memory so far.")
BLOCKS = _gauge("allocated_blocks", "Blocks in use by Python's allocator.")
THREADS = _gauge("threads", "Threads of this process, not only those that Python started.")
TRACED = _gauge("traced_bytes", "Memory that tracemalloc traces; 0 while it is off.")
TRACER = _gauge("tracer_bytes", "Memory that tracemalloc itself needs; 0 while it is off.")

# -- pressure -------------------------------------------------------------------------------------

RUNNING = _gauge("running", "1 while the guard is started, else 0.", GUARD)
USED = _gauge(
    "used_bytes", "Memory in use that cannot be reclaimed, in the scope of the limit.", GUARD
)
LIMIT = _gauge("limit_bytes", "The limit that is fullest.", GUARD)
LIMIT_SOURCE = _gauge(
    "limit_source",
    "1 for where that limit is set: cgroup, rlimit, host, own or unknown.",
    ("guard", "source"),
    "livesum",
)
USED_RATIO = _gauge("used_ratio", "Memory in use over the limit, 0 to 1 and above.", GUARD)
GROWTH = _gauge(
    "growth_bytes_per_second",
    "Growth of used bytes over the last seconds; negative when shrinking.",
    GUARD,
)
LEVEL = _gauge(
    "level",
    "1 for the level of pressure: ok, elevated, critical or insufficient_data.",
    ("guard", "level"),
    "livesum",
)
STALL = _gauge(
    "stall_ratio", "Share of time that some task waited for memory (Linux PSI).", GUARD, "livemax"
)
LOOKS = _counter("looks", "Looks of the pressure monitor.")
LEVEL_CHANGES = _counter("level_changes", "Changes of the level of pressure.")
ALERTS = _counter(
    "alerts", "Alerts raised, by kind: level, ineffective or recycle.", ("guard", "kind")
)

# -- relief and admission -------------------------------------------------------------------------

RELIEF_RUNS = _counter("relief_runs", "Times that memory was given back.")
RELIEF_REFUSED = _counter("relief_refused", "Runs asked for while another was under way.")
RELIEF_FREED = _counter(
    "relief_freed_bytes", "Memory given back by the account of caches, pools and callbacks."
)
RELIEF_RETURNED = _gauge(
    "relief_returned_bytes",
    "By how much private memory fell during all relief runs; it may fall where others grew.",
    GUARD,
    "livesum",
)
RELIEF_SECONDS = _counter("relief_seconds", "Time spent giving memory back.")
RELIEF_LONGEST = _gauge("relief_longest_seconds", "The longest relief run.", GUARD, "livemax")
LOWERED = _gauge("relief_lowered_caches", "Caches whose bound is lowered now.", GUARD, "livesum")
ADMITTED = _counter("admission_admitted", "Work that was let in.")
REFUSED = _counter("admission_refused", "Work that was refused for want of memory.")
WAITED = _counter("admission_waited", "Admitted work that had to wait.")
WAIT_SECONDS = _counter("admission_wait_seconds", "Time that work waited, the refused too.")
ADMISSION_RUNNING = _gauge("admission_running", "Admitted work not yet ended.", GUARD, "livesum")
PROMISED = _gauge(
    "admission_promised_bytes", "Memory promised to work that is running.", GUARD, "livesum"
)

# -- leaks ----------------------------------------------------------------------------------------

LEAKS = _counter("leaks_found", "Leaks reported; updates of a report do not count.")
LAST_LEAK = _gauge(
    "leak_last_report_timestamp_seconds",
    "When the latest leak was reported or its report updated, seconds since the epoch.",
    GUARD,
    "livemax",
)
LEAK_RATE = _gauge(
    "leak_growth_bytes_per_second", "Growth of the latest reported leak, at that time.", GUARD
)
INVESTIGATIONS = _counter("leak_investigations", "Times that evidence of a leak was taken.")
TRACED_SECONDS = _counter("leak_traced_seconds", "Time that memguard had tracemalloc on.")
DETECTOR_STATE = _gauge(
    "leak_detector_state",
    "1 for what the leak detector does: idle, watching, tracing or cooling.",
    ("guard", "state"),
    "livesum",
)

# -- the collector of garbage ---------------------------------------------------------------------

GC_PAUSES = _histogram(
    "gc_pause_seconds", "Pauses of the garbage collector.", ("guard", "generation")
)
GC_LONGEST = _gauge(
    "gc_longest_pause_seconds", "The longest of them.", ("guard", "generation"), "livemax"
)

# -- containers -----------------------------------------------------------------------------------

CONTAINERS = _gauge("containers", "Live containers of memguard.", (), "livesum")
FOLDED = _gauge(
    "containers_folded",
    "Of these, those that are summed as other, for want of labels.",
    (),
    "livesum",
)
ITEMS = _gauge("container_items", "Live entries.", CONTAINER, "livesum")
BYTES = _gauge(
    "container_bytes", "Size by the container's own account, or its estimate.", CONTAINER, "livesum"
)
FILL = _gauge(
    "container_fill_ratio",
    "How much of its bound is used; of several, the most.",
    CONTAINER,
    "livemax",
)
HITS = _counter("cache_hits", "Look-ups that found something.", CONTAINER)
MISSES = _counter("cache_misses", "Look-ups that found nothing.", CONTAINER)
EVICTIONS = _counter("cache_evictions", "Entries that had to make room.", CONTAINER)
LEASED = _gauge("pool_leased", "Objects that are lent now.", CONTAINER, "livesum")
LOST = _counter("pool_lost", "Objects that were lent and dropped without release.", CONTAINER)

# -- what it costs --------------------------------------------------------------------------------

CPU = _counter("cpu_seconds", "Processor time of memguard's threads.", ("guard", "part"))
ERRORS = _counter(
    "errors",
    "Failures that memguard caught, by part: monitor, relief, detector.",
    ("guard", "part"),
)
COLLECTOR_RUNS = _counter("collector_runs", "Times that these metrics were gathered.", ())
COLLECTOR_SECONDS = _counter("collector_seconds", "Time spent gathering them.", ())
COLLECTOR_ERRORS = _counter(
    "collector_errors", "Parts that could not be gathered and were left out.", ("part",)
)
