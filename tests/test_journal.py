"""The journal, `resend` and `pending`: what is owed is lost never, sent once, and then forgotten.

main.py runs as a process throughout; where it is killed, the kernel kills it.
"""

import itertools
import json
import os
import pty
import queue
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from conftest import CREDENTIALS, MAIN, ROOT, Sandbox, endpoint, sandboxes
from engine_cli import kill_left_over, limit_file_size, read_until
from journal_cli import MARK, NOBODY, TERRAFORM, TOKEN, Desk, a_message, a_request, ended

from workflow_result import journal as journals
from workflow_result.engine.terraform import HOST_DIED
from workflow_result.journal import Journal, JournalProblem
from workflow_result.request import Draft, Request, check

JOURNAL = "workflow_result.journal:Journal"
REPORTING = "workflow_result.reporting"
SEND = "workflow_result.delivery:Delivery.send"

numbers = itertools.count()


@pytest.fixture(scope="module")
def waiting_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox with records enough for every test to take its own."""
    with sandboxes(tmp_path_factory.mktemp("sandbox")) as start:
        yield start(*(f"--record=rec-{n}" for n in range(500)))


@pytest.fixture
def desk(tmp_path: Path, waiting_sandbox: Sandbox) -> Iterator[Desk]:
    yield Desk(tmp_path / "desk", waiting_sandbox)
    kill_left_over(tmp_path / "desk")


@pytest.fixture
def new_desk(
    tmp_path: Path, start_sandbox: Callable[..., Sandbox]
) -> Iterator[Callable[..., Desk]]:
    """Desks with a sandbox of their own, for one that misbehaves, or to count its calls."""
    yield lambda *options: Desk(tmp_path / "desk", start_sandbox(*options))
    kill_left_over(tmp_path / "desk")


@pytest.fixture
def record() -> str:
    """A record that no other test has."""
    return f"rec-{next(numbers)}"


@pytest.fixture
def records() -> Callable[[int], list[str]]:
    return lambda count: [f"rec-{next(numbers)}" for _ in range(count)]


class TestKilled:
    """By SIGKILL, at each step; then `resend`, and the same command again."""

    @pytest.mark.parametrize(
        ("when", "step", "is_owed"),
        [
            ("before", f"{JOURNAL}.is_reported", False),
            ("before", f"{JOURNAL}.owe", False),
            ("after", f"{JOURNAL}._enter", False),  # and not committed
            ("after", f"{JOURNAL}.owe", True),
            ("before", SEND, True),
            ("after", SEND, True),
            ("before", f"{JOURNAL}.settle", True),
        ],
    )
    def test_notify(self, desk: Desk, record: str, when: str, step: str, is_owed: bool) -> None:
        assert desk.notify(record, **desk.killed(when, step)).code == -signal.SIGKILL
        assert (record in desk.pending()) == is_owed
        assert desk.main("resend").code == 0
        assert desk.sandbox.status(record) == ("SUCCEEDED" if is_owed else "IN_PROGRESS")
        again = desk.notify(record)
        assert again.code == 0
        assert desk.tokens(record) == {again.json["idempotency_token"]}
        assert desk.pending() == {}
        assert desk.leftovers() == []

    @pytest.mark.parametrize(
        ("when", "step"), [("after", f"{JOURNAL}.settle"), ("before", f"{JOURNAL}.close")]
    )
    def test_notify_that_has_struck_its_result_off(
        self, desk: Desk, record: str, when: str, step: str
    ) -> None:
        assert desk.notify(record, **desk.killed(when, step)).code == -signal.SIGKILL
        assert desk.pending() == {}
        assert desk.leftovers() == []

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_notify_that_is_refused(self, desk: Desk, when: str) -> None:
        killed = desk.killed(when, f"{JOURNAL}.refuse")
        assert desk.notify("rec-x", **killed).code == -signal.SIGKILL
        assert desk.main("resend").code == (69 if when == "before" else 0)
        assert desk.pending()["rec-x"].state == "refused"
        assert desk.leftovers() == []

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_notify_that_is_not_delivered(self, desk: Desk, record: str, when: str) -> None:
        killed = desk.killed(when, f"{JOURNAL}.keep")
        assert desk.notify(record, **killed, **NOBODY).code == -signal.SIGKILL
        assert desk.main("resend").code == 0
        assert desk.sandbox.status(record) == "SUCCEEDED"

    @pytest.mark.parametrize(
        ("when", "step", "status"),
        [
            ("before", f"{JOURNAL}.begin", "IN_PROGRESS"),
            ("after", f"{JOURNAL}._enter", "IN_PROGRESS"),
            ("after", f"{JOURNAL}.begin", "FAILED"),
            ("after", "workflow_result.engine.terraform:TerraformRun._step", "FAILED"),
            ("before", f"{JOURNAL}.owe", "FAILED"),
            ("after", f"{JOURNAL}._drop", "FAILED"),  # not committed
            ("after", f"{JOURNAL}._enter:2", "FAILED"),  # nor is this
            ("after", f"{JOURNAL}.owe", "SUCCEEDED"),
            ("before", SEND, "SUCCEEDED"),
            ("after", SEND, "SUCCEEDED"),
            ("after", f"{JOURNAL}.settle", "SUCCEEDED"),
        ],
    )
    def test_run(self, desk: Desk, record: str, when: str, step: str, status: str) -> None:
        assert desk.run(record, **desk.killed(when, step)).code == -signal.SIGKILL
        assert desk.main("resend").code == 0
        assert desk.sandbox.status(record) == status
        assert len(desk.tokens(record)) == (status != "IN_PROGRESS")
        assert desk.pending() == {}
        assert desk.leftovers() == []

    @pytest.mark.parametrize(
        ("when", "step"),
        [
            ("before", f"{JOURNAL}.claim"),
            ("after", f"{JOURNAL}.claim"),
            ("before", SEND),
            ("after", f"{SEND}:3"),
            ("before", f"{JOURNAL}.settle"),
            ("after", f"{JOURNAL}.settle"),
            ("before", f"{JOURNAL}.pending"),
        ],
    )
    def test_resend(
        self, desk: Desk, records: Callable[[int], list[str]], when: str, step: str
    ) -> None:
        owed = records(5)
        desk.owe(*owed)
        assert desk.main("resend", **desk.killed(when, step)).code == -signal.SIGKILL
        assert desk.main("resend").code == 0
        for record in owed:
            assert desk.sandbox.status(record) == "SUCCEEDED"
            assert len(desk.tokens(record)) == 1
        assert desk.leftovers() == []

    def test_repetition_carries_the_very_same_request(self, desk: Desk, record: str) -> None:
        """The sandbox takes an IdempotencyToken again with the very same content only."""
        desk.notify(record, **desk.killed("after", SEND))
        assert desk.main("resend").lines == ["1 reported, 0 refused, 0 still owed"]

    def test_at_any_moment(self, desk: Desk, records: Callable[[int], list[str]]) -> None:
        chance = random.Random(7)  # noqa: S311
        for record in records(6):
            process = desk.start("notify", stdin=a_request(record))
            with suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0.05, 0.3))
            process.kill()
            process.communicate()
            # Owed, reported, or not begun: the same again ends it in any case, once.
            assert desk.main("resend").code == 0
            assert desk.notify(record).code == 0
            assert desk.sandbox.status(record) == "SUCCEEDED"
            assert len(desk.tokens(record)) == 1
        assert desk.leftovers() == []


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

    def test_run_again_after_a_death_reports_its_own_result(self, desk: Desk, record: str) -> None:
        desk.run(record, **desk.killed("after", f"{JOURNAL}.begin"))
        assert desk.run(record).code == 0
        assert desk.sandbox.status(record) == "SUCCEEDED"
        assert desk.pending() == {}

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


def hold_run(desk: Desk, record: str, **settings: Any) -> subprocess.Popen[bytes]:
    """A `run` in the middle of Terraform's apply."""
    (desk.artifact / "hold").touch()
    process = desk.start(*desk.run_options, stdin=a_message(record), **settings)
    read_until(process, "applying")
    return process


class TestResend:
    def test_nothing_owed(self, desk: Desk) -> None:
        Journal(desk.journal).close()
        outcome = desk.main("resend")
        assert (outcome.code, outcome.stdout) == (0, "")
        assert outcome.lines == ["0 reported, 0 refused, 0 still owed"]

    def test_what_could_not_be_delivered_is(self, desk: Desk, record: str) -> None:
        assert desk.notify(record, **NOBODY).code == 75
        assert desk.run(f"{record}0", **NOBODY).code == 75
        outcome = desk.main("resend", AWS_MAX_ATTEMPTS="1")
        assert outcome.code == 0
        assert desk.sandbox.status(record) == "SUCCEEDED"

    def test_what_cannot_be_delivered_stays_and_is_counted(
        self, desk: Desk, records: Callable[[int], list[str]]
    ) -> None:
        owed = records(3)
        desk.owe(*owed)
        outcome = desk.main("resend", **NOBODY)
        assert outcome.code == 75
        assert outcome.lines == [
            "0 reported, 0 refused, 3 still owed: Could not connect to the endpoint URL: "
            '"http://127.0.0.1:1/"; check the network and the endpoint, or give `resend` another '
            "--region; `pending` lists all"
        ]
        assert set(desk.pending()) == set(owed)

    def test_what_was_meant_for_aws_is_not_sent_to_a_sandbox(self, desk: Desk, record: str) -> None:
        desk.owe(record, destination="aws")
        outcome = desk.main("resend")
        assert outcome.code == 0
        assert outcome.lines == ["0 reported, 0 refused, 0 still owed, 1 for AWS left alone"]
        assert desk.sandbox.status(record) == "IN_PROGRESS"
        assert desk.pending()[record].destination == "aws"

    def test_what_a_sandbox_took_does_not_count_as_reported_to_aws(
        self, desk: Desk, record: str
    ) -> None:
        request = check(Draft(a_request(record)), "provision")
        desk.notify(record)
        journal = Journal(desk.journal)
        assert journal.is_reported(request, "sandbox")
        assert not journal.is_reported(request, "aws")
        journal.close()

    def test_two_at_once_do_not_send_the_same_thing_twice(
        self, new_desk: Callable[..., Desk]
    ) -> None:
        owed = [f"rec-{n}" for n in range(20)]
        desk = new_desk("--delay", "0.1", *(f"--record={record}" for record in owed))
        desk.owe(*owed)
        both = [desk.start("resend") for _ in range(2)]
        assert [ended(process).code for process in both].count(0) >= 1
        assert sorted(record for record, _, _ in desk.sandbox.calls()) == sorted(owed)

    def test_what_a_notify_is_about_to_send_is_left_alone(
        self, new_desk: Callable[..., Desk]
    ) -> None:
        desk = new_desk("--misbehave", "silent:1")
        process = desk.start("notify", stdin=a_request("rec-demo"))
        wait_for_call(desk)
        outcome = desk.main("resend")
        assert (outcome.code, outcome.lines) == (75, ["0 reported, 0 refused, 1 still owed"])
        assert len(desk.sandbox.calls()) == 1
        process.kill()
        process.communicate()
        assert desk.main("resend").code == 0

    def test_eight_are_sent_at_the_same_time_each_over_its_own_connection(
        self, desk: Desk, records: Callable[[int], list[str]]
    ) -> None:
        desk.owe(*records(16))
        under_way: list[threading.Thread] = []
        highest = 0
        connections = set()
        all_here = threading.Barrier(8, timeout=5)

        def answer(*_: Any) -> tuple[int, bytes]:
            nonlocal highest
            connection = threading.current_thread()
            connections.add(connection)
            under_way.append(connection)
            highest = max(highest, len(under_way))
            with suppress(threading.BrokenBarrierError):
                all_here.wait()
            under_way.remove(connection)
            return 200, b"{}"

        with endpoint(answer) as url:
            assert desk.main("resend", AWS_ENDPOINT_URL_SERVICE_CATALOG=url).code == 0
        assert (highest, len(connections)) == (8, 8)

    def test_what_a_notify_has_taken_over_is_left_to_it(self, desk: Desk, record: str) -> None:
        desk.owe(record)
        with held_calls(desk) as calls:
            resent = desk.start("resend")
            of_resend = calls.get()
            notified = desk.start("notify", stdin=a_request(record))
            of_notify = calls.get()
            of_resend.put((503, b"{}"))
            assert ended(resent).code == 75
            again = desk.main("resend", **NOBODY)
            of_notify.put((200, b"{}"))
            assert ended(notified).code == 0
        assert again.lines == ["0 reported, 0 refused, 1 still owed"]
        assert desk.pending() == {}

    def test_what_a_notify_has_reported_meanwhile_is_not_refused(
        self, desk: Desk, record: str
    ) -> None:
        desk.owe(record)
        with held_calls(desk) as calls:
            resent = desk.start("resend")
            of_resend = calls.get()
            notified = desk.start("notify", stdin=a_request(record))
            calls.get().put((200, b"{}"))
            assert ended(notified).code == 0
            of_resend.put((400, b'{"__type": "InvalidParametersException"}'))
            assert ended(resent).code == 0
        assert desk.pending() == {}

    @pytest.mark.parametrize(
        "fault",
        [
            "request = 'no JSON'",
            "request = '[]'",
            "request = NULL",
            "request = replace(request, 'SUCCEEDED', 'SUCCEEDEE')",
            "region = 'a/b c'",
        ],
    )
    def test_one_bad_entry_does_not_hold_up_the_rest(
        self, desk: Desk, records: Callable[[int], list[str]], fault: str
    ) -> None:
        bad, *good = records(4)
        desk.owe(bad, *good)
        with sqlite3.connect(desk.journal) as database:
            database.execute(f"UPDATE result SET {fault} WHERE record_id = ?", [bad])  # noqa: S608
        database.close()
        outcome = desk.main("resend")
        assert outcome.code == 75
        assert outcome.stderr.startswith("3 reported, 0 refused, 1 still owed: ")
        assert [desk.sandbox.status(record) for record in good] == ["SUCCEEDED"] * 3
        assert list(desk.pending()) == [bad]

    def test_entry_that_botocore_does_not_take_does_not_hold_up_the_rest(
        self, desk: Desk, records: Callable[[int], list[str]]
    ) -> None:
        bad, good = records(2)
        desk.owe(good)
        journal = Journal(desk.journal)
        members = a_request(bad, IdempotencyToken="once") | {"Status": 1}
        journal.owe(Request("provision", members), "sandbox", None)
        journal.close()
        outcome = desk.main("resend")
        assert outcome.code == 75
        assert "a defect of this program" in str(desk.pending()[bad].last_error)
        assert desk.sandbox.status(good) == "SUCCEEDED"

    def test_each_goes_to_the_region_that_it_is_meant_for(self, desk: Desk, record: str) -> None:
        """Also where only a profile says which. The signature tells the region."""
        folder = desk.home / ".aws"
        folder.mkdir()
        (folder / "config").write_text("[profile engine]\nregion = eu-west-1\n")
        keys = CREDENTIALS | NOBODY | {"AWS_REGION": "", "AWS_PROFILE": "engine"}
        assert desk.notify(record, **keys).code == 75
        desk.owe("rec-south", region="eu-south-1")
        assert desk.pending()[record].region == "eu-west-1"
        signed: list[str] = []

        def answer(headers: Message, _: bytes) -> tuple[int, bytes]:
            signed.append(headers["Authorization"])
            return 200, b"{}"

        with endpoint(answer) as url:
            assert desk.main("resend", AWS_ENDPOINT_URL_SERVICE_CATALOG=url).code == 0
        regions = [re.findall(r"/(eu-[^/]+)/servicecatalog/", signature) for signature in signed]
        assert sorted(regions) == [["eu-south-1"], ["eu-west-1"]]

    def test_progress_is_shown_on_a_terminal(
        self, desk: Desk, records: Callable[[int], list[str]]
    ) -> None:
        desk.owe("rec-x", *records(2))
        shown = on_terminal(desk, "resend")
        assert "3 of 3 tried\r" in shown
        assert "rec-x: refused: ResourceNotFoundException: " in shown
        assert shown.endswith("2 reported, 1 refused, 0 still owed\r\n")

    def test_token_that_service_catalog_quotes_is_hidden(
        self, new_desk: Callable[..., Desk]
    ) -> None:
        desk = new_desk("--misbehave", "quote")
        desk.owe("rec-demo")
        shown = on_terminal(desk, "resend", "--debug")
        assert "not valid" in shown
        assert MARK not in shown
        assert MARK not in desk.main("pending", "--json").stdout
        assert desk.leftovers() == []

    @pytest.mark.parametrize(
        "kind",
        ["throttle", "unavailable", "broken", "drop", "drop-after", "half", "rubbish"],
    )
    def test_endpoint_that_misbehaves_gets_the_result_in_the_end(
        self, new_desk: Callable[..., Desk], kind: str
    ) -> None:
        desk = new_desk("--misbehave", f"{kind}:2")
        desk.environment["AWS_MAX_ATTEMPTS"] = "1"
        assert desk.notify("rec-demo").code == 75
        assert desk.main("resend").code == 75
        assert desk.main("resend").code == 0
        assert desk.sandbox.status() == "SUCCEEDED"
        assert len(desk.tokens("rec-demo")) == 1
        assert desk.leftovers() == []

    def test_interrupted_one_gives_up_what_it_has_not_sent(
        self, new_desk: Callable[..., Desk]
    ) -> None:
        owed = [f"rec-{n}" for n in range(20)]
        desk = new_desk("--delay", "0.2", *(f"--record={record}" for record in owed))
        desk.owe(*owed)
        process = desk.start("resend")
        wait_for_call(desk)
        process.send_signal(signal.SIGINT)
        assert ended(process).code == 130
        assert desk.main("resend").code == 0
        assert sorted(record for record, _, _ in desk.sandbox.calls()) == sorted(owed)


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


def test_journal_option_goes_before_the_environment(desk: Desk, record: str) -> None:
    named = desk.home / "named"
    options = ["--journal", str(named)]
    assert desk.main("notify", *options, stdin=a_request(record), **NOBODY).code == 75
    assert desk.main("pending", *options).stdout.startswith(record)
    assert not desk.journal.exists()


class TestSixteenProcesses:
    def test_each_delivers_its_result_once(self, new_desk: Callable[..., Desk]) -> None:
        records = [f"rec-{n}" for n in range(16)]
        desk = new_desk(*(f"--record={record}" for record in records))
        processes = [desk.start("notify", stdin=a_request(record)) for record in records]
        assert [(o.code, o.stderr) for o in map(ended, processes)] == [(0, "")] * 16
        assert sorted(record for record, _, _ in desk.sandbox.calls()) == sorted(records)
        assert desk.leftovers() == []

    def test_the_same_result_has_one_idempotency_token(self, new_desk: Callable[..., Desk]) -> None:
        desk = new_desk()
        processes = [desk.start("notify", stdin=a_request("rec-demo")) for _ in range(16)]
        outcomes = [ended(process) for process in processes]
        assert {(o.code, o.stdout) for o in outcomes} == {(0, outcomes[0].stdout)}
        late = "rec-demo: reported before, says the journal; not sent again\n"
        assert {o.stderr for o in outcomes} <= {"", late}
        assert desk.tokens("rec-demo") == {outcomes[0].json["idempotency_token"]}

    def test_all_kinds_together(self, new_desk: Callable[..., Desk]) -> None:
        owed = [f"rec-{n}" for n in range(30)]
        desk = new_desk(*(f"--record={record}" for record in owed))
        desk.owe(*owed[:20])
        processes = [desk.start("resend") for _ in range(6)]
        processes += [desk.start("notify", stdin=a_request(r)) for r in owed[20:25]]
        processes += [desk.start(*desk.run_options, stdin=a_message(r)) for r in owed[25:]]
        assert {ended(process).code for process in processes} <= {0, 75}
        assert desk.main("resend").code == 0
        assert sorted(record for record, _, _ in desk.sandbox.calls()) == sorted(owed)
        assert desk.leftovers() == []


class TestRepetition:
    def test_reported_result_is_answered_without_a_call(self, desk: Desk, record: str) -> None:
        first = desk.notify(record)
        second = desk.notify(record, **NOBODY)
        assert (second.code, second.stdout) == (first.code, first.stdout)
        assert second.code == 0

    def test_reported_result_is_answered_without_boto3(self, desk: Desk, record: str) -> None:
        desk.notify(record)
        imported = desk.notify(record, through=["-X", "importtime", MAIN]).stderr
        assert "sqlite3" in imported
        assert not re.search(r"boto3|botocore|urllib3|concurrent", imported)

    def test_empty_resend_does_not_load_boto3(self, desk: Desk) -> None:
        imported = desk.main("resend", through=["-X", "importtime", MAIN]).stderr
        assert not re.search(r"boto3|botocore", imported)


class TestRefused:
    def test_result_is_kept_without_its_token(self, desk: Desk) -> None:
        assert desk.notify("rec-x").code == 69
        assert desk.leftovers() == []
        with sqlite3.connect(desk.journal) as database:
            (content,) = database.execute("SELECT request FROM result").fetchone()
        database.close()
        assert json.loads(content)["Status"] == "SUCCEEDED"
        assert "WorkflowToken" not in json.loads(content)

    def test_resend_leaves_it_alone(self, desk: Desk) -> None:
        desk.notify("rec-x")
        outcome = desk.main("resend", **NOBODY)
        assert (outcome.code, outcome.lines) == (0, ["0 reported, 0 refused, 0 still owed"])
        entry = desk.pending()["rec-x"]
        assert (entry.state, entry.tries) == ("refused", 1)
        assert entry.last_error == "ResourceNotFoundException: Record rec-x not found"

    def test_same_notify_by_hand_tries_again(self, new_desk: Callable[..., Desk]) -> None:
        desk = new_desk("--misbehave", "invalid:1")
        assert desk.notify("rec-demo").code == 69
        assert desk.notify("rec-demo").code == 0
        assert desk.pending() == {}
        assert len(desk.tokens("rec-demo")) == 1

    def test_resend_that_is_refused_says_so_once_and_owes_nothing(self, desk: Desk) -> None:
        desk.owe("rec-x")
        outcome = desk.main("resend")
        assert outcome.code == 69
        assert desk.main("resend").code == 0
        assert outcome.stderr.startswith("0 reported, 1 refused, 0 still owed: ResourceNotFound")
        assert desk.leftovers() == []


class TestPending:
    @pytest.mark.parametrize("command", ["pending", "resend"])
    def test_journal_that_is_not_there_is_told_and_not_made(self, desk: Desk, command: str) -> None:
        outcome = desk.main(command)
        assert (outcome.code, outcome.stdout) == (0, "")
        assert outcome.lines == [f"nothing is owed: there is no journal {desk.journal}"]
        assert desk.main("pending", "--json").stdout == "[]\n"
        assert not desk.folder.exists()

    def test_nothing(self, desk: Desk) -> None:
        Journal(desk.journal).close()
        outcome = desk.main("pending")
        assert (outcome.code, outcome.stdout, outcome.lines) == (0, "", ["nothing is owed"])
        assert json.loads(desk.main("pending", "--json").stdout) == []

    def test_people_see_what_is_owed_since_when_how_often_and_why(
        self, desk: Desk, record: str
    ) -> None:
        for _ in range(2):
            desk.notify(record, **NOBODY)
        outcome = desk.main("pending")
        assert outcome.code == 0
        assert re.fullmatch(
            rf"{record}  provision  sandbox us-east-1  owed  "
            r"since 2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00  "
            r"tried 2 times: Could not connect to the endpoint URL: \"http://127.0.0.1:1/\"; .*\n",
            outcome.stdout,
        )

    def test_programs_see_the_same(self, desk: Desk, record: str) -> None:
        desk.notify(record, **NOBODY)
        (row,) = json.loads(desk.main("pending", "--json").stdout)
        assert row["last_error"].startswith("Could not connect to the endpoint URL: ")
        assert row | {"since": "", "last_error": ""} == {
            "record_id": record,
            "operation": "provision",
            "destination": "sandbox",
            "state": "owed",
            "since": "",
            "tries": 1,
            "last_error": "",
            "region": "us-east-1",
        }

    def test_oldest_comes_first(self, desk: Desk) -> None:
        """Whatever its state, and whenever the journal got it."""
        desk.owe("rec-b", "rec-a", "rec-c", "rec-d")
        with sqlite3.connect(desk.journal) as database:
            database.execute("UPDATE result SET since = 1 WHERE record_id = 'rec-c'")
            database.execute(
                "UPDATE result SET since = 0, state = 'refused' WHERE record_id = 'rec-d'"
            )
        database.close()
        assert list(desk.pending()) == ["rec-d", "rec-c", "rec-b", "rec-a"]

    def test_no_text_from_elsewhere_drives_the_terminal(self, desk: Desk, record: str) -> None:
        error = (
            b'{"__type": "ThrottlingException", "message": "\\u001b[2J\\u001b]0;x\\u0007 \xc3\xa9"}'
        )
        with endpoint(lambda *_: (400, error)) as url:
            desk.notify(record, **NOBODY | {"AWS_ENDPOINT_URL_SERVICE_CATALOG": url})
        shown = desk.main("pending", PYTHONIOENCODING="ascii")
        assert shown.code == 0
        assert shown.stdout.endswith("ThrottlingException:  \\xe9\n")

    @pytest.mark.parametrize("value", ["since = 1e300", "since = 'x'", "last_error = x'00'"])
    def test_values_that_nobody_entered_are_told(self, desk: Desk, value: str) -> None:
        desk.owe("rec-x")
        with sqlite3.connect(desk.journal) as database:
            database.execute(f"UPDATE result SET {value}")  # noqa: S608
        database.close()
        for command in (["pending"], ["pending", "--json"], ["resend"]):
            outcome = desk.main(*command)
            assert (outcome.code, outcome.stdout) == (78, "")
            assert "it is damaged; it is left as it is" in outcome.stderr

    def test_no_token_is_shown(self, desk: Desk, record: str) -> None:
        desk.owe(record)
        assert MARK in desk.leftovers()[0].read_text(errors="ignore")
        for options in ([], ["--json"], ["--debug"]):
            outcome = desk.main("pending", *options)
            assert MARK not in outcome.stdout + outcome.stderr


class TestForgets:
    @pytest.mark.parametrize("token", [TOKEN, MARK * 4900], ids=["short", "long"])
    @pytest.mark.parametrize("size", [10, 1_000_000], ids=["small", "large"])
    def test_nothing_is_left_of_a_token_once_it_is_used(
        self, desk: Desk, record: str, token: str, size: int
    ) -> None:
        outputs = [{"OutputKey": "k", "OutputValue": "x" * size}]
        desk.owe(record, token=token, Outputs=outputs)
        desk.owe("rec-x", token=token, Outputs=outputs)
        assert desk.leftovers() == [desk.journal]
        assert desk.main("resend").code == 69
        assert desk.pending()["rec-x"].state == "refused"
        assert desk.leftovers() == []

    @pytest.mark.parametrize("seed", [118, 123])
    def test_nothing_is_left_where_sqlite_has_moved_rows(self, tmp_path: Path, seed: int) -> None:
        """With requests inside of the pages that SQLite balances, these two left something."""
        chance = random.Random(seed)  # noqa: S311
        journal = Journal(tmp_path / "journal")
        journal._database.execute("PRAGMA synchronous = OFF")
        owed: list[str] = []

        def settle_one() -> None:
            journal.settle([owed.pop(chance.randrange(len(owed)))])

        for n in range(600):
            if chance.random() < 0.52 or not owed:
                size = chance.choice([10, 100, 300, 500, 700, 900, 1200, 1500])
                token = MARK * chance.choice([9, 9, 9, 100])
                members = {
                    "WorkflowToken": token,
                    "RecordId": f"rec-{n}",
                    "Status": "FAILED",
                    "IdempotencyToken": f"t{n}",
                    "FailureReason": "x" * size,
                }
                digest = journal.owe(Request("provision", members), "sandbox", None)
                assert digest
                owed.append(digest)
            else:
                digest = owed.pop(chance.randrange(len(owed)))
                if chance.random() < 0.3:
                    journal.refuse(digest, "no" * chance.randrange(100))
                else:
                    journal.settle([digest])
        while owed:
            settle_one()
        journal.close()
        assert MARK.encode() not in (tmp_path / "journal").read_bytes()

    def test_no_page_is_kept_free(self, desk: Desk, record: str) -> None:
        """A free page that is used again is not restored when its transaction is rolled back."""
        desk.owe(record, Outputs=[{"OutputKey": "k", "OutputValue": "x" * 100_000}])
        assert desk.journal.stat().st_size > 100_000
        assert desk.main("resend").code == 0
        assert desk.journal.stat().st_size < 50_000
        with sqlite3.connect(desk.journal) as database:
            assert database.execute("PRAGMA freelist_count").fetchone() == (0,)
        database.close()

    def test_nothing_is_left_of_a_request_whose_transaction_was_killed_at_its_end(
        self, desk: Desk, records: Callable[[int], list[str]]
    ) -> None:
        """SQLite has written it to the file then, and takes it back. Needs strace."""
        first, second = records(2)
        large: dict[str, Any] = {
            "FailureReason": "x" * 2000,
            "Outputs": [{"OutputValue": "y" * 50_000}],
        }
        assert desk.main("notify", stdin=a_request(first, **large)).code == 0
        killed = desk.main(
            "notify",
            stdin=a_request(second, **large),
            through=through_strace("-e", "trace=unlink", "-e", "inject=unlink:signal=KILL:when=1"),
        )
        assert killed.code == -signal.SIGKILL
        assert desk.leftovers() != []
        assert desk.main("resend").code == 0
        assert desk.leftovers() == []
        assert desk.sandbox.status(second) == "IN_PROGRESS"

    def test_nothing_is_left_where_the_file_was_not_cut_off_any_more(
        self, desk: Desk, record: str
    ) -> None:
        """By a process that was killed after its commit; the next one does it. Needs strace."""
        cut = through_strace("-e", "trace=ftruncate", "-e", "inject=ftruncate:signal=KILL:when=1")
        assert desk.notify(record, through=cut).code == -signal.SIGKILL
        assert desk.leftovers() == [desk.journal]
        assert desk.main("resend").lines == ["0 reported, 0 refused, 0 still owed"]
        assert desk.leftovers() == []


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


def take_no_mode_away() -> None:
    os.umask(0)


class TestOnlyItsOwnerCanReadIt:
    @pytest.mark.parametrize(
        "step", ["sqlite3:connect", f"{JOURNAL}._enter", "workflow_result.delivery:Delivery.send"]
    )
    def test_at_every_moment_whatever_the_umask(self, desk: Desk, record: str, step: str) -> None:
        """Seen at a death: the file is empty, SQLite's side file is there, the result is kept."""
        desk.journal = desk.folder / "new" / "journal.sqlite3"
        when = "before" if step == "sqlite3:connect" else "after"
        settings = desk.killed(when, step)
        assert desk.notify(record, before=take_no_mode_away, **settings).code < 0
        found = [desk.folder, *desk.folder.rglob("*")]
        assert any(file.name.endswith("-journal") for file in found) == ("_enter" in step)
        modes = {file.name: oct(file.stat().st_mode & 0o777) for file in found}
        assert modes == {f.name: "0o700" if f.is_dir() else "0o600" for f in found}

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
    def test_journal_that_others_can_read_is_refused_and_nothing_is_sent(
        self, desk: Desk, record: str, mode: int
    ) -> None:
        desk.owe("rec-x")
        desk.journal.chmod(mode)
        outcome = desk.notify(record)
        assert (outcome.code, outcome.stdout) == (78, "")
        assert outcome.lines == [
            f"the journal {desk.journal} is open to others, and it holds WorkflowTokens: "
            f"chmod 600 {desk.journal}"
        ]
        assert desk.tokens(record) == set()

    def test_journal_of_another_user_is_refused_and_nothing_is_sent(
        self, desk: Desk, record: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In this process: to have another user's file, one has to be root."""
        desk.owe(record)
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        with pytest.raises(JournalProblem, match="belongs to another user") as problem:
            Journal(desk.journal)
        assert problem.value.exposed

    @pytest.mark.parametrize("command", ["resend", "pending", "run"])
    def test_by_every_command(self, desk: Desk, record: str, command: str) -> None:
        desk.owe(record)
        desk.journal.chmod(0o644)
        options = desk.run_options if command == "run" else [command]
        (desk.home / "terraform").write_text("#!/bin/sh\ntouch it-ran\n")
        outcome = desk.main(*options, stdin=a_message(record))
        assert outcome.code == 78
        assert "chmod 600" in outcome.stderr
        assert not (desk.artifact / "it-ran").exists()
        assert desk.tokens(record) == set()

    def test_the_command_that_is_named_mends_it(self, desk: Desk, record: str) -> None:
        desk.journal = desk.folder / "it's a journal"
        desk.owe(record)
        desk.journal.chmod(0o644)
        command = desk.main("resend").stderr.partition("WorkflowTokens: ")[2]
        subprocess.run(command, shell=True, check=True)  # noqa: S602
        assert desk.main("resend").code == 0


class TestVersions:
    STEP = ("ALTER TABLE result ADD COLUMN note TEXT",)

    def test_older_journal_is_brought_up_to_date(
        self, desk: Desk, record: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        desk.owe(record)
        monkeypatch.setattr(journals, "STEPS", journals.STEPS + self.STEP)
        journal = Journal(desk.journal)
        assert [entry.record_id for entry in journal.pending()] == [record]
        columns = journal._database.execute("SELECT note FROM result").fetchall()
        assert columns == [(None,)]
        journal.close()

    def test_results_of_the_first_version_are_known(
        self, desk: Desk, record: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It did not keep what was reported, only that it was."""
        with monkeypatch.context() as context:
            context.setattr(journals, "STEPS", journals.STEPS[:1])
            Journal(desk.journal).close()
        request = check(Draft(a_request("rec-x")), "terminate")
        insert = (
            "INSERT INTO result (digest, destination, state, operation, record_id, request, since)"
            " VALUES (?, 'sandbox', ?, 'terminate', ?, ?, 1)"
        )
        with sqlite3.connect(desk.journal) as database:
            database.execute(insert, ["sandbox-1", "reported", record, None])
            database.execute(insert, ["sandbox-2", "refused", "rec-x", json.dumps(request.members)])
        database.close()
        outcome = desk.run(record)
        assert outcome.code == 0
        assert json.loads(outcome.stdout)["status"] == ""
        entry = desk.pending()["rec-x"]
        assert entry.status == "SUCCEEDED"
        assert entry.idempotency_token == request.members["IdempotencyToken"]

    def test_newer_journal_is_refused_and_left_as_it_is(
        self, desk: Desk, record: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(journals, "STEPS", journals.STEPS + self.STEP)
        desk.owe(record)
        before = desk.journal.read_bytes()
        for command in ("resend", "pending"):
            outcome = desk.main(command)
            assert outcome.code == 78
            assert outcome.lines == [
                f"the journal {desk.journal} is of a newer version of this program: use that one, "
                "or another journal with --journal"
            ]
        assert desk.journal.read_bytes() == before

    def test_notify_with_a_newer_journal_warns_and_sends(
        self, desk: Desk, record: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(journals, "STEPS", journals.STEPS + self.STEP)
        desk.owe("rec-x")
        outcome = desk.notify(record)
        assert outcome.code == 0
        assert len(outcome.lines) == 1
        assert "is of a newer version of this program" in outcome.stderr
        assert desk.sandbox.status(record) == "SUCCEEDED"


# Each makes the journal one that cannot be used, whoever asks: the tests may run as root.
def folder_is_a_file(desk: Desk) -> None:
    desk.folder.write_text("")


def folder_takes_no_side_files(desk: Desk) -> None:
    """As where the folder is read-only and the file is not: a longer name is not allowed."""
    desk.folder.mkdir()
    desk.journal = desk.folder / ("j" * 255)
    desk.journal.touch(mode=0o600)


def is_a_folder(desk: Desk) -> None:
    desk.journal.mkdir(parents=True)


def is_a_device(desk: Desk) -> None:
    desk.journal = Path("/dev/null")


def is_no_database(desk: Desk) -> None:
    desk.folder.mkdir()
    desk.journal.write_text("This is no database. " * 1000)
    desk.journal.chmod(0o600)


def is_damaged(desk: Desk) -> None:
    desk.owe("rec-x")
    with desk.journal.open("r+b") as file:
        file.seek(2 * 4096)
        file.write(b"\xff" * 8 * 4096)


def is_another_programs(desk: Desk) -> None:
    desk.folder.mkdir()
    with sqlite3.connect(desk.journal) as database:
        database.execute("CREATE TABLE result (digest, state)")
    database.close()
    desk.journal.chmod(0o600)


def has_no_home(desk: Desk) -> None:
    desk.journal = Path("~/journal.sqlite3")


def has_another_name(desk: Desk) -> None:
    desk.owe("rec-x")
    (desk.home / "link").hardlink_to(desk.journal)


def has_text_that_is_none(desk: Desk) -> None:
    """SQLite quotes it in its message, which is no text then, either."""
    desk.owe("rec-x")
    content = desk.journal.read_bytes()
    desk.journal.write_bytes(content.replace(b"CREATE INDEX pending", b"CREATE I\xf8DEX pending"))


UNUSABLE: dict[Callable[[Desk], None], str] = {
    folder_is_a_file: "Not a directory",
    folder_takes_no_side_files: "",
    is_a_folder: "Is a directory",
    is_a_device: "it is not a file",
    is_no_database: "file is not a database; it is left as it is: move it away to begin a new one",
    is_damaged: "it is left as it is: move it away to begin a new one",
    is_another_programs: "it is another program's database",
    has_another_name: "it has another name, a hard link",
    has_text_that_is_none: "it is left as it is: move it away to begin a new one",
    has_no_home: "set HOME, or name a file with --journal",
}


@pytest.mark.parametrize("fault", UNUSABLE, ids=lambda fault: fault.__name__)
class TestUnusable:
    def test_notify_warns_in_one_line_and_sends(
        self, desk: Desk, record: str, fault: Callable[[Desk], None]
    ) -> None:
        fault(desk)
        outcome = desk.notify(record)
        assert outcome.code == 0
        assert len(outcome.lines) == 1
        assert outcome.stderr.startswith("warning: the journal ")
        assert outcome.stderr.endswith("; going on without it\n")
        assert UNUSABLE[fault] in outcome.stderr
        assert desk.sandbox.status(record) == "SUCCEEDED"

    def test_resend_and_pending_say_why_and_leave_it_as_it_is(
        self, desk: Desk, fault: Callable[[Desk], None]
    ) -> None:
        fault(desk)
        before = desk.journal.read_bytes() if desk.journal.is_file() else b""
        for command in ("resend", "pending"):
            outcome = desk.main(command)
            assert (outcome.code, outcome.stdout) == (78, "")
            assert len(outcome.lines) == 1
            assert UNUSABLE[fault] in outcome.stderr
        assert before == (desk.journal.read_bytes() if desk.journal.is_file() else b"")


class TestUnusableInTheMiddle:
    def test_run_warns_and_reports_all_the_same(self, desk: Desk, record: str) -> None:
        is_no_database(desk)
        outcome = desk.run(record)
        assert outcome.code == 0
        assert outcome.stderr.count("warning: ") == 1
        assert desk.sandbox.status(record) == "SUCCEEDED"

    def test_run_in_a_folder_that_takes_no_files_warns_and_reports(
        self, desk: Desk, record: str
    ) -> None:
        desk.journal = Path("/proc/workflow-result")
        outcome = desk.run(record)
        assert outcome.code == 0
        assert outcome.stderr.count("warning: ") == 1
        assert desk.sandbox.status(record) == "SUCCEEDED"

    def test_disk_that_fills_up_during_a_run(self, desk: Desk, record: str) -> None:
        """There is no room for the result, nor to strike the run off in the usual way."""
        full = (
            "import os, resource, sys\n"
            f'size = os.path.getsize("{desk.journal}")\n'
            "resource.prlimit(int(sys.argv[1]), resource.RLIMIT_FSIZE, (size, size))\n"
        )
        terraform = desk.home / "terraform"
        terraform.write_text(TERRAFORM + f"[ $1 != apply ] || {sys.executable} -c '{full}' $PPID\n")
        outcome = desk.run(record)
        assert outcome.code == 0
        assert outcome.stderr.count("warning: ") == 1
        assert desk.sandbox.status(record) == "SUCCEEDED"
        assert desk.pending() == {}
        assert desk.leftovers() == []

    def test_what_is_refused_and_not_saved_is_told(self, desk: Desk) -> None:
        is_no_database(desk)
        outcome = desk.notify("rec-x")
        assert outcome.code == 69
        assert outcome.stderr.endswith("reported before. It is not saved\n")

    def test_what_is_neither_sent_nor_saved_is_told(self, desk: Desk, record: str) -> None:
        is_no_database(desk)
        outcome = desk.notify(record, **NOBODY)
        assert outcome.code == 75
        assert "It is not saved: `notify` the same again" in outcome.stderr

    @pytest.mark.parametrize("size", [0, 4096, 8192, 20480])
    def test_full_disk(self, desk: Desk, record: str, size: int) -> None:
        """It takes so many bytes a file, and no more. Afterwards there is room again."""
        outcome = desk.notify(record, before=lambda: limit_file_size(size))
        assert outcome.code == 0
        assert len(outcome.lines) == 1
        assert outcome.stderr.endswith("; going on without it\n")
        assert desk.sandbox.status(record) == "SUCCEEDED"
        assert desk.main("resend").code == 0
        assert len(desk.tokens(record)) == 1
        assert desk.leftovers() == []

    def test_resend_on_a_full_disk_says_so_and_loses_nothing(self, desk: Desk, record: str) -> None:
        desk.owe(record)
        outcome = desk.main("resend", before=lambda: limit_file_size(0))
        assert outcome.code == 78
        assert len(outcome.lines) == 1
        assert desk.main("resend").code == 0
        assert desk.sandbox.status(record) == "SUCCEEDED"

    def test_lock_that_another_process_does_not_give_back(self, desk: Desk, record: str) -> None:
        desk.owe("rec-x")
        script = (
            f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
            "from workflow_result import journal, main; journal.BUSY_SECONDS = 0.2; main()"
        )
        holder = sqlite3.connect(desk.journal, isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        outcome = desk.notify(record, through=["-c", script])
        resent = desk.main("resend", through=["-c", script])
        holder.close()
        assert outcome.code == 0
        assert outcome.lines == [
            f"warning: the journal {desk.journal} cannot be used: database is locked; "
            "going on without it"
        ]
        assert desk.sandbox.status(record) == "SUCCEEDED"
        assert resent.code == 78

    def test_journal_that_has_failed_is_not_waited_for(self, desk: Desk, record: str) -> None:
        """Here it has lost its table, and is locked then: that may last half a minute."""
        desk.owe("rec-x")
        database = sqlite3.connect(desk.journal, isolation_level=None)
        database.execute("ALTER TABLE result RENAME TO lost")
        process = hold_run(desk, record)
        database.execute("BEGIN IMMEDIATE")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=15)
        database.close()
        assert desk.sandbox.status(record) == "FAILED"

    def test_run_that_the_journal_fails_in_the_middle_is_not_owed_twice(
        self, desk: Desk, record: str
    ) -> None:
        """It cannot enter the result, but can strike the run off once that is sent."""
        script = (
            f"import sqlite3, sys; sys.path.insert(0, {str(ROOT)!r})\n"
            "from workflow_result import journal, main\n"
            "def owe(self, *_):\n"
            "    with self._problems_named():\n"
            "        raise sqlite3.OperationalError('database or disk is full')\n"
            "journal.Journal.owe = owe\n"
            "main()\n"
        )
        outcome = desk.run(record, through=["-c", script])
        assert outcome.code == 0
        assert outcome.stderr.count("warning: ") == 1
        assert desk.sandbox.status(record) == "SUCCEEDED"
        assert desk.pending() == {}
        assert desk.leftovers() == []


class TestBeforeTheCall:
    """What a power loss would leave can only be shown by halves.

    That the result is committed when the call arrives is seen from outside. That the bytes were
    synced before is seen in the system calls; what the disk does with them is not.
    """

    def test_result_is_committed_when_the_call_arrives(self, desk: Desk, record: str) -> None:
        seen: list[Any] = []

        def look(*_: Any) -> tuple[int, bytes]:
            database = sqlite3.connect(desk.journal)
            seen.append(database.execute("SELECT state, request FROM result").fetchone())
            database.close()
            seen.append(sorted(file.name for file in desk.folder.iterdir()))
            return 200, b"{}"

        with endpoint(look) as url:
            assert desk.notify(record, AWS_ENDPOINT_URL_SERVICE_CATALOG=url).code == 0
        (state, content), files = seen
        assert state == "owed"
        assert json.loads(content)["WorkflowToken"] == TOKEN
        assert files == ["journal.sqlite3", "journal.sqlite3.lock"]  # no rollback journal

    def test_every_byte_is_synced_when_the_call_is_made(self, desk: Desk, record: str) -> None:
        """Files and folders: nothing changed after its last sync. Needs strace."""
        trace = desk.home / "trace"
        calls = "openat,mkdir,write,pwrite64,ftruncate,fsync,fdatasync,unlink,unlinkat,connect"
        through = through_strace("-y", "-s", "0", "-o", str(trace), "-e", f"trace={calls}")
        assert desk.notify(record, through=through).code == 0
        lines = trace.read_text().splitlines()
        connected = next(n for n, line in enumerate(lines) if "AF_INET" in line)
        assert unsynced(lines[:connected], desk.folder) == set()
        written = [line for line in lines[:connected] if "pwrite64(" in line]
        assert written
        everything = [line for line in lines[:connected] if "sync(" not in line]
        assert unsynced(everything, desk.folder) != set()  # it would be noticed


def unsynced(lines: list[str], folder: Path) -> set[str]:
    """Files and folders that the lines of a trace change, and do not sync afterwards."""
    dirty: set[str] = set()
    for line in lines:
        if " = -1 " in line:
            continue
        names = re.findall(r'[<"]([^">]+)[">]', line)
        named = [name for name in names if name.startswith(str(folder))]
        if "sync(" in line:
            dirty -= set(names)
        elif not named or named[0].endswith(".lock"):
            continue
        elif re.search(r"mkdir\(|unlink|O_CREAT", line):
            dirty.add(str(Path(named[0]).parent))
        elif re.search(r"write|truncate", line):
            dirty.add(named[0])
        if re.search(r"unlink", line):
            dirty.discard(named[0])
    return dirty
