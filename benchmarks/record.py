"""Where and when numbers were measured, and the file that keeps them."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memguard.observe.allocator import read_allocator

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, str | int | None]:
    """Return what the numbers depend on."""
    model = None
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
        model = next(
            (value.strip() for key, _, value in lines if key.strip() == "model name"), None
        )
    return {
        "processor": model or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "allocator": read_allocator().name,
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
    }


def write(
    name: str, about: Mapping[str, Any], found: Mapping[str, Any], path: Path | None = None
) -> Path:
    """Write what was *found* by benchmark *name* on the machine *about*; return the file."""
    path = path or RESULTS / f"{name}-{about['date']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": about, **found}, indent=1, default=str)
    path.write_text(f"{text}\n", encoding="utf-8")
    return path
