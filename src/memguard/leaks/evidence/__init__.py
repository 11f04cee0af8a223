"""
Evidence of a growing process: allocation traces, object counts, samples of new entries.

Tracing is started and stopped here and nowhere else.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.leaks.evidence import census, frames, newest, tracing
    from memguard.leaks.evidence.bursts import Bursts, Candidate
    from memguard.leaks.evidence.census import MEAN_BLOCK_BYTES, MIN_ENTRIES, HeapState
    from memguard.leaks.evidence.frames import (
        begin_after,
        frames_of,
        functions_at,
        is_own_code,
        is_user_code,
        is_user_module,
    )
    from memguard.leaks.evidence.gathered import Evidence, HolderEvidence
    from memguard.leaks.evidence.tracing import Location, Site, Tracer

__all__ = [
    "MEAN_BLOCK_BYTES",
    "MIN_ENTRIES",
    "Bursts",
    "Candidate",
    "Evidence",
    "HeapState",
    "HolderEvidence",
    "Location",
    "Site",
    "Tracer",
    "begin_after",
    "census",
    "frames",
    "frames_of",
    "functions_at",
    "is_own_code",
    "is_user_code",
    "is_user_module",
    "newest",
    "tracing",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.leaks.evidence": "census frames newest tracing",
            "memguard.leaks.evidence.bursts": "Bursts Candidate",
            "memguard.leaks.evidence.census": "HeapState MEAN_BLOCK_BYTES MIN_ENTRIES",
            "memguard.leaks.evidence.frames": (
                "begin_after frames_of functions_at is_own_code is_user_code is_user_module"
            ),
            "memguard.leaks.evidence.gathered": "Evidence HolderEvidence",
            "memguard.leaks.evidence.tracing": "Location Site Tracer",
        },
    )
