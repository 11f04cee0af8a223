"""
From evidence to a finding: investigate, judge, compose, keep until it ends.

The verdict is decided here and nowhere else.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.leaks.finding.compose import verdict_kind as verdict_kind
    from memguard.leaks.finding.findings import Finding as Finding
    from memguard.leaks.finding.findings import Findings as Findings
    from memguard.leaks.finding.findings import summarize as summarize
    from memguard.leaks.finding.investigate import POLL_SECONDS as POLL_SECONDS
    from memguard.leaks.finding.investigate import Investigation as Investigation
    from memguard.leaks.finding.judge import leak_among as leak_among
    from memguard.leaks.finding.life import DOUBT as DOUBT
    from memguard.leaks.finding.life import SAME_PACE as SAME_PACE
    from memguard.leaks.finding.life import WORTH_A_LOOK as WORTH_A_LOOK
    from memguard.leaks.finding.life import Standstill as Standstill
    from memguard.leaks.finding.life import holds_more as holds_more
    from memguard.leaks.finding.life import instances_of as instances_of
    from memguard.leaks.finding.life import is_clear as is_clear
    from memguard.leaks.finding.life import state_of_growth as state_of_growth
    from memguard.leaks.finding.resources import LEAST as LEAST
    from memguard.leaks.finding.resources import is_brought_along as is_brought_along
    from memguard.leaks.finding.resources import resource_signs as resource_signs
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.leaks.finding.findings": "Finding Findings summarize",
            "memguard.leaks.finding.investigate": "Investigation POLL_SECONDS",
            "memguard.leaks.finding.judge": "leak_among",
            "memguard.leaks.finding.life": (
                "DOUBT SAME_PACE WORTH_A_LOOK Standstill holds_more instances_of is_clear "
                "state_of_growth"
            ),
            "memguard.leaks.finding.compose": "verdict_kind",
            "memguard.leaks.finding.resources": "LEAST is_brought_along resource_signs",
        },
    )
