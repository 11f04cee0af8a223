"""Names that a package exports and imports when they are first used (PEP 562)."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing `typing` would double the cost of `import memguard`
    from collections.abc import Callable, Mapping


def exports(
    package: str, defined_in: "Mapping[str, str]"
) -> "tuple[Callable[[str], object], Callable[[], list[str]]]":
    """
    Return ``__getattr__`` and ``__dir__`` of *package*.

    A name is imported once: it stays in the package, where the next use finds it without a call.

    Args:
        package: The ``__name__`` of the package.
        defined_in: For each module the names that it defines and *package* offers, with spaces
            between them. Beside *package* itself stand those of its modules that it offers.
    """
    homes = {name: module for module, names in defined_in.items() for name in names.split()}

    def load(name: str) -> object:
        if name == "__all__":  # asked by `from package import *`
            return list_names()
        module = homes.get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        # Not importlib, which a bare interpreter has not loaded. With a name to fetch,
        # __import__ returns the module itself and not the package at its root.
        if module == package:
            thing: object = __import__(f"{package}.{name}", fromlist=("__name__",))
        else:
            thing = getattr(__import__(module, fromlist=(name,)), name)
        setattr(sys.modules[package], name, thing)
        return thing

    def list_names() -> list[str]:
        return sorted(homes)

    return load, list_names
