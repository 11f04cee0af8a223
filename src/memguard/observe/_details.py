"""The numbers of a Reading that cost too much for every tick; read when they are asked for."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import psutil

from memguard.errors import ConfigError
from memguard.observe.allocator import read_allocator
from memguard.observe.headroom import read_headroom

if TYPE_CHECKING:
    from memguard.observe.reading import Reading

Detail = Literal["uss", "malloc", "faults", "files", "limit"]
"""A group of numbers that `read_memory` reads on demand."""

_DETAILS = frozenset(get_args(Detail))


def check(include: Collection[str]) -> None:
    """
    Refuse what is no collection of detail names.

    Raises:
        TypeError: *include* is a string or no collection.
        ConfigError: It names something else.
    """
    if isinstance(include, str) or not isinstance(include, Collection):
        raise TypeError(
            f"include must be a collection of detail names (got {type(include).__name__}); "
            "write ('limit',) for a single one"
        )
    strangers = sorted(str(name) for name in include if name not in _DETAILS)
    if strangers:
        raise ConfigError(
            f"include may name {', '.join(sorted(_DETAILS))} (got {', '.join(strangers)})"
        )


def read_details(
    reading: Reading, include: Collection[str], *, root: str = "/"
) -> dict[str, int | float | str | None]:
    """Return the fields of the groups in *include*. What cannot be read is left out."""
    found: dict[str, int | float | str | None] = {}
    if "uss" in include:
        found["uss"] = _unique_bytes(root)
    if "malloc" in include:
        state = read_allocator()
        found["malloc_in_use"] = state.in_use
        found["malloc_free"] = state.free
    if "faults" in include:
        found.update(_faults())
    if "files" in include:
        found["open_files"] = _open_files(root)
    if "limit" in include:
        found.update(_limit(reading, root))
    return found


def _limit(reading: Reading, root: str) -> dict[str, int | float | str | None]:
    headroom = read_headroom(reading, root=root)
    found: dict[str, int | float | str | None] = {}
    fullest = headroom.fullest
    if fullest is not None:
        found["limit"] = fullest.bound.bytes
        found["limit_source"] = fullest.bound.source
        found["headroom"] = fullest.headroom
        found["used_ratio"] = fullest.ratio
    elif headroom.limit.bytes is not None:
        found["limit"] = headroom.limit.bytes
        found["limit_source"] = headroom.limit.source
    if headroom.stall is not None:
        found["stall_some"] = headroom.stall.some
        found["stall_full"] = headroom.stall.full
    return found


def _unique_bytes(root: str) -> int | None:
    """Return the private pages of this process, file pages too; the page tables are walked."""
    if sys.platform.startswith("linux"):
        try:
            text = Path(root, "proc", "self", "smaps_rollup").read_text(encoding="ascii")
        except (OSError, ValueError):
            return None
        sizes = re.findall(r"^Private_(?:Clean|Dirty|Hugetlb):\s+(\d+) kB$", text, re.MULTILINE)
        return sum(map(int, sizes)) * 1024 if sizes else None
    try:
        return int(psutil.Process().memory_full_info().uss)
    except Exception:  # noqa: BLE001 - reason: forbidden or unknown there; None says so
        return None


def _faults() -> dict[str, int]:
    if sys.platform == "win32":
        return {}
    import resource  # noqa: PLC0415 - reason: the module does not exist on Windows

    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"minor_faults": usage.ru_minflt, "major_faults": usage.ru_majflt}


def _open_files(root: str) -> int | None:
    if sys.platform.startswith("linux"):
        try:
            # Reading the directory opens one more.
            return max(0, sum(1 for _ in Path(root, "proc", "self", "fd").iterdir()) - 1)
        except OSError:
            return None
    try:
        process = psutil.Process()
        return int(process.num_handles() if sys.platform == "win32" else process.num_fds())
    except Exception:  # noqa: BLE001 - reason: forbidden or unknown there; None says so
        return None
