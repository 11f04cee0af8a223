"""
A snapshot of the heap: objects walked in slices and named without running their code.

Nothing here calls a method of a user's object.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.heap import naming, walk
    from memguard.heap.naming import clean, dict_of_type, instance_dict, mro_of, type_name

__all__ = [
    "clean",
    "dict_of_type",
    "instance_dict",
    "mro_of",
    "naming",
    "type_name",
    "walk",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.heap": "naming walk",
            "memguard.heap.naming": "clean dict_of_type instance_dict mro_of type_name",
        },
    )
