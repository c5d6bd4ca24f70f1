"""`make demo-engine`: what it shows, and that nothing of it is left."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import ROOT, provider_mirror


@pytest.mark.timeout(600)
def test_demo_shows_three_orders_and_leaves_nothing(tmp_path: Path) -> None:
    provider_mirror("hashicorp/aws")
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "served" / "demo_engine.py"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    shown = [line.strip() for line in done.stdout.splitlines() if line.startswith("   ")]
    assert shown[:2] == ["rec-works: SUCCEEDED", "hello = hello world"]
    assert shown[2] == "rec-fails: FAILED"
    assert "| A disk has 100 GB at the most, not 500." in "\n".join(shown)
    assert [line for line in shown if line.startswith(("rec-killed", "rec-next"))] == [
        "rec-killed: FAILED",
        "rec-next: SUCCEEDED",
    ]
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []


def processes_of(folder: Path) -> list[str]:
    """The processes that know of a folder by their environment, or by an argument."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            known = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
            if str(folder).encode() in known and int(process.name) != os.getpid():
                found.append((process / "cmdline").read_text().replace("\0", " "))
    return found
