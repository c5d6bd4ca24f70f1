"""`run` looks at region, credentials and endpoint beside Terraform, before anything is applied."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aws_settings import BROKEN, KEYS, SECRET_KEY, SESSION_TOKEN, Broken, Place, error, key_id
from conftest import MAIN, Outcome, Program, Sandbox, clean_environment, endpoint
from engine_cli import MESSAGE

MARKS = """
resource "terraform_data" "mark" {
  provisioner "local-exec" {
    command = "SCRIPT"
  }
}
"""


class Run:
    """`main.py run` with an AWS configuration of its own."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self.place = Place(program.home)
        self.directory = program.home / "artifact"
        self.directory.mkdir()

    def __call__(self, url: str, script: str = "touch ../applied", **variables: str) -> Outcome:
        process = self.start(url, script, **variables)
        stdout, stderr = process.communicate()
        return Outcome(process.returncode, stdout, stderr)

    def start(
        self, url: str, script: str = "touch ../applied", **variables: str
    ) -> subprocess.Popen[str]:
        script = script.replace("\\", "\\\\").replace('"', '\\"')
        (self.directory / "main.tf").write_text(MARKS.replace("SCRIPT", script))
        environment = {"CHECKPOINT_DISABLE": "1", "AWS_ENDPOINT_URL_SERVICE_CATALOG": url}
        environment |= self.place.environment | variables
        message = self.place.home / "message"
        message.write_text(json.dumps(MESSAGE))
        with message.open() as stdin:
            return subprocess.Popen(
                [sys.executable, MAIN, "run", "--chdir", self.directory],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=clean_environment(self.place.home, **environment),
            )

    @property
    def is_applied(self) -> bool:
        return (self.place.home / "applied").exists()

    def pending(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(self._program("pending", "--json").stdout)
        return listed


@contextmanager
def silent(place: Place) -> Iterator[None]:
    """A `credential_process` that does not come to an end by itself."""
    place.process('echo $$ >"$HOME/silent"; exec sleep 600')
    yield
    os.kill(int((place.home / "silent").read_text()), signal.SIGKILL)


@pytest.fixture
def run(program: Program) -> Run:
    return Run(program)


@pytest.mark.parametrize("broken", BROKEN[::3], ids=lambda broken: broken.name)
def test_nothing_is_applied_whose_result_could_not_be_sent(run: Run, broken: Broken) -> None:
    with endpoint(lambda *_: broken.answer) as url:
        variables = broken.set_up(run.place, url)
        if not variables.get("AWS_REGION"):
            del run.place.environment["AWS_REGION"]
        outcome = run(variables.pop("AWS_ENDPOINT_URL", "http://127.0.0.1:1"), **variables)
        cause = broken.said(run.place)
    assert outcome.lines[-1] == f"rec-demo: nothing was applied: {cause}"
    assert outcome.code == (78 if broken.is_setup else 75)
    assert outcome.stdout == ""
    assert not run.is_applied
    assert run.pending() == []


def test_run_is_struck_off_so_that_it_can_be_run_again(run: Run, sandbox: Sandbox) -> None:
    assert run(sandbox.url).code == 78
    assert run(sandbox.url, **KEYS).code == 0
    assert run.is_applied
    assert sandbox.status() == "SUCCEEDED"


def test_source_that_stays_silent_is_not_waited_for(run: Run) -> None:
    with silent(run.place):
        outcome = run("http://127.0.0.1:1")
    assert outcome.lines[-1] == (
        "rec-demo: nothing was applied: no AWS credentials from custom-process: no answer in "
        "time; run the profile's credential_process by hand: it has to print credentials and exit "
        "with 0"
    )
    assert outcome.code == 75
    assert not run.is_applied
    assert run.pending() == []


def test_service_catalog_is_not_called_before_there_is_a_result(run: Run) -> None:
    applied: list[bool] = []

    def answer(*_: Any) -> tuple[int, bytes]:
        applied.append(run.is_applied)
        return 200, b"{}"

    with endpoint(answer) as url:
        assert run(url, **KEYS).code == 0
    assert applied == [True]


def test_terraform_that_fails_before_is_reported_all_the_same(run: Run, sandbox: Sandbox) -> None:
    (run.directory / "broken.tf").write_text("resource")
    assert run(sandbox.url, **KEYS).code == 1
    assert sandbox.status() == "FAILED"


def test_result_is_in_the_journal_while_credentials_are_waited_for(run: Run) -> None:
    """A kill at that time must not make FAILED out of a success, nor lose what is known."""
    (run.directory / "broken.tf").write_text("resource")
    with silent(run.place):
        process = run.start("http://127.0.0.1:1")
        asked = run.place.home / "silent"
        while not (asked.exists() and [e for e in run.pending() if e["state"] == "owed"]):
            assert process.poll() is None
        process.kill()
        process.communicate()
    (entry,) = run.pending()
    assert (entry["state"], entry["record_id"]) == ("owed", "rec-demo")


def test_credentials_that_are_rotated_while_terraform_runs_are_read_again(run: Run) -> None:
    calls: list[str] = []

    def answer(headers: Any, _: bytes) -> tuple[int, bytes]:
        calls.append(key_id(headers))
        return (200, b"{}") if calls[-1] == "AKIANEW" else error("ExpiredTokenException")

    run.place.credentials("AKIAOLD")
    rotate = f"sed -i.old s/AKIAOLD/AKIANEW/ {run.place.folder / 'credentials'}"
    with endpoint(answer) as url:
        outcome = run(url, script=rotate)
    assert outcome.code == 0, outcome.stderr
    assert calls == ["AKIAOLD", "AKIANEW"]


def test_credentials_in_use_are_in_no_line_and_no_failure_reason(run: Run) -> None:
    """Terraform and what it starts may show them."""
    bodies: list[bytes] = []

    def answer(_: Any, body: bytes) -> tuple[int, bytes]:
        bodies.append(body)
        return 200, b"{}"

    token = SESSION_TOKEN.replace("\n", "")
    printed: Path = run.place.printed(SessionToken=token)
    run.place.process(f"cat {printed}")
    with endpoint(answer) as url:
        outcome = run(url, script=f"cat {printed}; cat {printed} >&2; exit 1")
    assert outcome.code == 1
    reason = json.loads(bodies[0])["FailureReason"]
    assert "(AWS_SECRET_ACCESS_KEY)" in reason + outcome.stderr
    for said in (reason, outcome.stderr):
        assert SECRET_KEY[:6] not in said
        assert token[:6] not in said
