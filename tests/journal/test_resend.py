"""`resend`: what is owed is sent, once, wherever it is meant for."""

import json
import re
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from email.message import Message
from typing import Any

import pytest
from botocore.retries.standard import ThrottledRetryableChecker
from conftest import CREDENTIALS, MAIN, Outcome, endpoint
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

from workflow_result.delivery import Delivery
from workflow_result.journal import Journal
from workflow_result.journal.database import _transaction
from workflow_result.journal.place import open_journal
from workflow_result.journal.sqlite import SQLiteStore
from workflow_result.pace import AT_MOST, ROUNDS, START
from workflow_result.request import Draft, Request, check
from workflow_result.resending import TRIES, resend
from workflow_result.undelivered import THROTTLES


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
        "kind", ["unavailable", "broken", "drop", "drop-after", "half", "rubbish"]
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

    @pytest.mark.parametrize("kind", ["throttle", "unavailable", "broken", "drop", "drop-after"])
    def test_passing_fault_is_tried_again_at_once(
        self, new_desk: Callable[..., Desk], kind: str
    ) -> None:
        desk = new_desk("--misbehave", f"{kind}:2")
        desk.owe("rec-demo")
        assert desk.main("resend").code == 0
        assert len(desk.sandbox.calls()) == 3
        assert len(desk.tokens("rec-demo")) == 1
        assert desk.leftovers() == []

    @pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
    def test_interrupted_one_gives_up_what_it_has_not_sent(
        self, new_desk: Callable[..., Desk], kind: signal.Signals
    ) -> None:
        owed = [f"rec-{n}" for n in range(20)]
        desk = new_desk("--delay", "0.2", *(f"--record={record}" for record in owed))
        desk.owe(*owed)
        process = desk.start("resend")
        wait_for_call(desk)
        process.send_signal(kind)
        assert ended(process).code == 130
        assert desk.main("resend").code == 0
        assert sorted(record for record, _, _ in desk.sandbox.calls()) == sorted(owed)


def test_interrupt_right_after_a_transaction_has_begun_leaves_none_open() -> None:
    """Or what is on its way could not be entered when it comes back."""

    class Interrupted(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            cursor = super().execute(sql, *values)
            if sql.startswith("BEGIN"):
                raise KeyboardInterrupt
            return cursor

    with closing(sqlite3.connect(":memory:", factory=Interrupted)) as connection:
        with pytest.raises(KeyboardInterrupt), _transaction(connection):
            pass
        assert not connection.in_transaction


def test_journal_option_goes_before_the_environment(desk: Desk, record: str) -> None:
    named = desk.home / "named"
    options = ["--journal", str(named)]
    assert desk.main("notify", *options, stdin=a_request(record), **NOBODY).code == 75
    assert desk.main("pending", *options).stdout.startswith(record)
    assert not desk.journal.exists()


class Service:
    """A Service Catalog that throttles the `first` calls, and while more than `takes` go on.

    It remembers each call: its record, the IdempotencyToken, and which attempt of the SDK it was.
    """

    def __init__(self, takes: int, first: int = 0) -> None:
        self.takes = takes
        self.first = first
        self.calls: list[tuple[str, str, str]] = []
        self.taken: list[str] = []
        self.connections: set[threading.Thread] = set()
        self.highest = 0
        self._under_way = 0
        self._lock = threading.Lock()

    def answer(self, headers: Message, body: bytes) -> tuple[int, bytes]:
        members = json.loads(body)
        with self._lock:
            self._under_way += 1
            self.highest = max(self.highest, self._under_way)
            throttled = self.throttles(members["RecordId"])
            attempt = headers["amz-sdk-request"].partition(";")[0]
            self.calls.append((members["RecordId"], members["IdempotencyToken"], attempt))
            self.connections.add(threading.current_thread())
        self.wait()
        with self._lock:
            self._under_way -= 1
            if throttled:
                return 400, b'{"__type": "ThrottlingException", "message": "Rate exceeded"}'
            self.taken.append(members["RecordId"])
        return 200, b"{}"

    def throttles(self, record: str) -> bool:
        return self._under_way > self.takes or len(self.calls) < self.first

    def wait(self) -> None:
        time.sleep(0.02)

    def resend(self, desk: Desk) -> Outcome:
        with endpoint(self.answer) as url:
            return desk.main("resend", AWS_ENDPOINT_URL_SERVICE_CATALOG=url)


class TestPace:
    def test_as_many_as_the_endpoint_takes_each_over_its_own_connection_and_64_at_most(
        self, desk: Desk
    ) -> None:
        class Generous(Service):
            all_here = threading.Barrier(AT_MOST, timeout=5)

            def wait(self) -> None:
                if len(self.calls) > AT_MOST:
                    with suppress(threading.BrokenBarrierError):
                        self.all_here.wait()

        owed = [f"rec-{n}" for n in range(2 * AT_MOST)]
        desk.owe(*owed)
        service = Generous(takes=1000)
        assert service.resend(desk).code == 0
        assert (service.highest, len(service.connections)) == (AT_MOST, AT_MOST)
        assert sorted(service.taken) == sorted(owed)

    @pytest.mark.parametrize("takes", [1, 5, 20])
    def test_what_is_throttled_is_sent_again_until_all_is_reported(
        self, desk: Desk, takes: int
    ) -> None:
        owed = [f"rec-{n}" for n in range(60)]
        desk.owe(*owed)
        service = Service(takes, first=3)
        outcome = service.resend(desk)
        assert (outcome.code, outcome.lines) == (0, ["60 reported, 0 refused, 0 still owed"])
        assert sorted(service.taken) == sorted(owed)
        assert len(service.calls) >= len(owed) + 3
        tokens = {(record, token) for record, token, _ in service.calls}
        assert len(tokens) == len({token for _, token in tokens}) == len(owed)
        assert desk.pending() == {}

    def test_throttled_call_is_not_repeated_by_the_sdk(self, desk: Desk) -> None:
        """It would not slow down the others."""
        desk.owe(*(f"rec-{n}" for n in range(30)))
        service = Service(2, first=3)
        assert service.resend(desk).code == 0
        assert {attempt for _, _, attempt in service.calls} == {"attempt=1"}

    @pytest.mark.parametrize(
        "answer",
        [
            (400, b'{"__type": "ThrottlingException", "message": "Rate exceeded"}'),
            (400, b'{"__type": "com.amazonaws#TooManyRequestsException"}'),
            (429, b""),
        ],
    )
    def test_what_is_throttled_is_sent_again_whatever_the_sdk_may_repeat(
        self, desk: Desk, record: str, answer: tuple[int, bytes]
    ) -> None:
        desk.owe(record)
        answers = iter([answer, answer, (200, b"{}")])
        with endpoint(lambda *_: next(answers)) as url:
            settings = {"AWS_ENDPOINT_URL_SERVICE_CATALOG": url, "AWS_MAX_ATTEMPTS": "1"}
            assert desk.main("resend", **settings).code == 0
        assert desk.pending() == {}

    def test_endpoint_that_takes_nothing_leaves_all_owed_after_a_few_calls(
        self, desk: Desk
    ) -> None:
        owed = {f"rec-{n}" for n in range(50)}
        desk.owe(*owed)
        service = Service(takes=0)
        outcome = service.resend(desk)
        assert outcome.code == 75
        assert outcome.lines == [
            "0 reported, 0 refused, 50 still owed: ThrottlingException: Rate exceeded; "
            "`pending` lists all"
        ]
        # Half as many each time, then one by one.
        assert len(service.calls) <= START * 2 + ROUNDS
        assert {record: entry.state for record, entry in desk.pending().items()} == dict.fromkeys(
            owed, "owed"
        )

    def test_result_that_alone_is_throttled_does_not_hold_up_the_rest(self, desk: Desk) -> None:
        class Partial(Service):
            def throttles(self, record: str) -> bool:
                return record == "rec-bad"

        desk.owe("rec-bad", *(f"rec-{n}" for n in range(40)))
        service = Partial(takes=1000)
        outcome = service.resend(desk)
        assert outcome.code == 75
        assert outcome.lines == [
            "40 reported, 0 refused, 1 still owed: ThrottlingException: Rate exceeded; "
            "`pending` lists all"
        ]
        assert len(service.calls) - 40 <= TRIES
        assert list(desk.pending()) == ["rec-bad"]

    def test_interrupt_while_it_is_throttled_leaves_all_owed(self, desk: Desk) -> None:
        desk.owe(*(f"rec-{n}" for n in range(20)))
        service = Service(takes=0)
        with endpoint(service.answer) as url:
            process = desk.start("resend", AWS_ENDPOINT_URL_SERVICE_CATALOG=url)
            while len(service.calls) <= START:
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            assert ended(process).code == 130
        service.takes = 1000
        assert service.resend(desk).code == 0
        assert sorted(service.taken) == sorted(f"rec-{n}" for n in range(20))

    def test_nothing_is_claimed_before_there_is_room_for_it(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        desk.owe(*(f"rec-{n}" for n in range(2 * AT_MOST)))
        ahead: list[int] = []

        class Watched(Journal):
            def claim(self, destination: str) -> Any:
                for number, each in enumerate(super().claim(destination), 1):
                    ahead.append(number - len(service.taken))
                    yield each

        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        service, journal = Service(1000), Watched(SQLiteStore(desk.journal))
        with endpoint(service.answer) as url, closing(journal):
            delivery = Delivery(None, None, url, AT_MOST)
            assert resend(journal, delivery, None, progress=False) == 0
        assert len(ahead) == 2 * AT_MOST
        assert ahead[:START] == list(range(1, START + 1))
        assert max(ahead) <= AT_MOST


def test_what_counts_as_throttled_is_what_botocore_says() -> None:
    codes = vars(ThrottledRetryableChecker)["_THROTTLED_ERROR_CODES"]
    assert sorted(THROTTLES) == sorted(codes)


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
