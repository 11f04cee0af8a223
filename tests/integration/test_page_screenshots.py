"""examples/page_screenshots takes its pictures, each as wide as its device."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from examples.page_screenshots.chromium import CHROMIUM

pytestmark = pytest.mark.stress

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here; Debian: apt-get install chromium")
@pytest.mark.timeout(180)
def test_the_page_is_pictured_for_each_device(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "examples.page_screenshots", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
    )
    assert (done.returncode, done.stderr) == (0, "")
    widths = {
        file.stem: struct.unpack(">I", file.read_bytes()[16:20])[0]  # PNG: IHDR begins at byte 8
        for file in tmp_path.glob("*.png")
    }
    assert widths == {
        "page-desk-light": 1280,
        "page-desk-dark": 1280,
        "page-phone-light": 390,
        "page-phone-dark": 390,
    }
