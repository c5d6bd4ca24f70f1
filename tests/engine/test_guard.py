"""The guard: what becomes of a Terraform whose run is killed, and of its folder."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from workflow_result.engine.guard import Guard, is_guarded

STUBBORN = """
trap 'echo INT >>"$0"' INT
sleep 300 &
echo $! >"$0.left"
while true; do wait; done
"""
GENTLE = """
trap 'echo INT >>"$0"; sleep 0.2; exit' INT
touch "$0.left"
while true; do sleep 0.05; done
"""


linux = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="/proc is missing: it is Linux's"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "order"
    folder.mkdir()
    (folder / "engine.json").write_text("{}")
    return folder


def until(happens: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def killed_run(folder: Path, script: str) -> tuple[int, Path]:
    """Let a run be killed whose Terraform is this script; return that one's ID, and its log."""
    log = folder.parent / "log"
    run = os.fork()
    if run == 0:
        guard = Guard(folder, 1)
        child = subprocess.Popen(["bash", "-c", script, str(log)], start_new_session=True)
        guard.watch(child.pid)
        until(log.with_suffix(".left").exists)
        (folder.parent / "child").write_text(str(child.pid))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(run, 0)
    return int((folder.parent / "child").read_text()), log


@linux
def test_terraform_of_a_killed_run_is_stopped_harder_each_time(folder: Path) -> None:
    """Interrupted, interrupted again, killed with all that it has started; then the folder goes."""
    child, log = killed_run(folder, STUBBORN)
    left = int(log.with_suffix(".left").read_text())
    assert is_guarded(str(folder))
    until(lambda: not folder.exists())
    assert log.read_text().split() == ["INT", "INT"]
    until(lambda: not lives(child) and not lives(left))
    assert not is_guarded(str(folder))


@linux
def test_terraform_that_ends_gently_is_not_stopped_harder(folder: Path) -> None:
    child, log = killed_run(folder, GENTLE)
    until(lambda: not folder.exists())
    assert log.read_text().split() == ["INT"]
    assert not lives(child)


def test_in_the_end_the_guard_goes_and_ends_nobody(folder: Path) -> None:
    with subprocess.Popen(["sleep", "300"], start_new_session=True) as bystander:
        guard = Guard(folder, 1)
        guard.watch(bystander.pid)
        guard.watch(0)
        guard.close()
        assert not folder.exists()
        assert bystander.poll() is None
        bystander.kill()


@linux
def test_guard_takes_no_notice_of_what_ends_its_run(folder: Path) -> None:
    guard = Guard(folder, 1)
    status = Path(f"/proc/{guard._process.pid}/status")
    wanted = sum(1 << (n - 1) for n in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM))

    def ignores() -> bool:
        ignored = status.read_text().partition("SigIgn:")[2].split()[0]
        return int(ignored, 16) & wanted == wanted

    until(ignores)
    guard.close()


def test_what_no_guard_watches_over_is_not_guarded(tmp_path: Path) -> None:
    """As after a restart of the machine: the guard's ID may be anybody's, and the folder stays."""
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    file = tmp_path / "file"
    file.touch()
    for path in (tmp_path, link, file, tmp_path / "none", "\0"):
        assert not is_guarded(str(path))
