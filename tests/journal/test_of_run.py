"""The journal and `run`: a message is run once, and a run that died is FAILED."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from typing import Any

import pytest
from conftest import MAIN
from journal_cli import JOURNAL, NOBODY, Desk, a_message, a_request, hold_run

from workflow_result.engine.terraform import HOST_DIED


class TestRun:
    def test_run_whose_process_is_gone_is_reported_as_failed(self, desk: Desk, record: str) -> None:
        """Its Terraform goes on, and does not pass for it."""
        process = hold_run(desk, record)
        process.kill()
        process.wait()
        assert desk.pending()[record].state == "owed"
        assert desk.main("resend").code == 0
        detail = desk.sandbox.record(record)["RecordDetail"]
        assert detail["Status"] == "FAILED"
        assert detail["RecordErrors"][0]["Description"] == HOST_DIED

    @pytest.mark.parametrize("since", [0, 1e11], ids=["long-ago", "in-the-future"])
    def test_run_that_goes_on_is_left_alone_whatever_the_clock_says(
        self, desk: Desk, record: str, since: float
    ) -> None:
        process = hold_run(desk, record)
        with sqlite3.connect(desk.journal) as database:
            database.execute("UPDATE result SET since = ?", [since])
        database.close()
        assert desk.main("resend").code == 0
        assert desk.pending()[record].state == "running"
        assert desk.tokens(record) == set()
        process.send_signal(signal.SIGTERM)
        process.communicate()
        assert "SIGTERM" in str(desk.sandbox.record(record)["RecordDetail"]["RecordErrors"])

    def test_run_that_goes_on_is_left_alone_where_its_process_id_is_nobodys(
        self, desk: Desk, record: str
    ) -> None:
        """In another PID namespace no process has this one's id, as on another host."""
        unshare = ["unshare", "--map-root-user", "--pid", "--fork"]
        if subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
            pytest.skip("unshare is missing or not allowed")
        process = hold_run(desk, record)
        script = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"
        resent = desk.main("resend", through=["-c", script, *unshare, sys.executable, MAIN])
        assert resent.lines == ["0 reported, 0 refused, 0 still owed"]
        assert desk.pending()[record].state == "running"
        process.kill()
        process.communicate()

    def test_run_through_a_symbolic_link_is_seen_through_the_file(
        self, desk: Desk, record: str
    ) -> None:
        desk.folder.mkdir()
        link = desk.home / "link"
        link.symlink_to(desk.journal)
        process = hold_run(desk, record, WORKFLOW_RESULT_JOURNAL=str(link))
        assert desk.main("resend").code == 0
        assert desk.tokens(record) == set()
        process.kill()
        process.communicate()

    def test_run_that_died_while_it_applied_is_not_run_again_but_failed(
        self, desk: Desk, record: str
    ) -> None:
        desk.run(record, **desk.killed("after", f"{JOURNAL}.applying"))
        (desk.home / "terraform").write_text("#!/bin/sh\ntouch it-ran\n")
        for line in (
            "an earlier run of it died; that is FAILED, nothing was run",
            "reported before, says the journal; nothing was run",
        ):
            again = desk.run(record)
            assert (again.code, again.json["status"]) == (1, "FAILED")
            assert again.lines == [f"{record}: {line}"]
        assert not (desk.artifact / "it-ran").exists()
        assert desk.sandbox.record(record)["RecordDetail"]["RecordErrors"][0]["Description"] == (
            HOST_DIED
        )
        assert desk.tokens(record) == {again.json["idempotency_token"]}

    def test_failed_of_a_run_that_died_is_reported_by_run_where_resend_could_not(
        self, desk: Desk, record: str
    ) -> None:
        desk.run(record, **desk.killed("after", f"{JOURNAL}.applying"))
        assert desk.main("resend", **NOBODY).code == 75
        assert desk.run(record, **NOBODY).code == 75
        again = desk.run(record)
        assert (again.code, again.json["status"]) == (1, "FAILED")
        assert len(desk.tokens(record)) == 1
        assert desk.pending() == {}

    @pytest.mark.parametrize("found", [False, True], ids=["first", "after-resend"])
    def test_own_result_takes_the_place_of_the_failed_of_a_run_that_died(
        self, desk: Desk, record: str, found: bool
    ) -> None:
        desk.run(record, **desk.killed("after", f"{JOURNAL}.applying"))
        if found:
            assert desk.main("resend", **NOBODY).code == 75
        told = desk.main("notify", "--operation", "terminate", stdin=a_request(record))
        assert told.code == 0
        assert desk.sandbox.status(record) == "SUCCEEDED"
        assert desk.pending() == {}

    def test_message_that_does_not_come_again_is_failed_after_a_quarter_of_an_hour(
        self, desk: Desk, record: str
    ) -> None:
        """From when somebody has found that its run died before it applied anything."""
        desk.run(record, **desk.killed("before", f"{JOURNAL}.applying"))
        with desk.table() as table:
            table.execute("UPDATE result SET since = 1")  # the run itself may have taken long
        assert desk.pending()[record].state == "died"
        assert desk.main("resend").code == 0
        with desk.table() as table:
            table.execute("UPDATE result SET found = found - 890")
        assert desk.main("resend").code == 0
        assert desk.pending()[record].state == "died"
        with desk.table() as table:
            table.execute("UPDATE result SET found = found - 20")
        assert desk.pending()[record].state == "owed"
        assert desk.main("resend").lines == ["1 reported, 0 refused, 0 still owed"]
        assert desk.sandbox.status(record) == "FAILED"
        again = desk.run(record)
        assert (again.code, again.json["status"]) == (1, "FAILED")

    def test_clock_that_was_set_back_does_not_put_it_off(self, desk: Desk, record: str) -> None:
        desk.run(record, **desk.killed("before", f"{JOURNAL}.applying"))
        desk.main("resend")
        with desk.table() as table:
            table.execute("UPDATE result SET found = found + 1e6")
        desk.main("resend")
        with desk.table() as table:
            ((found,),) = table.execute("SELECT found FROM result").fetchall()
        assert found <= time.time()
        assert desk.pending()[record].state == "died"

    def test_run_that_goes_on_counts_as_applying_from_then_on(
        self, desk: Desk, record: str
    ) -> None:
        """Terraform is asked while it runs `apply`."""
        process = hold_run(desk, record)
        with desk.table() as table:
            rows = table.execute("SELECT state, phase FROM result").fetchall()
        process.kill()
        process.wait()
        assert rows == [("running", "applying")]

    def test_message_whose_result_was_reported_is_not_run_again(
        self, desk: Desk, record: str
    ) -> None:
        first = desk.run(record)
        second = desk.run(record, **NOBODY)
        assert (second.code, second.stdout) == (0, first.stdout)
        assert second.lines == [f"{record}: reported before, says the journal; nothing was run"]
        assert desk.pending() == {}

    def test_failure_that_was_reported_is_exit_code_1_again(self, desk: Desk, record: str) -> None:
        (desk.artifact / "main.tf").unlink()
        first = desk.run(record)
        second = desk.run(record)
        assert (first.code, second.code) == (1, 1)
        assert second.stdout == first.stdout
        assert [call[0] for call in desk.sandbox.calls()].count(record) == 1

    def test_message_whose_run_goes_on_is_not_run_again(self, desk: Desk, record: str) -> None:
        """Service Catalog's queues may deliver a message twice."""
        process = hold_run(desk, record)
        again = desk.run(record)
        assert (again.code, again.stdout) == (75, "")
        assert again.lines == [f"{record}: another process runs Terraform for it; nothing was run"]
        assert desk.pending()[record].state == "running"
        process.kill()
        process.communicate()

    def test_message_whose_result_is_owed_is_not_run_again(self, desk: Desk, record: str) -> None:
        assert desk.run(record, **NOBODY).code == 75
        again = desk.run(record)
        assert (again.code, again.stdout) == (75, "")
        assert again.lines == [f"{record}: its result is owed, `resend` sends it; nothing was run"]
        assert desk.main("resend").code == 0
        assert desk.run(record).json["status"] == "SUCCEEDED"

    def test_message_whose_result_was_refused_is_run_again(self, new_desk: Any) -> None:
        desk = new_desk("--misbehave", "invalid:1")
        assert [desk.run("rec-demo").code for _ in range(2)] == [69, 0]

    def test_message_whose_run_died_is_not_run_again_where_that_was_refused(
        self, new_desk: Any
    ) -> None:
        """It may have reported what it could not enter."""
        desk, record = new_desk("--misbehave", "invalid:1"), "rec-demo"
        desk.run(record, **desk.killed("after", f"{JOURNAL}.applying"))
        assert desk.main("resend").code == 69
        again = desk.run(record)
        assert (again.code, again.stdout) == (69, "")
        assert again.lines == [
            f"{record}: an earlier run of it died, and Service Catalog refused that result; "
            f"nothing was run. If it has none of this record, `forget {record}` lets it be run "
            "again"
        ]
        assert desk.main("forget", record).code == 0
        assert desk.run(record).code == 0


def test_result_is_owed_before_credentials_are_there(new_desk: Any) -> None:
    """They expire while Terraform runs, and new ones never come; then the process is killed: the
    success stays one."""
    desk, record = new_desk("--misbehave", "expired-token:1"), "rec-demo"
    source = desk.home / "credentials"
    keys = {"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b" * 40}
    source.write_text(
        f"#!/bin/sh\n[ ! -e {source}.used ] || exec sleep 60\n"
        f"touch {source}.used\necho '{json.dumps(keys)}'\n"
    )
    source.chmod(0o755)
    (desk.home / ".aws").mkdir()
    (desk.home / ".aws" / "config").write_text(f"[default]\ncredential_process = {source}\n")
    unset: dict[str, Any] = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    process = desk.start(*desk.run_options, stdin=a_message(record), **unset)
    while not desk.sandbox.calls():
        time.sleep(0.05)
    entry = desk.pending()[record]
    process.kill()
    process.communicate()
    assert (entry.state, entry.status) == ("owed", "SUCCEEDED")
    source.write_text(f"#!/bin/sh\necho '{json.dumps(keys)}'\n")
    assert desk.main("resend", **unset).code == 0
    assert desk.sandbox.status(record) == "SUCCEEDED"
