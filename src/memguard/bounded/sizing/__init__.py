"""
How many bytes is this value? Bounded in time, and without running user code.

The one home of weighing: an object `alone`, its `contents`, and what it alone `retains`.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.bounded.sizing.alone import data_of as data_of
    from memguard.bounded.sizing.alone import is_known as is_known
    from memguard.bounded.sizing.alone import numpy_array as numpy_array
    from memguard.bounded.sizing.alone import shallow_size as shallow_size
    from memguard.bounded.sizing.contents import ATOMS as ATOMS
    from memguard.bounded.sizing.contents import DEFAULT_MAX_NODES as DEFAULT_MAX_NODES
    from memguard.bounded.sizing.contents import LARGE as LARGE
    from memguard.bounded.sizing.contents import Size as Size
    from memguard.bounded.sizing.contents import bytes_of as bytes_of
    from memguard.bounded.sizing.contents import size_of as size_of
    from memguard.bounded.sizing.entries import OpaqueTypes as OpaqueTypes
    from memguard.bounded.sizing.entries import Parts as Parts
    from memguard.bounded.sizing.entries import SharedBytes as SharedBytes
    from memguard.bounded.sizing.entries import average_bytes as average_bytes
    from memguard.bounded.sizing.entries import sized as sized
    from memguard.bounded.sizing.entries import weigh as weigh
    from memguard.bounded.sizing.kinds import has_methods_in_c as has_methods_in_c
    from memguard.bounded.sizing.retained import Weighing as Weighing
    from memguard.bounded.sizing.retained import Weight as Weight
    from memguard.bounded.sizing.tables import bytes_per_entry as bytes_per_entry
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.bounded.sizing.alone": "data_of is_known numpy_array shallow_size",
            "memguard.bounded.sizing.contents": (
                "ATOMS DEFAULT_MAX_NODES LARGE Size bytes_of size_of"
            ),
            "memguard.bounded.sizing.entries": (
                "OpaqueTypes Parts SharedBytes average_bytes sized weigh"
            ),
            "memguard.bounded.sizing.kinds": "has_methods_in_c",
            "memguard.bounded.sizing.retained": "Weighing Weight",
            "memguard.bounded.sizing.tables": "bytes_per_entry",
        },
    )
