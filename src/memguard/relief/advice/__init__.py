"""
What to do about memory, from what was measured: pure.

`advise` weighs signals of pressure, `fit_capacity` says how much work fits.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.relief.advice.advisor import Advice as Advice
    from memguard.relief.advice.advisor import AdvisorOptions as AdvisorOptions
    from memguard.relief.advice.advisor import AdvisorState as AdvisorState
    from memguard.relief.advice.advisor import SignalRule as SignalRule
    from memguard.relief.advice.advisor import Signals as Signals
    from memguard.relief.advice.advisor import advise as advise
    from memguard.relief.advice.capacity import CapacityFit as CapacityFit
    from memguard.relief.advice.capacity import fit_capacity as fit_capacity
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.relief.advice.advisor": (
                "Advice AdvisorOptions AdvisorState SignalRule Signals advise"
            ),
            "memguard.relief.advice.capacity": "CapacityFit fit_capacity",
        },
    )
