"""`resend`: what is owed is sent, once, wherever it is meant for."""

import re
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from email.message import Message
from typing import Any

import pytest
from conftest import CREDENTIALS, MAIN, endpoint
from journal_cli import (
    MARK,
    NOBODY,
    Desk,
    a_request,
    ended,
    held_calls,
    on_terminal,
    wait_for_call,
)

from workflow_result.journal.place import open_journal
from workflow_result.request import Draft, Request, check


class TestResend:
    def test_nothing_owed(self, desk: Desk) -> None:
        open_journal(desk.journal).close()
        outcome = desk.main("resend")
        assert (outcome.code, outcome.stdout) == (0, "")
        assert outcome.lines == ["0 reported, 0 refused, 0 still owed"]

    def test_what_could_not_be_delivered_is(
        self, desk: Desk, records: Callable[[int], list[str]]
    ) -> None:
        notified, run = records(2)
        assert desk.notify(notified, **NOBODY).code == 75
        assert desk.run(run, **NOBODY).code == 75
        assert desk.main("resend", AWS_MAX_ATTEMPTS="1").code == 0
        assert [desk.sandbox.status(record) for record in (notified, run)] == ["SUCCEEDED"] * 2

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
        journal = open_journal(desk.journal)
        assert journal.owe(request, "sandbox", None).state == "reported"
        assert journal.owe(request, "aws", None).state == "owed"
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
        journal = open_journal(desk.journal)
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


def test_journal_option_goes_before_the_environment(desk: Desk, record: str) -> None:
    named = desk.home / "named"
    options = ["--journal", str(named)]
    assert desk.main("notify", *options, stdin=a_request(record), **NOBODY).code == 75
    assert desk.main("pending", *options).stdout.startswith(record)
    assert not desk.journal.exists()


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
