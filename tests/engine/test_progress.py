"""How far an apply is, as a person at a terminal sees it."""

import json
import os
import pty
import subprocess
import sys
import termios
from typing import Any

import pytest
from conftest import MAIN, ROOT, Sandbox, clean_environment
from engine_cli import MESSAGE, Engine

from workflow_result.engine import progress
from workflow_result.engine.progress import Progress

SUMMARY = {"operation": "plan", "add": "2", "change": "1", "remove": "0"}

TERRAFORM = """
for word in "$@"; do case $word in -out=*) printf '{}' >"${word#-out=}" ;; esac; done
say() { printf '{"@level":"info","@message":"%s","type":"%s"%s}\\n' "$1" "$2" "$3"; }
hook() { say "$1" "$2" ',"hook":{"resource":{"addr":"'"$3"'"}}'; }
case $1 in
plan)
  changes='{"add":2,"change":0,"remove":0,"operation":"plan"}'
  say "Plan: 2 to add" change_summary ',"changes":'"$changes" ;;
apply)
  hook "a: Creating..." apply_start a
  hook "b: Creating..." apply_start b
  hook "a: Creation complete" apply_complete a
  hook "b: Still creating... [10s elapsed]" apply_progress b
  hook "b: Creation complete" apply_complete b ;;
esac
"""


def event(kind: str, address: str = "a") -> dict[str, Any]:
    return {"type": kind, "hook": {"resource": {"addr": address}}}


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(progress, "on_terminal", lambda: True)
    monkeypatch.setattr(progress, "say", lambda line, end: lines.append(line.strip()))
    return lines


def test_what_is_done_is_counted_and_what_takes_longest_is_named(shown: list[str]) -> None:
    it = Progress()
    it.plan(SUMMARY)
    for kind, address in [
        *(("apply_start", "a"), ("apply_start", "b"), ("apply_start", "c")),
        *(("apply_complete", "a"), ("apply_errored", "b"), ("apply_complete", "c")),
    ]:
        it.take(event(kind, address))
        it.show()
    assert shown == [
        "0 of 3 done; a for 0:00",
        "0 of 3 done; a for 0:00, and 1 more",
        "0 of 3 done; a for 0:00, and 2 more",
        "1 of 3 done; b for 0:00, and 1 more",
        "2 of 3 done; c for 0:00",
    ]


@pytest.mark.parametrize(
    "odd",
    [{}, {"hook": 1}, {"hook": {}}, {"hook": {"resource": 1}}, {"hook": {"resource": {}}}],
)
def test_event_of_another_form_does_no_harm(shown: list[str], odd: dict[str, Any]) -> None:
    it = Progress()
    it.plan(7)
    it.plan({"operation": "plan", "add": ["x"], "change": "y"})
    it.take({"type": "apply_start"} | odd)
    it.show()
    it.take({"type": "apply_complete"} | odd)
    assert len(shown) == 1


def run_at_terminal(engine: Engine, sandbox: Sandbox, **variables: str) -> str:
    """Run an order with stderr on a terminal; return what it shows."""
    engine.configure('output "a" {\n  value = 1\n}')
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [
            *(sys.executable, MAIN, "run", "--chdir", engine.directory),
            *("--terraform", engine.wrapper(TERRAFORM)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env=clean_environment(engine.home, **sandbox.environment, **variables),
    ) as process:
        os.close(theirs)
        assert process.stdin
        process.stdin.write(json.dumps(MESSAGE).encode())
        process.stdin.close()
        said = b""
        while True:
            try:
                chunk = os.read(ours, 4096)
            except OSError:  # how Linux tells the end of a terminal
                chunk = b""
            if not chunk:
                break
            said += chunk
    os.close(ours)
    return said.decode()


def test_person_at_a_terminal_sees_one_line_written_over(engine: Engine, sandbox: Sandbox) -> None:
    said = run_at_terminal(engine, sandbox, NO_COLOR="1")
    assert "  0 of 2 done; a for 0:00\r\x1b[K" in said
    assert "  1 of 2 done; b for 0:00\r\x1b[K" in said
    assert "Still creating" not in said


TWO = """
from workflow_result.problem import name_record, say
name_record("rec-1", "update", in_every_line=True)
say("word " * 50, end="\\r")
"""
OTHER = """
from workflow_result.problem import name_record, say
name_record("rec-2", "update", in_every_line=True)
say("terraform plan")
"""


def test_beside_other_processes_a_line_is_written_over_by_whoever_comes_next() -> None:
    """Its record in front, it fits in one line of the terminal."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 60))
    for script in (TWO, OTHER):
        subprocess.run(
            [sys.executable, "-c", script],
            stderr=theirs,
            check=True,
            cwd=ROOT,
            env=clean_environment(ROOT, NO_COLOR="1"),
        )
    os.close(theirs)
    over, line = os.read(ours, 4096).split(b"\r", 1)
    os.close(ours)
    assert over == b"\x1b[K" + (b"rec-1: " + b"word " * 50)[:59]
    assert line == b"\x1b[Krec-2: terraform plan\r\n"


def test_log_has_plain_lines(engine: Engine) -> None:
    engine.configure('output "a" {\n  value = 1\n}')
    outcome = engine.run("--terraform", engine.wrapper(TERRAFORM), message=MESSAGE)
    assert "b: Still creating... [10s elapsed]" in outcome.stderr
    assert "done;" not in outcome.stderr
    assert "\r" not in outcome.stderr
