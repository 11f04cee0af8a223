from __future__ import annotations

import pickle

import pytest

from memguard import errors

CHILDREN = [
    (errors.CapacityError, RuntimeError),
    (errors.ConfigError, ValueError),
    (errors.LifecycleError, RuntimeError),
    (errors.ReportFormatError, ValueError),
    (errors.ValueTooLargeError, ValueError),
]


@pytest.mark.parametrize(("error", "builtin"), CHILDREN)
def test_an_error_is_also_the_builtin_that_a_caller_would_catch(
    error: type[Exception], builtin: type[Exception]
) -> None:
    assert issubclass(error, builtin)
    assert issubclass(error, errors.MemguardError)


def test_every_error_of_the_room_ends_in_error_and_descends_from_the_root() -> None:
    defined = [thing for thing in vars(errors).values() if isinstance(thing, type)]
    assert {error for error, _ in CHILDREN} < set(defined)
    assert all(issubclass(error, errors.MemguardError) for error in defined)
    assert all(error.__name__.endswith("Error") for error in defined)


@pytest.mark.parametrize("error", [error for error, _ in CHILDREN])
def test_an_error_crosses_a_process_pool(error: type[Exception]) -> None:
    back = pickle.loads(pickle.dumps(error("maxsize must be >= 1 (got 0)")))  # noqa: S301 - reason: ours
    assert type(back) is error
    assert str(back) == "maxsize must be >= 1 (got 0)"
