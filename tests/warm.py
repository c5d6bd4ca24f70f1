"""Runs main.py as a process of its own, forked from one in which Python and boto3 are loaded.

Loading them is four fifths of what a short command costs, and the tests run thousands. How the
program starts is what the tests of the pages, of the demo and of all that is killed show: they
start it as everybody does.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

import pytest

MAIN = Path(__file__).resolve().parent.parent / "main.py"

processes = multiprocessing.get_context("forkserver")
"""What forks; `tests/journal/test_model.py` has it fork, too."""
processes.set_forkserver_preload(["loaded", "journal_worker", "warm"])

TESTS = Path(__file__).resolve().parent
FOLDERS = [str(folder) for folder in (TESTS.parent, TESTS, TESTS / "journal")]
"""Where it finds what it loads: before Python 3.14 it is told in the environment alone."""

PIPE = 4096
"""Bytes that a pipe takes at least."""

AT_START = ("PYTHON", "LANG", "LC_")
"""How variables begin that Python looks at when it starts."""


def run(
    arguments: Sequence[str | Path],
    stdin: bytes,
    environment: Mapping[str, str],
    directory: Path,
) -> tuple[int, bytes, bytes]:
    """Run main.py to its end; return exit code, negative for a signal, stdout and stderr."""
    usual = {"PYTHONDONTWRITEBYTECODE", "LANG"}
    at_start = any(name.startswith(AT_START) and name not in usual for name in environment)
    # Where SSO's tokens are is decided when botocore is loaded.
    if at_start or Path(environment["HOME"], ".aws", "sso").exists():
        done = subprocess.run(
            [sys.executable, MAIN, *arguments],
            input=stdin,
            capture_output=True,
            env=environment,
            cwd=directory,
        )
        return done.returncode, done.stdout, done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(FOLDERS))
        forkserver.ensure_running()
    given, stdin_end = os.pipe()
    streams = [os.pipe() for _ in range(2)]
    theirs = [given, *(end for _, end in streams)]

    def give() -> None:
        with suppress(BrokenPipeError), os.fdopen(stdin_end, "wb", 0) as file:
            file.write(stdin)

    argv = [str(MAIN), *map(str, arguments)]
    passed = [DupFd(descriptor) for descriptor in theirs]
    giving = threading.Thread(target=give)
    giving.start()
    if len(stdin) <= PIPE:  # else it would wait for somebody to read
        giving.join()
    process = processes.Process(target=be_main, args=(argv, dict(environment), directory, passed))
    process.start()
    for descriptor in theirs:
        os.close(descriptor)
    said: list[bytes] = [b"", b""]

    def take(number: int) -> None:
        with open(streams[number][0], "rb") as file:
            said[number] = file.read()

    threads = [threading.Thread(target=take, args=[n]) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in [*threads, giving]:
        thread.join()
    process.join()
    assert process.exitcode is not None
    code = process.exitcode
    process.close()
    return code, said[0], said[1]


def be_main(
    argv: Sequence[str], environment: Mapping[str, str], directory: Path, passed: Sequence[Any]
) -> None:
    """Become main.py: with these standard streams, and nothing of the process it comes from."""
    for number, stream in enumerate([one.detach() for one in passed]):
        os.dup2(stream, number, inheritable=True)
    os.closerange(3, 256)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.set_wakeup_fd(-1)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    sys.argv = list(argv)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    try:
        runpy.run_path(argv[0], run_name="__main__")
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)
    os._exit(1)
