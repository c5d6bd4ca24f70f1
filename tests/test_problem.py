"""What a person gets to read on stderr."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_result.problem import ESCAPES, printable


@given(text=st.text())
def test_what_is_said_is_printable_and_in_one_line(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert [c for c in ESCAPES.sub("", text) if c.isprintable() and c != " "] == [
        c for c in shown if c != " "
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]8;;https://example.com\x07link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;unfinished", "0;unfinished"),
        ("a\tb\r\nc\u2028d\xa0e\x9b1m", "a b  c d e 1m"),
    ],
)
def test_what_drives_a_terminal_is_taken_out(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "\x1b]" * 2**19,
        "\x1b]" + "a" * 2**20,
        "\x1b[" + "0" * 2**20,
        "\x1b[0" * 2**19,
        "é\n" * 2**20,
    ],
    ids=lambda text: repr(text[:4]),
)
def test_megabytes_take_no_time_worth_waiting_for(text: str) -> None:
    """Were it quadratic in anything, this would not end."""
    assert printable(text).isprintable()


FLOOD = """
import resource, sys
from workflow_result.problem import say, saying_aside

def used() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 2**20

with saying_aside():
    say("the first")
    before = used()
    for number in range(COUNT):
        say(f"{number} " + "x" * LENGTH)
    say("the last")
    print(used() - before, flush=True)
    sys.stdin.read(1)
"""


@pytest.mark.parametrize(("count", "length"), [(1_500, 100_000), (500_000, 20), (3, 10_000_000)])
def test_what_nobody_reads_takes_little_memory(count: int, length: int) -> None:
    script = FLOOD.replace("COUNT", str(count)).replace("LENGTH", str(length))
    root = Path(__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=root,
        text=True,
    ) as process:
        assert process.stdout is not None
        used = int(process.stdout.readline())  # nobody has read its stderr so far
        _, said = process.communicate("x")
    lines = said.splitlines()
    assert used < 64
    assert lines[-1] == "the last"
    left_out = [int(line.split()[1]) for line in lines if line.startswith("… ")]
    assert len(lines) - len(left_out) + sum(left_out) == count + 2
    assert left_out


def test_nothing_is_left_out_for_who_reads() -> None:
    script = FLOOD.replace("COUNT", "3000").replace("LENGTH", "100")
    done = subprocess.run(
        [sys.executable, "-c", script],
        input="x",
        capture_output=True,
        cwd=Path(__file__).parent.parent,
        text=True,
    )
    assert [line.split()[0] for line in done.stderr.splitlines()] == [
        "the",
        *map(str, range(3000)),
        "the",
    ]
