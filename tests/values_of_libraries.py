"""
Values of other libraries, and what they really take: ``python -m tests.values_of_libraries NAME``.

Prints for each kind of value what is claimed for one, what the process grew by for one, and by how
much it grew when a cache of `BOUND` bytes was filled with them. Each kind has a process of its own.
"""

from __future__ import annotations

import importlib
import io
import json
import mmap
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

BOUND = 24 << 20
Makers = dict[str, Callable[[], Any]]


def load(name: str) -> Any:
    """Return a library, which may not be installed where types are checked."""
    return importlib.import_module(name)


def _texts(count: int) -> list[str]:
    # Of a length that Python's allocator does not round up.
    return [f"some text with number {number:08d}" for number in range(count)]


def standard() -> Makers:
    def written() -> Any:
        text = io.StringIO()
        for number in range(500):
            text.write(f"{number:040d}")
        return text

    def mapped() -> Any:
        memory = mmap.mmap(-1, 65536)
        memory.write(b"x" * 65536)
        return memory

    return {
        "memoryview": lambda: memoryview(bytearray(os.urandom(50_000)))[10:20],
        "BytesIO": lambda: io.BytesIO(os.urandom(50_000)),
        "StringIO": lambda: io.StringIO("x" * 20_000),
        **({"StringIO, written": written} if sys.version_info < (3, 12) else {}),  # else opaque
        **({"mmap": mapped} if sys.version_info < (3, 15) else {}),  # else opaque
    }


def numpy() -> Makers:
    np = load("numpy")

    stored = Path(tempfile.mkdtemp()) / "array.npy"
    np.save(stored, np.ones(20_000))
    return {
        "array": lambda: np.ones(20_000),
        "small array": lambda: np.ones(200),
        "view": lambda: np.ones(20_000)[:10],
        "reshape": lambda: np.ones(20_000).reshape(100, 200),
        "masked": lambda: np.ma.masked_less(np.arange(20_000.0), 9),
        "records": lambda: np.ones(2_000, dtype=[("a", "f8"), ("b", "i4")]),
        "fixed texts": lambda: np.array(_texts(1_000)),
        "objects": lambda: np.array(_texts(1_000), dtype=object),
        "many objects": lambda: np.array(_texts(12_000), dtype=object),
        "np.load": lambda: np.load(stored),
        "frombuffer": lambda: np.frombuffer(os.urandom(50_000), dtype=np.uint8),
    }


def scipy() -> Makers:
    np = load("numpy")
    sp = load("scipy.sparse")

    dense = np.diag(np.ones(300)) + np.eye(300, k=1)
    dense[:20] = 1.0
    return {
        "csr": lambda: sp.csr_array(dense),
        "csc": lambda: sp.csc_array(dense),
        "coo": lambda: sp.csr_array(dense).tocoo(),
    }


def pillow() -> Makers:
    Image = load("PIL.Image")  # noqa: N806 - reason: as everybody calls it

    stored = io.BytesIO()
    Image.new("RGB", (300, 300), "red").save(stored, "PNG")

    def opened() -> Any:
        image = Image.open(io.BytesIO(stored.getvalue()))
        image.load()
        return image

    makers: Makers = {
        mode: lambda mode=mode: Image.new(mode, (200, 200), 1)  # type: ignore[misc]
        for mode in ("1", "L", "P", "LA", "RGB", "RGBA", "I", "F", "I;16", "CMYK")
    }
    return {**makers, "opened": opened, "small": lambda: Image.new("RGB", (40, 40))}


def pandas() -> Makers:
    np = load("numpy")
    pd = load("pandas")

    def looked_up() -> Any:
        frame = pd.DataFrame({"a": np.ones(2_000)}, index=_texts(2_000))
        frame.loc["some text with number 00000005"]
        return frame

    return {
        "numbers": lambda: pd.DataFrame({"a": np.ones(5_000), "b": np.ones(5_000)}),
        "sliced": lambda: pd.DataFrame({"a": np.ones(5_000), "b": np.ones(5_000)})[10:20],
        "series": lambda: pd.Series(np.ones(5_000)),
        "index": lambda: pd.Index(np.arange(5_000.0)),
        "texts": lambda: pd.DataFrame({"s": _texts(5_000)}),
        "objects": lambda: pd.DataFrame({"s": pd.Series(_texts(1_500), dtype=object)}),
        "categories": lambda: pd.DataFrame({"c": pd.Categorical(["x", "y"] * 9_000)}),
        "dates": lambda: pd.DataFrame({"d": pd.date_range("2020", periods=5_000)}),
        "two levels": lambda: pd.MultiIndex.from_product([range(150), range(150)]),
        "missing integers": lambda: pd.Series(pd.array(np.arange(5_000), dtype="Int64")),
        "looked up": looked_up,
    }


def polars() -> Makers:
    np = load("numpy")
    pl = load("polars")

    return {
        "numbers": lambda: pl.DataFrame({"a": np.ones(5_000), "b": np.ones(5_000)}),
        "series": lambda: pl.Series(np.ones(5_000)),
        "texts": lambda: pl.DataFrame({"s": _texts(2_000)}),
        "short texts": lambda: pl.DataFrame({"s": [str(n) for n in range(2_000)]}),
        "small": lambda: pl.DataFrame({"a": np.ones(200)}),
    }


def pyarrow() -> Makers:
    np = load("numpy")
    pa = load("pyarrow")

    return {
        "array": lambda: pa.array(np.ones(5_000)),
        "built array": lambda: pa.array([1.5] * 5_000),
        "slice": lambda: pa.array(np.ones(5_000)).slice(10, 20),
        "table": lambda: pa.table({"a": np.ones(5_000), "b": np.ones(5_000)}),
        "batch": lambda: pa.record_batch({"a": np.ones(5_000)}),
        "chunks": lambda: pa.chunked_array([np.ones(5_000)]),
        "buffer": lambda: pa.array([1.5] * 5_000).buffers()[1],
        "texts": lambda: pa.array(_texts(5_000)),
        "table of texts": lambda: pa.table({"s": _texts(5_000)}),
    }


def torch() -> Makers:
    t = load("torch")

    return {
        "tensor": lambda: t.ones(20_000),
        "view": lambda: t.ones(20_000)[:5],
        "small": lambda: t.ones(200),
        "parameter": lambda: t.nn.Parameter(t.ones(5_000)),
        "storage": lambda: t.ones(20_000).untyped_storage(),
        "module": lambda: t.nn.Linear(100, 100),
        "numpy": lambda: t.ones(20_000).numpy(),
    }


def private_bytes() -> int:
    """Return what is in memory for this process and in no file."""
    text = Path("/proc/self/status").read_text("ascii")
    rows = dict(line.split(":", 1) for line in text.splitlines())
    return sum(int(rows[name].split()[0]) << 10 for name in ("RssAnon", "RssShmem"))


def measured(make: Callable[[], Any]) -> dict[str, Any]:
    """Return what one value is claimed to take, and takes, and what a full cache of them does."""
    from memguard import BoundedCache, size_of  # noqa: PLC0415 - reason: after the library

    size = size_of(make())
    count = BOUND // int(size) + 1
    held: list[Any] = [None] * count
    before = private_bytes()
    for number in range(count):
        held[number] = make()
        size_of(held[number])  # a text that was written in pieces is joined by that
    real = (private_bytes() - before) / count
    claimed = sum(int(size_of(value)) for value in held[:50]) / min(50, count)
    cache: BoundedCache[int, Any] = BoundedCache(maxbytes=BOUND)
    before = private_bytes()
    for number in range(count):
        cache[number] = make()
    grown = private_bytes() - before
    return {
        "claimed": claimed,
        "real": real,
        "held": grown / BOUND,
        "opaque": size.opaque + cache.statistics().opaque,
    }


def main(library: str) -> None:
    """Measure each kind of a library in a child, which begins with a fresh heap of its own."""
    makers: Makers = globals()[library]()
    result = {}
    for kind, make in makers.items():
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.write(writing, json.dumps(measured(make)).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with open(reading, "rb") as pipe:  # noqa: PTH123 - reason: a descriptor
            result[kind] = json.loads(pipe.read() or b"{}")
        os.waitpid(child, 0)
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
