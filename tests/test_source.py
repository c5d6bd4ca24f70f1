"""Where a request comes from: a file, the environment, stdin; and how stdin is read."""

import json
import os
import pty
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import MAIN, UUID_TOKEN, Outcome, Program, clean_environment

VALID = {
    "WorkflowToken": UUID_TOKEN,
    "RecordId": "rec-1",
    "Status": "SUCCEEDED",
    "IdempotencyToken": "once",
}


def test_file_goes_before_the_environment_and_that_before_stdin(
    program: Program, tmp_path: Path
) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps(VALID | {"RecordId": "from-file"}))
    environment = json.dumps(VALID | {"RecordId": "from-environment"})
    stdin = VALID | {"RecordId": "from-stdin"}

    def record_id(
        *options: str | Path, stdin: str | dict[str, Any] = stdin, **variables: str
    ) -> str:
        return program("validate", *options, stdin=stdin, **variables).json["record_id"]

    assert record_id() == "from-stdin"
    assert record_id(stdin="", WORKFLOW_RESULT_REQUEST=environment) == "from-environment"
    assert record_id("--input", file, WORKFLOW_RESULT_REQUEST=environment) == "from-file"
    assert record_id("--input", "-", WORKFLOW_RESULT_REQUEST=environment) == "from-stdin"


def test_request_in_the_environment_that_is_not_utf_8_is_refused(program: Program) -> None:
    outcome = program("validate", WORKFLOW_RESULT_REQUEST=os.fsdecode(b'{"a": "\xff"}'))
    assert outcome.code == 65
    assert outcome.lines == ["the request: not UTF-8 text: byte 8 cannot be read"]


class TestInputFile:
    def test_missing(self, program: Program) -> None:
        outcome = program("validate", "--input", "nowhere.json")
        assert outcome.code == 2
        assert outcome.lines[-1].endswith("File 'nowhere.json' does not exist.")

    def test_directory(self, program: Program) -> None:
        outcome = program("validate", "--input", ".")
        assert outcome.code == 2
        assert outcome.lines[-1].endswith("File '.' is a directory.")

    def test_unreadable(self, program: Program) -> None:
        """Nobody, not even root, can read a process's memory at address 0."""
        outcome = program("validate", "--input", "/proc/self/mem")
        assert outcome.code == 2
        assert outcome.lines[-1] == "Error: Invalid value for --input: Input/output error"

    @pytest.mark.parametrize(("more", "code"), [(0, 0), (1, 65)])
    def test_of_16_mib_is_taken_and_a_larger_one_refused(
        self, program: Program, more: int, code: int
    ) -> None:
        file = program.home / "request.json"
        file.write_text(json.dumps(VALID).ljust(16 * 1024 * 1024 + more))
        assert program("validate", "--input", file).code == code


def test_terminal_on_stdin_is_told_what_is_waited_for(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, MAIN, "validate"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(tmp_path),
    )
    assert process.stderr is not None
    assert "waiting for a request on stdin" in process.stderr.readline()
    os.write(ours, json.dumps(VALID).encode() + b"\n\x04")  # Ctrl-D
    stdout, stderr = process.communicate()
    os.close(ours)
    os.close(theirs)
    assert (process.returncode, stderr) == (0, "")
    assert json.loads(stdout)["record_id"] == "rec-1"


def test_interrupt_while_waiting_is_one_line(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, MAIN, "validate"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(tmp_path),
    )
    wait_until_reading(process.pid)
    process.send_signal(2)
    stdout, stderr = process.communicate()
    assert (process.returncode, stdout, stderr.split()) == (130, "", ["interrupted"])


def test_stdin_that_does_not_block_is_read_to_its_end(tmp_path: Path) -> None:
    """As some parents leave their pipes: what has not come yet looks like the end."""
    text = json.dumps(VALID).encode()
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.write(writing, text[:40])
    process = subprocess.Popen(
        [sys.executable, MAIN, "validate"],
        stdin=reading,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(tmp_path),
    )
    try:
        wait_until_reading(process.pid)
        os.write(writing, text[40:])
    finally:
        os.close(writing)
        _, stderr = process.communicate()
        os.close(reading)
    assert (process.returncode, stderr) == (0, "")


def wait_until_reading(pid: int) -> None:
    """Wait until the process is blocked reading a pipe."""
    for _ in range(1000):
        if Path(f"/proc/{pid}/wchan").read_text() in ("pipe_read", "anon_pipe_read"):
            return
        time.sleep(0.01)
    raise AssertionError("the process does not read its stdin")


IN_ENVIRONMENT = json.dumps(VALID | {"RecordId": "from-environment"})
ON_STDIN = json.dumps(VALID | {"RecordId": "from-stdin"}).encode()
TWO_REQUESTS = (
    "there is a request in WORKFLOW_RESULT_REQUEST and another one on stdin: `--input -` takes "
    "that on stdin, `--input FILE` that in a file, `</dev/null` the other"
)


def validate(tmp_path: Path, stdin: int | None, *options: str) -> Outcome:
    """Validate with a request in the environment, and this on stdin."""
    done = subprocess.run(
        [sys.executable, MAIN, "validate", *options],
        stdin=stdin,
        capture_output=True,
        env=clean_environment(tmp_path, WORKFLOW_RESULT_REQUEST=IN_ENVIRONMENT),
    )
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


def is_refused(outcome: Outcome) -> bool:
    if outcome.code == 0:
        assert (outcome.json["record_id"], outcome.stderr) == ("from-environment", "")
        return False
    assert (outcome.code, outcome.stdout, outcome.lines) == (2, "", [TWO_REQUESTS])
    return True


class TestTwoRequests:
    """One in the environment, another one on stdin."""

    def test_in_a_pipe_is_refused_and_stays_there(self, tmp_path: Path) -> None:
        if not sys.platform.startswith("linux"):
            pytest.skip("only Linux has tee(2), which looks into a pipe")
        reading, writing = os.pipe()
        os.write(writing, ON_STDIN)
        assert is_refused(validate(tmp_path, reading))
        os.close(writing)
        with open(reading, "rb") as left:
            assert left.read() == ON_STDIN

    def test_in_a_file_is_refused_and_stays_there(self, tmp_path: Path) -> None:
        file = tmp_path / "requests"
        file.write_bytes(b"first line\n" + ON_STDIN)
        with file.open("rb", buffering=0) as stdin:
            assert not is_refused(validate(tmp_path, stdin.fileno()))
            stdin.readline()
            assert is_refused(validate(tmp_path, stdin.fileno()))
            assert stdin.read() == ON_STDIN

    def test_in_a_socket_is_refused_and_stays_there(self, tmp_path: Path) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            assert not is_refused(validate(tmp_path, theirs.fileno()))
            ours.sendall(ON_STDIN)
            assert is_refused(validate(tmp_path, theirs.fileno()))
            assert theirs.recv(4096) == ON_STDIN

    @pytest.mark.parametrize("command", ["validate", "notify"])
    def test_every_command_that_reads_a_request_refuses(
        self, program: Program, command: str
    ) -> None:
        outcome = program(command, stdin=ON_STDIN, WORKFLOW_RESULT_REQUEST=IN_ENVIRONMENT)
        assert is_refused(outcome)
        assert list(program.home.iterdir()) == []

    @pytest.mark.parametrize("begin", [b"\xef\xbb\xbf", b" \n\t\r"])
    def test_what_may_stand_before_a_request_changes_nothing(
        self, program: Program, begin: bytes
    ) -> None:
        source = begin + b'{ \n"RecordId": "from-stdin"'
        assert is_refused(program("validate", stdin=source, WORKFLOW_RESULT_REQUEST=IN_ENVIRONMENT))

    @pytest.mark.parametrize(
        "other",
        [b"", b"{}", b"{}\n", b" { } ", b"{", b'["a"]', b'"a"', b"hello", b"null", b"{a: 1}"],
    )
    def test_what_is_no_request_is_left_alone(self, program: Program, other: bytes) -> None:
        """`{}` is what an external data source without a query sends."""
        outcome = program("validate", stdin=other, WORKFLOW_RESULT_REQUEST=IN_ENVIRONMENT)
        assert not is_refused(outcome)

    def test_stdin_that_is_open_and_silent_is_not_waited_for(self, tmp_path: Path) -> None:
        reading, writing = os.pipe()
        assert not is_refused(validate(tmp_path, reading))
        os.close(reading)
        os.close(writing)

    def test_terminal_is_not_looked_at(self, tmp_path: Path) -> None:
        ours, theirs = pty.openpty()
        os.write(ours, ON_STDIN + b"\n")
        assert not is_refused(validate(tmp_path, theirs))
        os.close(ours)
        os.close(theirs)

    def test_device_is_not_looked_at(self, tmp_path: Path) -> None:
        assert not is_refused(validate(tmp_path, subprocess.DEVNULL))

    def test_closed_stdin_is_none(self, tmp_path: Path) -> None:
        done = subprocess.run(
            ["bash", "-c", '"$0" "$1" validate <&-', sys.executable, MAIN],
            capture_output=True,
            env=clean_environment(tmp_path, WORKFLOW_RESULT_REQUEST=IN_ENVIRONMENT),
        )
        assert not is_refused(Outcome(done.returncode, done.stdout.decode(), done.stderr.decode()))

    @pytest.mark.parametrize("option", ["-", "file"])
    def test_input_says_which_is_meant(self, program: Program, option: str) -> None:
        (program.home / "file").write_bytes(ON_STDIN)
        outcome = program(
            "validate",
            *("--input", option),
            stdin=ON_STDIN if option == "-" else b'{"RecordId": "other"}',
            WORKFLOW_RESULT_REQUEST=IN_ENVIRONMENT,
        )
        assert (outcome.code, outcome.json["record_id"]) == (0, "from-stdin")

    def test_empty_variable_holds_no_request(self, program: Program) -> None:
        outcome = program("validate", stdin=ON_STDIN, WORKFLOW_RESULT_REQUEST="")
        assert outcome.json["record_id"] == "from-stdin"
