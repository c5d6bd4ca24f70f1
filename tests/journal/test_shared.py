"""A journal that machines share: the same promises, over DynamoDB."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from email.message import Message
from typing import Any

import pytest
from conftest import MAIN, Sandbox, endpoint
from gate import KINDS, PASS, Gate, gate
from journal_cli import MARK, NOBODY, SEND, TERRAFORM, Desk, a_message, a_request, ended, hold_run
from tables import PROJECTED

from workflow_result.account import Account
from workflow_result.engine.terraform import HOST_DIED
from workflow_result.journal.table import Table

UPDATE, QUERY, GET = "UpdateItem", "Query", "GetItem"


@pytest.fixture
def gated(shared_desk: Desk) -> Iterator[tuple[Desk, Gate]]:
    """A desk, and the gate between it and its table."""
    assert shared_desk.shared
    with gate(shared_desk.shared.server.url) as opened:
        shared_desk.environment |= opened.environment
        yield shared_desk, opened


def state_of(desk: Desk, record: str) -> dict[str, Any]:
    assert desk.shared
    return next(i for i in desk.shared.items() if i["record"] == f"sandbox#{record}")


class TestManyAtOnce:
    def test_of_24_processes_and_one_message_one_runs_it(
        self, shared_desk: Desk, record: str
    ) -> None:
        desk = shared_desk
        (desk.home / "terraform").write_text(
            TERRAFORM + f"[ $1 != apply ] || {{ echo ran >>{desk.home}/ran; sleep 2; }}\n"
        )
        processes = [desk.start(*desk.run_options, stdin=a_message(record)) for _ in range(24)]
        outcomes = [ended(process) for process in processes]
        assert (desk.home / "ran").read_text() == "ran\n"
        assert {outcome.code for outcome in outcomes} <= {0, 75}
        late = {line for o in outcomes if o.code == 75 for line in o.lines}
        assert late <= {
            f"{record}: another process runs Terraform for it; nothing was run",
            f"{record}: its result is owed, `resend` sends it; nothing was run",
        }
        assert len(desk.tokens(record)) == 1
        assert desk.sandbox.status(record) == "SUCCEEDED"

    def test_two_that_resend_do_not_send_the_same_twice(
        self, shared_desk: Desk, records: Callable[[int], list[str]]
    ) -> None:
        desk, owed = shared_desk, records(20)
        desk.owe(*owed)
        assert {ended(p).code for p in [desk.start("resend") for _ in range(2)]} <= {0, 75}
        sent = [record for record, _, _ in desk.sandbox.calls() if record in owed]
        assert sorted(sent) == sorted(owed)


class TestCalls:
    """To the table; no scan among them."""

    def test_run_makes_four(self, gated: tuple[Desk, Gate], record: str) -> None:
        desk, opened = gated
        assert desk.run(record).code == 0
        assert opened.calls == [UPDATE] * 4

    def test_notify_makes_two(self, gated: tuple[Desk, Gate], record: str) -> None:
        desk, opened = gated
        assert desk.notify(record).code == 0
        assert opened.calls == [UPDATE] * 2

    def test_repetition_makes_one(self, gated: tuple[Desk, Gate], record: str) -> None:
        desk, opened = gated
        first = desk.notify(record)
        opened.calls.clear()
        again = desk.notify(record, **NOBODY)
        assert (again.code, again.stdout) == (0, first.stdout)
        assert opened.calls == [UPDATE]
        assert again.lines == [f"{record}: reported before, says the journal; not sent again"]

    def test_resend_and_pending_read_what_is_owed_however_much_is_reported(
        self, gated: tuple[Desk, Gate], records: Callable[[int], list[str]]
    ) -> None:
        desk, opened = gated
        with desk.opened() as journal:
            from workflow_result.request import Draft, check

            done = [check(Draft(a_request(f"rec-d{n}")), "provision") for n in range(300)]
            journal.settle([journal.owe(request, "sandbox", None) for request in done])
        (owed,) = records(1)
        desk.owe(owed)
        assert desk.main("pending").stdout.startswith(owed)
        assert opened.calls == [QUERY] * 2
        opened.calls.clear()
        assert desk.main("resend").code == 0
        assert sorted(opened.calls) == [QUERY] * 3 + [UPDATE] * 2


class TestNobodyElseSees:
    def test_no_key_and_no_index_has_a_token_or_another_secret(
        self, shared_desk: Desk, record: str
    ) -> None:
        outputs = [{"OutputKey": "password", "OutputValue": "hunter-2-hunter"}]
        shared_desk.owe(record, Outputs=outputs)
        item = state_of(shared_desk, record)
        assert "body" not in PROJECTED
        shown = str({name: value for name, value in item.items() if name != "body"})
        assert MARK not in shown
        assert "hunter" not in shown
        assert "body" in item

    def test_nothing_of_the_request_is_left_once_it_is_reported(
        self, shared_desk: Desk, record: str
    ) -> None:
        assert shared_desk.notify(record, **NOBODY).code == 75
        assert shared_desk.leftovers() == [f"sandbox#{record}"]
        assert shared_desk.main("resend").code == 0
        assert shared_desk.leftovers() == []
        assert "body" not in state_of(shared_desk, record)

    def test_refused_result_is_kept_without_its_token(self, shared_desk: Desk) -> None:
        assert shared_desk.notify("rec-x").code == 69
        assert shared_desk.pending()["rec-x"].state == "refused"
        assert "body" in state_of(shared_desk, "rec-x")
        assert shared_desk.leftovers() == []


class TestExpiry:
    def test_what_is_reported_expires_after_90_days(self, shared_desk: Desk, record: str) -> None:
        shared_desk.notify(record)
        expires = int(state_of(shared_desk, record)["expires"])
        assert abs(expires - time.time() - 90 * 86400) < 3600

    @pytest.mark.parametrize("state", ["owed", "refused", "running"])
    def test_nothing_else_does(self, shared_desk: Desk, record: str, state: str) -> None:
        desk = shared_desk
        if state == "running":
            hold_run(desk, record).kill()
        elif state == "owed":
            desk.notify(record)
            assert "expires" in state_of(desk, record)
            other = a_request(record) | {"Status": "FAILED"}
            assert desk.main("notify", stdin=other, **NOBODY).code == 75
        else:
            record = "rec-x"
            desk.notify(record)
        assert "expires" not in state_of(desk, record)


class TestVanishedMachine:
    def test_run_is_failed_once_its_lease_is_over(self, shared_desk: Desk, record: str) -> None:
        desk = shared_desk
        hold_run(desk, record).kill()
        assert desk.main("resend").lines == ["0 reported, 0 refused, 0 still owed"]
        assert desk.run(record).code == 75
        assert desk.pending()[record].state == "running"
        desk.lapse()
        assert desk.pending()[record].state == "owed"
        assert desk.main("resend").lines == ["1 reported, 0 refused, 0 still owed"]
        error = desk.sandbox.record(record)["RecordDetail"]["RecordErrors"][0]
        assert error["Description"] == HOST_DIED

    def test_margin_after_the_lease_is_waited_for(self, shared_desk: Desk, record: str) -> None:
        desk = shared_desk
        hold_run(desk, record).kill()
        assert desk.shared
        desk.shared.set(f"sandbox#{record}", lease=time.time() - 50, due_at=time.time() + 10)
        assert desk.main("resend").lines == ["0 reported, 0 refused, 0 still owed"]
        assert desk.run(record).code == 75

    def test_message_comes_again_where_nothing_was_applied(
        self, shared_desk: Desk, record: str
    ) -> None:
        desk = shared_desk
        desk.run(record, **desk.killed("after", "workflow_result.journal:Journal.begin"))
        desk.lapse()
        assert desk.main("resend").lines == [
            "0 reported, 0 refused, 0 still owed, 1 may be run again"
        ]
        assert desk.run(record).code == 0
        assert desk.sandbox.status(record) == "SUCCEEDED"

    def test_result_that_nobody_sends_any_more_is_sent(
        self, shared_desk: Desk, record: str
    ) -> None:
        desk = shared_desk
        desk.notify(record, **desk.killed("before", SEND))
        assert desk.main("resend").lines == ["0 reported, 0 refused, 1 still owed"]
        desk.lapse()
        assert desk.main("resend").code == 0
        assert desk.sandbox.status(record) == "SUCCEEDED"


class TestFrozenMachine:
    @pytest.fixture
    def desk(self, shared_desk: Desk) -> Desk:
        shared_desk.lease = 10
        return shared_desk

    def test_worker_frozen_past_its_lease_reports_nothing_and_stops_terraform(
        self, desk: Desk, record: str
    ) -> None:
        (desk.home / "terraform").write_text(
            TERRAFORM.replace(
                "exec sleep 60",
                f"trap 'echo >{desk.home}/stopped; exit 1' INT\n"
                "for i in {1..600}; do sleep 0.1; done",
            )
        )
        process = hold_run(desk, record)
        process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 60
        while desk.main("resend").lines != ["1 reported, 0 refused, 0 still owed"]:
            assert time.monotonic() < deadline
            time.sleep(0.5)
        process.send_signal(signal.SIGCONT)
        outcome = ended(process)
        assert (outcome.code, outcome.stdout) == (75, "")
        assert outcome.lines[-1] == (
            f"{record}: another process may have taken over its run by now; nothing was reported"
        )
        assert (desk.home / "stopped").exists()
        assert desk.sandbox.status(record) == "FAILED"
        assert len(desk.tokens(record)) == 1
        assert desk.pending() == {}

    def test_resend_frozen_past_its_lease_sends_nothing_that_another_has_sent(
        self, desk: Desk, record: str
    ) -> None:
        calls: list[dict[str, Any]] = []

        def answer(_: Message, body: bytes) -> tuple[int, bytes]:
            calls.append(json.loads(body))
            if len(calls) > 1:
                return 200, b"{}"
            frozen.send_signal(signal.SIGSTOP)
            return 400, b'{"__type": "ThrottlingException", "message": "Rate exceeded"}'

        desk.owe(record)
        with endpoint(answer) as url:
            frozen = desk.start("resend", AWS_ENDPOINT_URL_SERVICE_CATALOG=url)
            deadline = time.monotonic() + 60
            while not calls:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            desk.lapse()
            again = desk.main("resend", AWS_ENDPOINT_URL_SERVICE_CATALOG=url)
            assert again.lines == ["1 reported, 0 refused, 0 still owed"]
            time.sleep(desk.lease / 2)
            frozen.send_signal(signal.SIGCONT)
            outcome = ended(frozen)
        assert outcome.lines == ["0 reported, 0 refused, 0 still owed"]
        assert len(calls) == 2

    def test_lease_is_renewed_while_terraform_works(self, desk: Desk, record: str) -> None:
        (desk.home / "terraform").write_text(TERRAFORM + "[ $1 != apply ] || sleep 14\n")
        process = desk.start(*desk.run_options, stdin=a_message(record))
        while process.poll() is None:
            assert desk.main("resend").lines == ["0 reported, 0 refused, 0 still owed"]
            time.sleep(1)
        assert process.returncode == 0
        assert desk.sandbox.status(record) == "SUCCEEDED"

    def test_run_that_cannot_reach_the_table_is_stopped_before_its_lease_is_over(
        self, desk: Desk, gated: tuple[Desk, Gate], record: str
    ) -> None:
        process = hold_run(desk, record)
        gated[1].decide = lambda *_: "dropped"
        said = ended(process)
        assert said.code == 1
        assert "stopping terraform with SIGINT: the journal was not reached for 3 seconds" in (
            said.stderr
        )
        error = desk.sandbox.record(record)["RecordDetail"]["RecordErrors"][0]["Description"]
        assert "the journal was not reached for 3 seconds" in error
        assert len(desk.tokens(record)) == 1

    def test_run_that_has_applied_nothing_by_then_may_come_again(
        self, desk: Desk, gated: tuple[Desk, Gate], record: str
    ) -> None:
        script, planning = desk.home / "terraform", desk.home / "planning"
        script.write_text(TERRAFORM + f"[ $1 != plan ] || {{ touch {planning}; exec sleep 60; }}\n")
        process = desk.start(*desk.run_options, stdin=a_message(record))
        while not planning.exists():
            time.sleep(0.05)
        gated[1].decide = lambda *_: "dropped"
        said = ended(process)
        assert (said.code, said.stdout) == (75, "")
        assert said.lines[-1] == (
            f"{record}: another process may have taken over its run by now; nothing was applied"
        )
        gated[1].decide = lambda *_: PASS
        desk.lapse()
        script.write_text(TERRAFORM)
        assert desk.run(record).code == 0
        assert len(desk.tokens(record)) == 1


class TestFaults:
    @pytest.mark.parametrize("kind", KINDS)
    def test_notify_reports_once_whatever_happens_to_its_first_write(
        self, gated: tuple[Desk, Gate], record: str, kind: str
    ) -> None:
        """The SDK repeats it, also where it had succeeded."""
        desk, opened = gated
        opened.fail(UPDATE, kind)
        outcome = desk.notify(record)
        assert outcome.code == 0
        assert len(desk.tokens(record)) == 1
        desk.lapse()
        assert desk.main("resend").code == 0
        assert desk.pending() == {}
        assert desk.leftovers() == []
        assert len(desk.tokens(record)) == 1

    @pytest.mark.parametrize("kind", ["throttled", "dropped-after", "web-page"])
    @pytest.mark.parametrize("call", [1, 2, 3, 4])
    def test_run_reports_once_whatever_happens_to_a_call(
        self, gated: tuple[Desk, Gate], record: str, call: int, kind: str
    ) -> None:
        desk, opened = gated
        opened.decide = lambda _, number: kind if number == call else "pass"
        outcome = desk.run(record)
        if outcome.code == 75:  # a web page is no answer, and is not asked again
            assert kind == "web-page"
            assert call in (1, 2)
            assert desk.run(record).code == 0
        assert desk.sandbox.status(record) == "SUCCEEDED"
        desk.lapse()
        assert desk.main("resend").code == 0
        assert desk.pending() == {}
        assert len(desk.tokens(record)) == 1

    def test_run_that_may_have_reported_failed_is_not_run_again(
        self, gated: tuple[Desk, Gate], start_sandbox: Callable[..., Sandbox]
    ) -> None:
        """Its result could not be entered, and Service Catalog's answer to it was lost."""
        (desk, opened), record = gated, "rec-demo"
        desk.sandbox = start_sandbox("--misbehave", "drop-after:1")
        desk.environment["AWS_MAX_ATTEMPTS"] = "1"
        (desk.home / "terraform").write_text(TERRAFORM + "[ $1 != apply ] || exit 1\n")
        opened.decide = lambda _, number: "web-page" if number == 3 else PASS
        assert desk.run(record).code == 75
        assert desk.sandbox.status(record) == "FAILED"
        assert (state_of(desk, record)["state"], desk.run(record).code) == ("running", 75)
        desk.lapse()
        (desk.home / "terraform").write_text(
            TERRAFORM + f"[ $1 != apply ] || touch {desk.home}/built\n"
        )
        assert desk.run(record).code in (1, 69)  # the FAILED of a run that died
        assert not (desk.home / "built").exists()
        assert desk.sandbox.status(record) == "FAILED"


class TestSentWithoutJournal:
    def test_what_service_catalog_has_is_known_whatever_is_owed(
        self, gated: tuple[Desk, Gate], record: str
    ) -> None:
        """It is not run again, and the other result does not stay refused for ever."""
        desk, opened = gated
        failed = a_request(record) | {"Status": "FAILED"}
        told = desk.main("notify", "--operation", "terminate", stdin=failed, **NOBODY)
        assert told.code == 75
        opened.fail(UPDATE, "web-page")
        sent = desk.main("notify", "--operation", "terminate", stdin=a_request(record))
        assert sent.code == 0
        assert desk.main("resend").code == 69
        assert desk.pending() == {}
        (desk.home / "terraform").write_text("#!/bin/sh\ntouch it-ran\n")
        again = desk.run(record)
        assert (again.code, again.json["status"]) == (0, "SUCCEEDED")
        assert not (desk.artifact / "it-ran").exists()


class TestClock:
    """Of the machine, an hour off from DynamoDB's."""

    @pytest.mark.parametrize("hours", [1, -1])
    def test_lease_goes_by_the_tables_clock(
        self, gated: tuple[Desk, Gate], record: str, hours: float
    ) -> None:
        desk, opened = gated
        opened.hours = hours
        hold_run(desk, record).kill()
        item = state_of(desk, record)
        there = time.time() + hours * 3600
        assert abs(float(item["lease"]) - there - desk.lease) < 60
        assert abs(float(item["since"]) - there) < 60
        assert desk.main("resend").lines == ["0 reported, 0 refused, 0 still owed"]
        assert desk.shared
        desk.shared.set(f"sandbox#{record}", lease=there - 61, due_at=there - 1)
        assert desk.main("resend").lines == ["1 reported, 0 refused, 0 still owed"]
        assert desk.sandbox.status(record) == "FAILED"


class TestUnreachable:
    LINE = (
        "the journal dynamodb://{table} cannot be used: Could not connect to the endpoint URL: "
        '"http://127.0.0.1:1/"; check the network and the table\'s region'
    )

    @pytest.fixture
    def desk(self, shared_desk: Desk) -> Desk:
        shared_desk.environment |= {
            "AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:1",
            "AWS_MAX_ATTEMPTS": "1",
        }
        assert shared_desk.shared
        self.line = self.LINE.format(table=shared_desk.shared.name)
        return shared_desk

    def test_run_does_not_run(self, desk: Desk, record: str) -> None:
        (desk.home / "terraform").write_text("#!/bin/sh\ntouch it-ran\n")
        outcome = desk.run(record)
        assert (outcome.code, outcome.stdout) == (75, "")
        assert outcome.lines == [f"{self.line}; nothing was run"]
        assert not (desk.artifact / "it-ran").exists()
        assert desk.sandbox.status(record) == "IN_PROGRESS"

    def test_notify_warns_and_sends(self, desk: Desk, record: str) -> None:
        outcome = desk.notify(record)
        assert outcome.code == 0
        assert outcome.lines == [f"warning: {self.line}; going on without it"]
        assert desk.sandbox.status(record) == "SUCCEEDED"

    @pytest.mark.parametrize("command", ["resend", "pending", "forget rec-x"])
    def test_the_others_say_so(self, desk: Desk, command: str) -> None:
        outcome = desk.main(*command.split())
        assert (outcome.code, outcome.stdout, outcome.lines) == (75, "", [self.line])


class TestNotSetUp:
    @pytest.mark.parametrize("command", ["run", "resend", "pending"])
    def test_table_that_is_not_there(self, shared_desk: Desk, record: str, command: str) -> None:
        desk = shared_desk
        assert desk.shared
        desk.shared.name = "no-such-table"
        if command == "run":
            outcome, more = desk.run(record), "; nothing was run"
        else:
            outcome, more = desk.main(command), ""
        assert outcome.code == 78
        assert outcome.lines == [
            "the journal dynamodb://no-such-table cannot be used: there is no such table in "
            f"us-east-1; check its name, region and account (terraform/journal makes one){more}"
        ]

    def test_no_region(self, shared_desk: Desk, record: str) -> None:
        outcome = shared_desk.run(record, AWS_REGION="")
        assert outcome.code == 78
        assert outcome.lines[0].endswith(
            "You must specify a region; set AWS_REGION, or name it in the URL: "
            "dynamodb://TABLE?region=REGION; nothing was run"
        )

    def test_no_credentials(self, shared_desk: Desk) -> None:
        unset = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
        outcome = shared_desk.main("pending", **unset)
        assert outcome.code == 78
        assert "Unable to locate credentials; set AWS_PROFILE" in outcome.stderr

    def test_table_with_another_key(self, shared_desk: Desk) -> None:
        assert shared_desk.shared
        client = shared_desk.shared.client
        client.create_table(
            TableName="other-key",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        )
        shared_desk.shared.name = "other-key"
        outcome = shared_desk.main("pending")
        client.delete_table(TableName="other-key")
        assert outcome.code == 78
        assert "it has another key or index than terraform/journal gives it" in outcome.stderr

    def test_item_of_a_newer_version_is_left_alone_and_the_others_are_sent(
        self, shared_desk: Desk, records: Callable[[int], list[str]]
    ) -> None:
        newer, record = records(2)
        shared_desk.owe(newer, record)
        assert shared_desk.shared
        shared_desk.shared.set(f"sandbox#{newer}", state="delegated")
        outcome = shared_desk.main("resend")
        assert outcome.code == 0
        assert outcome.lines[0] == (
            f"warning: the journal dynamodb://{shared_desk.shared.name} cannot be used: its item "
            f"for {newer} is none of this program's, or of a newer version; it is left alone"
        )
        assert shared_desk.sandbox.status(record) == "SUCCEEDED"


def large(record: str) -> dict[str, Any]:
    """A result that does not become small when it is compressed."""
    import random

    chance = random.Random(1)  # noqa: S311
    text = "".join(chance.choices("0123456789abcdef", k=700_000))
    return a_request(record, Outputs=[{"OutputKey": "k", "OutputValue": text}])


class TestTooLarge:
    def test_is_sent_without_being_kept_and_says_so(self, shared_desk: Desk, record: str) -> None:
        desk = shared_desk
        outcome = desk.main("notify", stdin=large(record))
        assert outcome.code == 0
        assert desk.shared
        assert len(outcome.lines) == 1
        assert outcome.lines[0].startswith(f"warning: the result of {record} has ")
        assert outcome.lines[0].endswith(" takes 300; going on without it")
        assert desk.sandbox.status(record) == "SUCCEEDED"
        assert state_of(desk, record)["state"] == "reported"

    def test_is_not_sent_where_a_run_goes_on(self, shared_desk: Desk, record: str) -> None:
        process = hold_run(shared_desk, record)
        told = shared_desk.main("notify", stdin=large(record))
        process.kill()
        process.communicate()
        assert (told.code, told.stdout) == (65, "")
        assert told.lines == [
            f"{record}: the journal has it as a terminate, not a provision: check --operation"
        ]
        assert shared_desk.sandbox.status(record) == "IN_PROGRESS"

    def test_is_not_sent_where_another_result_is_owed(self, shared_desk: Desk, record: str) -> None:
        failed = a_request(record) | {"Status": "FAILED"}
        assert shared_desk.main("notify", stdin=failed, **NOBODY).code == 75
        assert shared_desk.main("notify", stdin=large(record)).code == 75
        assert shared_desk.tokens(record) == set()

    def test_is_answered_where_it_was_reported_before(self, shared_desk: Desk, record: str) -> None:
        first = shared_desk.main("notify", stdin=large(record))
        again = shared_desk.main("notify", stdin=large(record), **NOBODY)
        assert (again.code, again.stdout) == (0, first.stdout)

    def test_is_not_saved_where_it_cannot_be_sent(self, shared_desk: Desk, record: str) -> None:
        outcome = shared_desk.main("notify", stdin=large(record), **NOBODY)
        assert outcome.code == 75
        assert "It is not saved: `notify` the same again" in outcome.stderr


def test_start_of_a_command_with_a_file_does_not_load_what_a_table_needs(
    desk: Desk, record: str
) -> None:
    imported = desk.notify(record, through=["-X", "importtime", MAIN]).stderr
    assert "journal.sqlite" in imported
    assert "journal.dynamodb" not in imported
    assert "boto3.dynamodb" not in imported


def test_calls_know_their_table() -> None:
    assert str(Table("journal", None, Account(None, None))) == "dynamodb://journal"


def test_pending_shows_the_same_as_of_a_file(any_desk: Desk, record: str) -> None:
    any_desk.notify(record, **NOBODY)
    (row,) = json.loads(any_desk.main("pending", "--json").stdout)
    assert {k: row[k] for k in ("record_id", "operation", "destination", "state", "tries")} == {
        "record_id": record,
        "operation": "provision",
        "destination": "sandbox",
        "state": "owed",
        "tries": 1,
    }
    assert row["last_error"].startswith("Could not connect")
    assert row["region"] == "us-east-1"
