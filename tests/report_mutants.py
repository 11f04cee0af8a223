"""Reports that were tampered with: numbers, texts, types, structure; one to three changes each."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from memguard.report.render.json import render_json
from tests.specimens import leak_report

_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1,
    2**31,
    2**53 + 1,
    2**63 - 1,
    -(2**63) + 1,
    2**63,
    10**30,
    10**400,
    -(10**400),
    1e-320,
    -0.0,
    1e18,
    1.7e308,
    -1.7e308,
    float("inf"),
    float("nan"),
    "",
    "x" * 5000,
    "\x00\x1b[31m\u202e<script>&\ud800{}%s",
    "2026-13-45T99:99:99Z",
    "0001-01-01T00:00:00+23:59",
    [],
    {},
    [[]],
    [None],
    {"a": 1},
)


def _slots(data: Any) -> list[tuple[Any, Any]]:
    """Return (container, key) of everything in *data*."""
    found: list[tuple[Any, Any]] = []
    rest = [data]
    while rest:
        each = rest.pop()
        keys: Any = each if isinstance(each, dict) else range(len(each))
        for key in keys:
            found.append((each, key))
            if isinstance(each[key], dict | list):
                rest.append(each[key])
    return found


def _change(random_: random.Random, data: Any) -> None:
    slots = _slots(data)
    if random_.random() < 0.6:  # most of what is still read differs in numbers and texts only
        same = [(w, k) for w, k in slots if type(w[k]) in (int, float, str)]
        if same:
            where, key = random_.choice(same)
            kinds = (str,) if type(where[key]) is str else (type(where[key]),)
            where[key] = random_.choice([v for v in _VALUES if type(v) in kinds])
            return
    where, key = random_.choice(slots)
    kind = random_.random()
    if kind < 0.6:
        number = type(where[key]) in (int, float) and random_.random() < 0.8
        wanted = [v for v in _VALUES if type(v) in (int, float)] if number else _VALUES
        where[key] = random_.choice(wanted)
    elif kind < 0.7:
        del where[key]
    elif kind < 0.8 and isinstance(where[key], list):
        where[key] *= random_.choice((0, 2, 50))
    elif isinstance(where, dict) and kind < 0.85:
        where["no such field"] = 1
    else:
        other, its = random_.choice(_slots(data))
        where[key] = json.loads(json.dumps(other[its]))


def _cut(random_: random.Random, text: str) -> str:
    at = random_.randrange(len(text))
    return random_.choice(
        (text[:at], text[:at] + random_.choice('[]{}",:0-eE\\u') + text[at + 1 :], text[at:])
    )


def mutants(count: int, seed: int) -> Iterator[str]:
    """Yield *count* texts, the same for the same *seed*."""
    random_ = random.Random(seed)  # noqa: S311 - reason: mutants, not secrets
    original = render_json(leak_report())
    for _ in range(count):
        data = json.loads(original)
        for _ in range(random_.randint(1, 3)):
            if data:
                _change(random_, data)
        text = json.dumps(data)
        yield _cut(random_, text) if random_.random() < 0.1 else text
