"""
HOLD: containers that cannot grow without limit.

This package has what they share: the inventory of live containers, sizing, checks of options.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.bounded import inventory
    from memguard.bounded.inventory import Footprint, InventoryRow, Reclaimed, survey
    from memguard.bounded.options import (
        ON_ERROR,
        check_bytes,
        check_callable,
        check_choice,
        check_flag,
        check_identifier,
        check_instance,
        check_int,
        check_number,
        check_path,
        check_positive_int,
        check_seconds,
        check_share,
    )
    from memguard.bounded.sizing import shallow_size

__all__ = [
    "ON_ERROR",
    "Footprint",
    "InventoryRow",
    "Reclaimed",
    "check_bytes",
    "check_callable",
    "check_choice",
    "check_flag",
    "check_identifier",
    "check_instance",
    "check_int",
    "check_number",
    "check_path",
    "check_positive_int",
    "check_seconds",
    "check_share",
    "inventory",
    "shallow_size",
    "survey",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.bounded": "inventory",
            "memguard.bounded.inventory": "Footprint InventoryRow Reclaimed survey",
            "memguard.bounded.options": (
                "ON_ERROR check_bytes check_callable check_choice check_flag check_identifier "
                "check_instance check_int check_number check_path check_positive_int check_seconds "
                "check_share"
            ),
            "memguard.bounded.sizing": "shallow_size",
        },
    )
