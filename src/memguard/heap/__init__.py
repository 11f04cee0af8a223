"""
A snapshot of the heap: objects walked in slices and named without running their code.

Nothing here calls a method of a user's object.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.heap import naming as naming
    from memguard.heap import places as places
    from memguard.heap import variables as variables
    from memguard.heap import walk as walk
    from memguard.heap.naming import clean as clean
    from memguard.heap.naming import dict_of_type as dict_of_type
    from memguard.heap.naming import instance_dict as instance_dict
    from memguard.heap.naming import mro_of as mro_of
    from memguard.heap.naming import type_name as type_name
    from memguard.heap.places import Place as Place
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.heap": "naming places variables walk",
            "memguard.heap.naming": "clean dict_of_type instance_dict mro_of type_name",
            "memguard.heap.places": "Place",
        },
    )
