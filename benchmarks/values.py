"""
What it costs to weigh one value: ``python -m benchmarks.values``.

Each cell is the best of many runs, in microseconds. Libraries that are not installed are left out.
"""

from __future__ import annotations

import importlib
import io
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from memguard.bounded.sizing.contents import bytes_of, size_of
from memguard.bounded.sizing.entries import weigh

REPEATS = 40
"""Rounds, of which the best one counts."""


def _load(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def values() -> Iterator[tuple[str, Any]]:
    """Yield a name and a value of each kind."""
    yield "str of 50", "x" * 50
    yield "dict of 3", {"id": 1000, "name": "a name", "score": 1.5}
    yield "BytesIO of 8 MB", io.BytesIO(bytes(8_000_000))
    yield "memoryview of 8 MB", memoryview(bytearray(8_000_000))
    if np := _load("numpy"):
        yield "numpy array of 8 MB", np.ones(1_000_000)
        yield "numpy view", np.ones(1_000_000)[5:10]
        yield "numpy masked array", np.ma.masked_less(np.arange(1000.0), 9)
        yield "numpy array of 1,000 texts", np.array([f"text {n}" for n in range(1000)], object)
    if np and (sp := _load("scipy.sparse")):
        yield "scipy csr_array", sp.csr_array(np.eye(100))
    if np and (pd := _load("pandas")):
        names = [f"name {n}" for n in range(10_000)]
        yield (
            "pandas DataFrame, 3 columns",
            pd.DataFrame({"a": np.ones(10_000), "b": np.arange(10_000), "s": names}),
        )
        yield "pandas DataFrame, 100 columns", pd.DataFrame(np.ones((1000, 100)))
        yield "pandas Series", pd.Series(np.ones(10_000))
    if np and (pl := _load("polars")):
        yield "polars DataFrame, 2 columns", pl.DataFrame({"a": np.ones(1000), "b": np.ones(1000)})
        yield "polars DataFrame with texts", pl.DataFrame({"s": ["a text"] * 1000})
    if np and (pa := _load("pyarrow")):
        yield "pyarrow Array", pa.array(np.ones(10_000))
        yield "pyarrow Table, 2 columns", pa.table({"a": np.ones(10_000), "b": np.ones(10_000)})
    if torch := _load("torch"):
        yield "torch tensor of 4 MB", torch.ones(1_000_000)
        yield "torch Linear", torch.nn.Linear(100, 100)
    if pil := _load("PIL.Image"):
        yield "Pillow image, 1600 x 1600", pil.new("RGB", (1600, 1600))


def best(call: Callable[[Any], Any], value: Any) -> float:
    """Return the least microseconds of one call."""
    count, least = 1, float("inf")
    for _ in range(REPEATS):
        begun = time.perf_counter_ns()
        for _ in range(count):
            call(value)
        taken = (time.perf_counter_ns() - begun) / count
        least = min(least, taken)
        count = max(1, min(2000, int(1_000_000 / max(taken, 100))))
    return least / 1000


def main() -> None:
    """Print the table, in rounds in which the functions take turns."""
    print(f"CPython {sys.version.split()[0]}; µs a value")
    print("| value | bytes | `size_of` | in a cache |\n|---|---:|---:|---:|")
    for name, value in values():
        print(
            f"| {name} | {bytes_of(value):,} | {best(size_of, value):.2f} "
            f"| {best(weigh, value):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
