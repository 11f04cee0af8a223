"""
HOLD: containers that cannot grow without limit.

This package has what they share: the inventory of live containers, sizing, checks of options.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.bounded import inventory as inventory
    from memguard.bounded.inventory import Footprint as Footprint
    from memguard.bounded.inventory import InventoryRow as InventoryRow
    from memguard.bounded.inventory import Reclaimed as Reclaimed
    from memguard.bounded.inventory import survey as survey
    from memguard.bounded.options import ON_ERROR as ON_ERROR
    from memguard.bounded.options import check_bytes as check_bytes
    from memguard.bounded.options import check_callable as check_callable
    from memguard.bounded.options import check_choice as check_choice
    from memguard.bounded.options import check_flag as check_flag
    from memguard.bounded.options import check_identifier as check_identifier
    from memguard.bounded.options import check_instance as check_instance
    from memguard.bounded.options import check_int as check_int
    from memguard.bounded.options import check_number as check_number
    from memguard.bounded.options import check_path as check_path
    from memguard.bounded.options import check_positive_int as check_positive_int
    from memguard.bounded.options import check_seconds as check_seconds
    from memguard.bounded.options import check_share as check_share
    from memguard.bounded.sizing.alone import shallow_size as shallow_size
    from memguard.bounded.waiting import Waiter as Waiter
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.bounded": "inventory",
            "memguard.bounded.inventory": "Footprint InventoryRow Reclaimed survey",
            "memguard.bounded.options": (
                "ON_ERROR check_bytes check_callable check_choice check_flag check_identifier "
                "check_instance check_int check_number check_path check_positive_int "
                "check_seconds check_share"
            ),
            "memguard.bounded.sizing.alone": "shallow_size",
            "memguard.bounded.waiting": "Waiter",
        },
    )
