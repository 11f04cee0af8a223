"""The error for a missing optional package: it names the extra to install."""

from __future__ import annotations

from memguard.errors import MissingExtraError


def missing(package: str, extra: str) -> MissingExtraError:
    """
    Return the error for a room whose *package* cannot be imported.

    Args:
        package: The distribution that is missing: ``"prometheus-client"``.
        extra: The extra of this distribution that brings it: ``"prometheus"``.
    """
    return MissingExtraError(
        f"{package} is not installed, and this part of memguard needs it: "
        f"pip install 'memguard-py[{extra}]'",
        name=package,
    )
