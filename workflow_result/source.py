"""Where a request or a message comes from: a file, the environment, stdin.

This is the only file that reads stdin and the environment's request.
"""

import os
import re
import stat
import sys
from pathlib import Path

import click

from workflow_result.problem import ExitCode, Problem, say
from workflow_result.request import MAX_BYTES, REQUEST_VARIABLE

_GLIMPSE = 4096
"""Bytes of stdin that are looked at, to see whether a request begins there."""

_REQUEST_BEGINS = re.compile(rb'(?:\xef\xbb\xbf)?[ \t\r\n]*\{[ \t\r\n]*"')
"""A JSON object with a member. `{}` is what an external data source without a query sends."""


def read_request(input_file: Path | None) -> bytes:
    """Return the text of a request: that of `input_file`, else of the environment, else of stdin.

    At most a byte more than `MAX_BYTES`. Raises `click.BadParameter` where the file cannot be
    read, `Problem` (USAGE) where there is a request in the environment and one on stdin.
    """
    if input_file:
        return _read_file(input_file, "a request")
    if in_environment := os.environ.get(REQUEST_VARIABLE):
        if _REQUEST_BEGINS.match(_glimpse_of_stdin()):
            raise Problem(
                ExitCode.USAGE,
                f"there is a request in {REQUEST_VARIABLE} and another one on stdin: `--input -` "
                "takes that on stdin, `--input FILE` that in a file, `</dev/null` the other",
            )
        return os.fsencode(in_environment)
    return _read_stdin("a request")


def read_message(input_file: Path | None) -> bytes:
    """Return the text of an operation message: that of `input_file`, else of stdin.

    As `read_request` otherwise.
    """
    what = "an operation message"
    return _read_file(input_file, what) if input_file else _read_stdin(what)


def _read_file(path: Path, what: str) -> bytes:
    if str(path) == "-":
        return _read_stdin(what)
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise click.BadParameter(str(error.strerror), param_hint="--input") from None


def _read_stdin(what: str) -> bytes:
    if sys.stdin is None:
        return b""
    if sys.stdin.isatty():
        say(f"waiting for {what} on stdin: one JSON object, then Ctrl-D (see --help)")
    os.set_blocking(sys.stdin.fileno(), True)  # else half of it may pass for all
    return sys.stdin.buffer.read(MAX_BYTES + 1)


def _glimpse_of_stdin() -> bytes:
    """Return what stdin begins with and leave it there; nothing where that cannot be had at once.

    Devices, a terminal among them, are left alone.
    """
    try:
        mode = os.fstat(0).st_mode
        if stat.S_ISREG(mode):
            return os.pread(0, _GLIMPSE, os.lseek(0, 0, os.SEEK_CUR))
        if stat.S_ISFIFO(mode):
            return _glimpse_of_pipe()
        if stat.S_ISSOCK(mode):
            import socket

            with socket.socket(fileno=os.dup(0)) as waiting:
                return waiting.recv(_GLIMPSE, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError:
        pass
    return b""


def _glimpse_of_pipe() -> bytes:
    # Linux alone can copy what is in a pipe: tee(2), which Python's `os` does not have.
    import fcntl
    import termios

    waiting = fcntl.ioctl(0, termios.FIONREAD, bytes(4))
    if int.from_bytes(waiting, sys.byteorder) <= len("{}"):
        return b""
    try:
        import ctypes

        tee = ctypes.CDLL(None).tee
    except (ImportError, AttributeError):
        return b""
    reading, writing = os.pipe()
    try:
        copied = tee(0, writing, ctypes.c_size_t(_GLIMPSE), os.SPLICE_F_NONBLOCK)
        return os.read(reading, copied) if copied > 0 else b""
    finally:
        os.close(reading)
        os.close(writing)
