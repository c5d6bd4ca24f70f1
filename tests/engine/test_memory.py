"""However much Terraform prints, it takes little memory, and no longer than it may."""

import os
from collections.abc import Callable

import pytest
from conftest import Sandbox
from engine_cli import MESSAGE, ONE_RESOURCE, Engine

MIB = 2**20

WITHOUT: list[int] = []
"""The most memory for a program that prints nothing, measured once."""


def peak(engine: Engine, record_id: str, script: str) -> int:
    """The most memory, in bytes, that `main.py` takes at a time for a program that prints so much
    and fails. Nobody reads what it says: all of it is on its way somewhere."""
    engine.configure(ONE_RESOURCE)
    program, message = engine.wrapper(f"{script}; exit 3"), MESSAGE | {"recordId": record_id}
    process = engine.start("--terraform", program, message=message)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.communicate()
    assert process.returncode == 1
    return usage.ru_maxrss * 1024


@pytest.mark.parametrize(
    "script",
    [
        "head -c 150000000 /dev/zero | tr '\\0' x",
        """printf '{"@message": "m", "type": "'; head -c 150000000 /dev/zero | tr '\\0' x""",
        "yes $(printf '%0999d' 1) | head -c 300000000",
    ],
    ids=["one line", "one event", "lines"],
)
def test_hundreds_of_megabytes_take_little_memory(
    engine: Engine, start_sandbox: Callable[..., Sandbox], script: str
) -> None:
    engine.sandbox = start_sandbox("--record", "rec-1", "--record", "rec-2")
    if not WITHOUT:
        WITHOUT.append(peak(engine, "rec-1", ":"))
    assert peak(engine, "rec-2", script) - WITHOUT[0] < 200 * MIB


@pytest.mark.parametrize("stream", ["1", "2"])
def test_program_that_prints_without_end_is_stopped_in_time(engine: Engine, stream: str) -> None:
    engine.configure(ONE_RESOURCE)
    outcome = engine.run("--terraform", engine.wrapper(f"exec yes >&{stream}"), "--timeout", "2")
    assert outcome.code == 1
    assert engine.reason().startswith(
        "Terraform was stopped during init: it did not end within 2 seconds:\ny\ny\n"
    )
