"""What the tests of the journal and torture.py share: main.py on one journal, and its traces."""

import json
import os
import pty
import queue
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import warm
from conftest import CREDENTIALS, MAIN, Outcome, Sandbox, clean_environment, endpoint
from engine_cli import read_until
from tables import SharedTable

from workflow_result import request as requests
from workflow_result.journal import Journal
from workflow_result.journal.place import Table, open_journal
from workflow_result.journal.record import RETURN_SECONDS, Entry

JOURNAL = "workflow_result.journal:Journal"
STORE = "workflow_result.journal.sqlite:SQLiteStore"
SEND = "workflow_result.delivery:Delivery.send"

MARK = "Zq7-"
"""Every few characters of each token, so that the smallest remainder of one is found."""

TOKEN = MARK * 9
KILL_AT = Path(__file__).with_name("kill_at.py")

NOBODY = CREDENTIALS | {
    "AWS_ENDPOINT_URL_SERVICE_CATALOG": "http://127.0.0.1:1",
    "AWS_MAX_ATTEMPTS": "1",
}
"""An environment in which no result can be delivered."""

# Does as much as `run` looks at: a plan that is none of Terraform's own, but not cut off.
TERRAFORM = """#!/bin/bash
for option in "$@"; do
  case $option in -out=*) echo '{}' >"${option#-out=}" ;; esac
done
if [ "$1" = apply ] && [ -e hold ]; then
  echo '{"@message": "applying", "type": "apply_start"}'
  exec sleep 60
fi
"""


def a_request(record_id: str, token: str = TOKEN, **more: Any) -> dict[str, Any]:
    return {"WorkflowToken": token, "RecordId": record_id, "Status": "SUCCEEDED"} | more


def a_message(record_id: str) -> dict[str, Any]:
    return {
        "token": TOKEN,
        "operation": "TERMINATE_PROVISIONED_PRODUCT",
        "provisionedProductId": "pp-1",
        "provisionedProductName": "a product",
        "recordId": record_id,
        "launchRoleArn": "arn:aws:iam::123456789012:role/launch",
    }


@dataclass
class Desk:
    """A journal in a folder of its own, and main.py to work on it."""

    home: Path
    sandbox: Sandbox
    environment: dict[str, str] = field(default_factory=dict)
    shared: SharedTable | None = None
    """Where the journal is a table instead."""

    lease: int = 300
    prefix: Sequence[str] = ()
    """What starts each process."""

    def __post_init__(self) -> None:
        self.home.mkdir(exist_ok=True)
        self.folder = self.home / "state"
        self.journal = self.folder / "journal.sqlite3"
        self.artifact = self.home / "artifact"
        self.artifact.mkdir()
        (self.artifact / "main.tf").touch()
        terraform = self.home / "terraform"
        terraform.write_text(TERRAFORM)
        terraform.chmod(0o755)
        self.run_options = ("run", "--chdir", str(self.artifact), "--terraform", str(terraform))

    @property
    def journal_name(self) -> str:
        return self.shared.url(lease=self.lease) if self.shared else str(self.journal)

    # --- main.py ----------------------------------------------------------------------------

    def start(
        self,
        *arguments: str,
        stdin: Any = None,
        through: Sequence[str | Path] = (),
        before: Callable[[], None] | None = None,
        **variables: str,
    ) -> subprocess.Popen[bytes]:
        """Start main.py, or `through` another script that starts it."""
        process = subprocess.Popen(
            [*self.prefix, sys.executable, *(through or [MAIN]), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._variables(variables),
            cwd=self.home,
            preexec_fn=before,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(stdin).encode() if stdin else b"")
        process.stdin.close()
        process.stdin = None
        return process

    def main(self, *arguments: str, stdin: Any = None, **settings: Any) -> Outcome:
        if self.prefix or settings.keys() & {"through", "before"}:
            return ended(self.start(*arguments, stdin=stdin, **settings))
        given = json.dumps(stdin).encode() if stdin else b""
        code, stdout, stderr = warm.run(arguments, given, self._variables(settings), self.home)
        return Outcome(code, stdout.decode(), stderr.decode())

    def _variables(self, variables: dict[str, str]) -> dict[str, str]:
        environment = self.sandbox.environment | {"WORKFLOW_RESULT_JOURNAL": self.journal_name}
        if self.shared:
            environment |= self.shared.environment
        return clean_environment(self.home, **environment | self.environment | variables)

    def notify(self, record_id: str, **settings: Any) -> Outcome:
        return self.main("notify", stdin=a_request(record_id), **settings)

    def run(self, record_id: str, **settings: Any) -> Outcome:
        return self.main(*self.run_options, stdin=a_message(record_id), **settings)

    def killed(self, when: str, step: str) -> dict[str, Any]:
        """Settings that have main.py killed before or after this step of it."""
        return {"through": [KILL_AT, when, step]}

    def owe(
        self,
        *record_ids: str,
        destination: str = "sandbox",
        region: str | None = None,
        **more: Any,
    ) -> None:
        """Have these results in the journal, as if they could not be delivered."""
        with self.opened() as journal:
            for record_id in record_ids:
                draft = requests.Draft(a_request(record_id, **more))
                journal.owe(requests.check(draft, "provision"), destination, region)

    # --- what it leaves ---------------------------------------------------------------------

    def pending(self) -> dict[str, Entry]:
        with self.opened() as journal:
            return {entry.record_id: entry for entry in journal.pending()}

    @contextmanager
    def opened(self) -> Iterator[Journal]:
        """The journal, in this process."""
        place: Path | Table = self.journal
        with pytest.MonkeyPatch.context() as patch:
            if self.shared:
                place = Table(self.shared.name, self.lease)
                for name, value in (CREDENTIALS | self.shared.environment).items():
                    patch.setenv(name, value)
            journal = open_journal(place)
            try:
                yield journal
            finally:
                journal.close()

    def lapse(self) -> None:
        """Have the leases be over of whoever has died meanwhile: nobody is to be alive."""
        if not self.shared:
            return
        margin, gone = self.lease / 5, time.time() - 1
        for item in self.shared.items():
            if "owner" in item:
                returns = item["state"] == "running" and item["phase"] == "preparing"
                due_at = gone + RETURN_SECONDS if returns else gone
                self.shared.set(item["record"], lease=gone - margin, due_at=due_at)

    @contextmanager
    def table(self) -> Iterator[sqlite3.Connection]:
        """The journal's database, to look at or to change it behind the program's back."""
        with closing(sqlite3.connect(self.journal)) as database, database:
            yield database

    def tokens(self, record_id: str) -> set[str]:
        """The IdempotencyTokens under which Service Catalog was asked to end this record."""
        return {token for record, token, _ in self.sandbox.calls() if record == record_id}

    def leftovers(self) -> list[Any]:
        """Files in the journal's folder with a piece of a token; or items of the table."""
        if self.shared:
            return self.shared.leftovers(MARK.encode())
        return [file for file in self.folder.iterdir() if MARK.encode() in file.read_bytes()]


OLDER_RECORDS = ("owed", "died", "refused", "reported", "presumed", "two", "late", "again")


def older_journal(desk: Desk, version: int) -> None:
    """Have a journal as this version left it, with an entry of each of `OLDER_RECORDS`."""
    desk.folder.mkdir(exist_ok=True)
    for file in desk.folder.iterdir():
        file.unlink()
    desk.journal.touch(mode=0o600)
    script = Path(__file__).with_name("journal") / f"version-{version}.sql"
    if version:
        with desk.table() as table:
            table.executescript(script.read_text(encoding="utf-8"))


def ended(process: subprocess.Popen[bytes]) -> Outcome:
    stdout, stderr = process.communicate()
    return Outcome(process.returncode, stdout.decode(), stderr.decode())


def hold_run(desk: Desk, record: str, **settings: Any) -> subprocess.Popen[bytes]:
    """A `run` in the middle of Terraform's apply."""
    (desk.artifact / "hold").touch()
    process = desk.start(*desk.run_options, stdin=a_message(record), **settings)
    read_until(process, "applying")
    return process


@contextmanager
def held_calls(desk: Desk) -> Iterator[queue.Queue[queue.Queue[tuple[int, bytes]]]]:
    """Have the desk call an endpoint where each call waits for its answer to be put."""
    calls: queue.Queue[queue.Queue[tuple[int, bytes]]] = queue.Queue()

    def answer(*_: Any) -> tuple[int, bytes]:
        call: queue.Queue[tuple[int, bytes]] = queue.Queue()
        calls.put(call)
        return call.get()

    with endpoint(answer) as url:
        desk.environment |= {"AWS_ENDPOINT_URL_SERVICE_CATALOG": url, "AWS_MAX_ATTEMPTS": "1"}
        yield calls


def wait_for_call(desk: Desk) -> None:
    while not desk.sandbox.calls():
        time.sleep(0.05)


def on_terminal(desk: Desk, *arguments: str) -> str:
    """What main.py says where stderr is a terminal."""
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        os.dup2(theirs, 2)

    process = desk.start(*arguments, before=take_terminal)
    os.close(theirs)
    said = b""
    try:
        while piece := os.read(ours, 4096):
            said += piece
    except OSError:  # Linux's way to say that the other side is closed
        pass
    os.close(ours)
    process.communicate()
    return said.decode()


def through_strace(*options: str) -> list[str | Path]:
    """What starts main.py under strace; the test is skipped where that is impossible."""
    if (
        not shutil.which("strace")
        or subprocess.run(["strace", "true"], capture_output=True).returncode
    ):
        pytest.skip("strace is missing or not allowed")
    script = "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"
    output = [] if "-o" in options else ["-o", "/dev/null"]
    return ["-c", script, "strace", "-f", *output, *options, sys.executable, MAIN]
