"""The sentence that a missing optional package gets."""

from __future__ import annotations

import pytest

from memguard.errors import MissingExtraError
from memguard.extras import missing


def test_a_missing_package_gets_one_sentence_that_says_what_to_install() -> None:
    error = missing("prometheus-client", "prometheus")
    assert str(error) == (
        "prometheus-client is not installed, and this part of memguard needs it: "
        "pip install 'memguard-py[prometheus]'"
    )
    assert error.name == "prometheus-client"


def test_it_is_caught_as_an_import_error() -> None:
    with pytest.raises(ImportError):
        raise missing("rich", "top")
    assert issubclass(MissingExtraError, ImportError)
