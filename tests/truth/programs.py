"""All programs of which the truth is known: those made of parts, and special ones."""

from __future__ import annotations

from tests.truth import harmless, leaking
from tests.truth.composed import composed
from tests.truth.program import Program

__all__ = ["SPECIAL", "composed"]

SPECIAL: dict[str, Program] = {
    program.name: program
    for program in (
        *leaking.CYCLES,
        *leaking.NATIVE,
        *leaking.LEAKED,
        leaking.TWO,
        *leaking.PILES,
        *harmless.FRAGMENTED,
        *harmless.ENDING,
        *harmless.HEALTHY,
    )
}
"""Programs that are not made of parts: garbage, memory of C, and what is no leak."""
