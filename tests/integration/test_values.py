"""Values of real libraries: what is claimed is what they take, and a bound of bytes holds."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests import values_of_libraries

ROOT = Path(__file__).parents[2]
LIBRARIES = {
    "standard": None, "numpy": None, "scipy": None, "pillow": "PIL", "pandas": None, "polars": None,
    "pyarrow": None, "torch": None,
}  # fmt: skip
TEXTS_OF_ARROW = {("pandas", "texts"), ("pyarrow", "texts"), ("pyarrow", "table of texts")}
"""Their buffers have room that nothing tells: from none to as much again."""
SLOWLY_FILLED = {"pandas", "polars", "pyarrow", "torch"}
ONLY_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def needs(module: str) -> None:
    if module != "standard" and importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: its values are not tried")


def run(*arguments: str) -> Any:
    command = [sys.executable, "-W", "ignore", *arguments]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=100, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def tell(program: str) -> Any:
    """Return what *program* leaves in ``found``."""
    return run("-c", f"import json\n{textwrap.dedent(program)}\nprint(json.dumps(found))")


@ONLY_LINUX
@pytest.mark.parametrize(
    "library",
    [
        pytest.param(name, marks=pytest.mark.stress if name in SLOWLY_FILLED else ())
        for name in LIBRARIES
    ],
)
def test_what_is_claimed_is_what_is_taken_and_a_bound_holds(library: str) -> None:
    needs(LIBRARIES[library] or library)
    found = run("-m", "tests.values_of_libraries", library)
    assert len(found) >= 3
    wrong = {
        kind: row
        for kind, row in found.items()
        if not row
        or row["opaque"]
        or not 0.75 < row["claimed"] / row["real"] < 1.25
        or abs(row["held"] - 1) > (0.25 if (library, kind) in TEXTS_OF_ARROW else 0.15)
    }
    assert not wrong, f"of a bound of {values_of_libraries.BOUND}"


def test_trees_of_lxml_are_opaque_and_one_warning_has_the_remedy() -> None:
    needs("lxml")
    found = tell("""
        import logging
        from lxml import etree
        import memguard
        seen = []
        class Keep(logging.Handler):
            def emit(self, record): seen.append(record.getMessage())
        logging.getLogger("memguard").addHandler(Keep())
        cache = memguard.BoundedCache(maxbytes="1MiB", name="trees")
        estimated = memguard.BoundedCache(100, name="estimated")
        for number in range(5):
            estimated[number] = cache[number] = etree.fromstring("<a><b/></a>")
        size = memguard.size_of({"tree": cache[0]})
        rows = {row.name: row.how for row in memguard.components.breakdown().components}
        found = {
            "warnings": [text for text in seen if "opaque" in text],
            "statistics": cache.statistics().opaque, "footprint": cache.footprint().opaque,
            "without": estimated.statistics().opaque,
            "size": size.opaque, "estimated": size.estimated, "rows": rows,
        }
    """)
    assert len(found["warnings"]) == 1
    assert "sizer=" in found["warnings"][0]
    names = ["lxml.etree._Element"]
    assert (found["statistics"], found["size"], found["without"]) == (names, names, names)
    assert found["footprint"]
    assert found["estimated"]
    assert (found["rows"]["trees"], found["rows"]["estimated"]) == ("opaque", "opaque")


def test_an_estimator_of_scikit_learn_is_opaque_where_cython_keeps_its_trees() -> None:
    needs("sklearn")
    found = tell("""
        import memguard, numpy as np
        from sklearn.linear_model import LinearRegression
        from sklearn.tree import DecisionTreeRegressor
        x, y = np.arange(20.0).reshape(10, 2), np.arange(10.0)
        found = [memguard.size_of(each().fit(x, y)).opaque for each in
                 (DecisionTreeRegressor, LinearRegression)]
    """)
    assert found == [["sklearn.tree._tree.Tree"], []]


def test_an_element_of_a_page_does_not_weigh_the_page() -> None:
    needs("bs4")
    found = tell("""
        import memguard
        from bs4 import BeautifulSoup
        page = BeautifulSoup("<p>" + "<a href='x'>text</a>" * 500 + "</p>", "html.parser")
        found = [memguard.size_of(page), memguard.size_of(page.find("a"))]
    """)
    assert found[0] > 300_000
    assert found[1] < 3_000


def test_a_row_of_an_orm_does_not_weigh_its_session() -> None:
    needs("sqlalchemy")
    found = tell("""
        import memguard
        from sqlalchemy import create_engine
        from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
        class Base(DeclarativeBase): pass
        class Row(Base):
            __tablename__ = "rows"
            id: Mapped[int] = mapped_column(primary_key=True)
            text: Mapped[str]
        engine = create_engine("sqlite://")
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add_all([Row(text="x" * 100) for _ in range(50)])
            session.commit()
            rows = session.query(Row).all()
            size = memguard.size_of(rows[0])
            found = [size, size.opaque]
    """)
    assert found[0] < 3_000
    assert found[1] == []


def test_slices_of_one_table_or_tensor_or_frame_count_it_once() -> None:
    needs("pyarrow")
    needs("pandas")
    found = tell("""
        import memguard, numpy as np, pyarrow as pa, pandas as pd
        def held(values):
            cache = memguard.BoundedCache(maxbytes="64MiB")
            cache.update(enumerate(values))
            return cache.footprint().bytes / 1e6
        table = pa.table({"a": np.ones(125_000)})
        frame = pd.DataFrame({"a": np.ones(125_000)})
        array = np.ones(125_000)
        found = [
            held(table.slice(n, 10) for n in range(50)), held(frame[n:n + 10] for n in range(50)),
            held(array[n:] for n in range(50)), held({"n": n, "a": array} for n in range(50)),
            held(memoryview(array)[n:] for n in range(50)), held([array, array[5:]]),
        ]
    """)
    assert all(1.0 <= size < 1.3 for size in found), found


def test_nothing_is_imported_to_weigh_a_value() -> None:
    found = tell("""
        import sys, memguard
        class Like:
            def __init__(self): self.data = bytes(1000)
        Like.__module__, Like.__qualname__ = "torch", "Tensor"
        size = memguard.size_of(Like())
        found = [size, sorted({"torch", "numpy", "pandas", "PIL", "mmap"} & set(sys.modules))]
    """)
    assert 1000 < found[0] < 1500
    assert set(found[1]) <= {"mmap"}
