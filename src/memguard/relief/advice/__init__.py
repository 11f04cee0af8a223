"""
What to do about memory, from what was measured: pure.

`advise` weighs signals of pressure, `fit_capacity` says how much work fits.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.relief.advice.advisor import (
        Advice,
        AdvisorOptions,
        AdvisorState,
        SignalRule,
        Signals,
        advise,
    )
    from memguard.relief.advice.capacity import CapacityFit, fit_capacity

__all__ = [
    "Advice",
    "AdvisorOptions",
    "AdvisorState",
    "CapacityFit",
    "SignalRule",
    "Signals",
    "advise",
    "fit_capacity",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.relief.advice.advisor": (
                "Advice AdvisorOptions AdvisorState SignalRule Signals advise"
            ),
            "memguard.relief.advice.capacity": "CapacityFit fit_capacity",
        },
    )
