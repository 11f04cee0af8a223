"""The cheapest look: one file kept open, and never somebody else's."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from memguard.observe.readings import read_memory
from memguard.relief.gauge import Glance

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="statm is Linux's")


def test_it_sees_what_a_reading_sees() -> None:
    glance = Glance()
    seen, reading = glance(), read_memory()
    assert seen.anon == pytest.approx(reading.anon, rel=0.05)
    assert seen.vms == pytest.approx(reading.vms, rel=0.05)
    assert seen.data == pytest.approx(reading.data, rel=0.05)
    glance.close()
    glance.close()


def test_without_the_file_it_takes_a_whole_reading() -> None:
    assert Glance(path="/nowhere")().gc_counts is not None


def test_a_file_of_another_kind_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "statm"
    path.write_text("not seven numbers")
    assert Glance(path=str(path))().gc_counts is not None


def test_a_descriptor_that_somebody_else_reuses_is_left_open(tmp_path: Path) -> None:
    glance = Glance()
    glance()
    number = glance._descriptor
    assert number is not None
    os.close(number)
    other = os.open(tmp_path / "other", os.O_CREAT | os.O_RDWR)
    os.dup2(other, number)
    assert glance().rss
    glance.close()
    os.fstat(number)
    for descriptor in {other, number}:
        os.close(descriptor)


def test_one_that_nobody_closed_closes_itself() -> None:
    glance = Glance()
    glance()
    number = glance._descriptor
    assert number is not None
    del glance
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_at_the_end_of_the_interpreter_it_leaves_the_file_to_the_system() -> None:
    """Then its module may be empty already, and an error in a finalizer would be printed."""
    glance = Glance()
    glance()
    finalizer: Any = glance.__del__
    finalizer(is_finalizing=lambda: True)
    number = glance._descriptor
    assert number is not None
    os.fstat(number)
    glance.close()
