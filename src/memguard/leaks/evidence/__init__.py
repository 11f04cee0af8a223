"""
Evidence of a growing process: allocation traces, object counts, samples of new entries.

Tracing is started and stopped here and nowhere else.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.leaks.evidence import calls as calls
    from memguard.leaks.evidence import census as census
    from memguard.leaks.evidence import frames as frames
    from memguard.leaks.evidence import garbage as garbage
    from memguard.leaks.evidence import newest as newest
    from memguard.leaks.evidence import resources as resources
    from memguard.leaks.evidence import tracing as tracing
    from memguard.leaks.evidence.bursts import Bursts as Bursts
    from memguard.leaks.evidence.bursts import Candidate as Candidate
    from memguard.leaks.evidence.calls import Calls as Calls
    from memguard.leaks.evidence.census import MEAN_BLOCK_BYTES as MEAN_BLOCK_BYTES
    from memguard.leaks.evidence.census import MIN_ENTRIES as MIN_ENTRIES
    from memguard.leaks.evidence.census import HeapState as HeapState
    from memguard.leaks.evidence.frames import begin_after as begin_after
    from memguard.leaks.evidence.frames import frames_of as frames_of
    from memguard.leaks.evidence.frames import functions_at as functions_at
    from memguard.leaks.evidence.frames import is_user_code as is_user_code
    from memguard.leaks.evidence.frames import is_user_module as is_user_module
    from memguard.leaks.evidence.gathered import Evidence as Evidence
    from memguard.leaks.evidence.gathered import HolderEvidence as HolderEvidence
    from memguard.leaks.evidence.gathered import joined as joined
    from memguard.leaks.evidence.own_code import is_own_code as is_own_code
    from memguard.leaks.evidence.own_code import is_own_module as is_own_module
    from memguard.leaks.evidence.resources import ResourceChange as ResourceChange
    from memguard.leaks.evidence.tracing import Location as Location
    from memguard.leaks.evidence.tracing import Site as Site
    from memguard.leaks.evidence.tracing import Tracer as Tracer
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.leaks.evidence": "calls census frames garbage newest resources tracing",
            "memguard.leaks.evidence.bursts": "Bursts Candidate",
            "memguard.leaks.evidence.calls": "Calls",
            "memguard.leaks.evidence.census": "HeapState MEAN_BLOCK_BYTES MIN_ENTRIES",
            "memguard.leaks.evidence.frames": (
                "begin_after frames_of functions_at is_user_code is_user_module"
            ),
            "memguard.leaks.evidence.gathered": "Evidence HolderEvidence joined",
            "memguard.leaks.evidence.own_code": "is_own_code is_own_module",
            "memguard.leaks.evidence.tracing": "Location Site Tracer",
            "memguard.leaks.evidence.resources": "ResourceChange",
        },
    )
