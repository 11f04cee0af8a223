"""The shop's database: one SQLite file, a few hundred seeded rows, plain SQL."""

from __future__ import annotations

import random
import sqlite3
from typing import TYPE_CHECKING, NamedTuple, TypedDict

if TYPE_CHECKING:
    from pathlib import Path

PRODUCTS = 300
SEEDED_ORDERS = 200
LINES_PER_ORDER = 3

_SCHEMA = """
CREATE TABLE product (id INTEGER PRIMARY KEY, name TEXT, cents INTEGER, teaser TEXT);
CREATE TABLE placed (id INTEGER PRIMARY KEY, customer TEXT);
CREATE TABLE line (placed INTEGER, product INTEGER, pieces INTEGER);
CREATE INDEX line_placed ON line (placed);
"""

_ADJECTIVES = (
    "oak",
    "brass",
    "linen",
    "cobalt",
    "felt",
    "glass",
    "walnut",
    "copper",
    "wool",
    "slate",
)
_NOUNS = ("lamp", "chair", "kettle", "clock", "shelf", "stool", "tray", "vase", "mirror", "hook")
_PRAISE = (
    "made to last",
    "easy to repair",
    "finished by hand",
    "sent in plain paper",
    "without glue",
)


class Product(NamedTuple):
    """One row of ``product``."""

    id: int
    name: str
    cents: int
    teaser: str


class ExportRow(NamedTuple):
    """One sold line, as the book keeping wants it."""

    order: int
    customer: str
    product: str
    pieces: int
    cents: int


class OrderLine(TypedDict):
    """One line of an order as the client sends it."""

    product: int
    pieces: int
    gift_note: str


class Order(TypedDict):
    """An order as the client sends it."""

    customer: str
    lines: list[OrderLine]


def create(path: Path, *, seed: int = 1) -> None:
    """Write a new shop database to *path*: the same rows for the same *seed*."""
    dice = random.Random(seed)  # noqa: S311 - reason: seeded rows, no secret
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_SCHEMA)
        connection.executemany(
            "INSERT INTO product VALUES (?, ?, ?, ?)",
            [
                (
                    number,
                    f"{dice.choice(_ADJECTIVES)} {dice.choice(_NOUNS)} {number}",
                    dice.randrange(500, 50_000),
                    ", ".join(dice.choices(_PRAISE, k=36)),
                )
                for number in range(1, PRODUCTS + 1)
            ],
        )
        connection.executemany(
            "INSERT INTO placed VALUES (?, ?)",
            [(number, f"customer-{dice.randrange(80)}") for number in range(1, SEEDED_ORDERS + 1)],
        )
        connection.executemany(
            "INSERT INTO line VALUES (?, ?, ?)",
            [
                (order, dice.randint(1, PRODUCTS), dice.randint(1, 5))
                for order in range(1, SEEDED_ORDERS + 1)
                for _ in range(LINES_PER_ORDER)
            ],
        )
    connection.close()


def connect(path: Path) -> sqlite3.Connection:
    """Open the shop database at *path* for the calling thread; a demo needs no fsync."""
    connection = sqlite3.connect(path, timeout=10)
    connection.execute("PRAGMA synchronous = OFF")
    return connection


def find_product(connection: sqlite3.Connection, number: int) -> Product | None:
    """Return one product, or None."""
    row = connection.execute("SELECT * FROM product WHERE id = ?", (number,)).fetchone()
    return Product(*row) if row else None


def related_products(connection: sqlite3.Connection, product: Product, limit: int) -> list[Product]:
    """Return the *limit* products nearest in price."""
    rows = connection.execute(
        "SELECT * FROM product WHERE id != ? ORDER BY abs(cents - ?) LIMIT ?",
        (product.id, product.cents, limit),
    )
    return [Product(*row) for row in rows]


def add_order(connection: sqlite3.Connection, order: Order) -> int:
    """Store *order* and return its number."""
    with connection:
        placed = connection.execute(
            "INSERT INTO placed (customer) VALUES (?)", (order["customer"],)
        ).lastrowid
        connection.executemany(
            "INSERT INTO line VALUES (?, ?, ?)",
            [(placed, line["product"], line["pieces"]) for line in order["lines"]],
        )
    if placed is None:
        raise sqlite3.DatabaseError("the new order got no number")
    return placed


def sold_lines(connection: sqlite3.Connection, limit: int) -> list[ExportRow]:
    """Return the *limit* lines sold last, newest first."""
    rows = connection.execute(
        """
        SELECT placed.id, placed.customer, product.name, line.pieces, product.cents
        FROM line JOIN placed ON placed.id = line.placed JOIN product ON product.id = line.product
        ORDER BY line.rowid DESC LIMIT ?
        """,
        (limit,),
    )
    return [ExportRow(*row) for row in rows]
