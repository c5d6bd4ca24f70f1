"""`start` and `finish`, as Lambda runs them, with CodeBuild, the journal and Service Catalog."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from codebuild_server import CodeBuild, codebuild_server
from conftest import Sandbox, clean_environment
from lambda_runtime import Function, function
from ministack_server import Ministack
from served_cli import TOKEN, order
from tables import SharedTable, new_table

from workflow_result.account import Account
from workflow_result.engine import message as messages
from workflow_result.engine.message import Message
from workflow_result.journal import Journal
from workflow_result.journal.place import Table, open_journal
from workflow_result.journal.record import Entry, State
from workflow_result.journal.waiting import Waiting


class Engine:
    """What the functions work with."""

    def __init__(
        self, home: Path, table: SharedTable, codebuild: CodeBuild, sandbox: Sandbox
    ) -> None:
        self.home, self.table, self.codebuild, self.sandbox = home, table, codebuild, sandbox
        self.environment = clean_environment(
            home,
            **sandbox.environment,
            **table.environment,
            AWS_ENDPOINT_URL_CODEBUILD=codebuild.url,
            AWS_MAX_ATTEMPTS="1",
            WORKFLOW_RESULT_JOURNAL=table.url(lease=10),
            WORKFLOW_RESULT_BUILD_PROJECT="engine",
        )

    def function(self, name: str, **variables: str) -> Any:
        return function(name, self.home, self.environment | variables)

    @contextmanager
    def journal(self, build: str = "") -> Iterator[Journal]:
        """The journal, as a build has it or anybody else."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                if name.startswith("AWS"):
                    patch.setenv(name, value)
            patch.setenv("CODEBUILD_BUILD_ID", build)
            journal = open_journal(Table(self.table.name, 10), Account(None, None))
            yield journal
            journal.close()

    def states(self) -> dict[str, State]:
        with self.journal() as journal:
            return {entry.record_id: entry.state for entry in journal.pending()}

    def begin(self, record: str, number: int = 0, *, applies: bool) -> Entry:
        """Have a build begin its order, and then do nothing more."""
        with self.journal(self.codebuild.builds[number]["id"]) as journal:
            _, content = journal.content(record, "sandbox")
            assert isinstance(content, Waiting)
            message = messages.read(content.message.encode())
            assert isinstance(message, Message)
            run = journal.begin(message.result([], "It died."), "sandbox", "us-east-1")
            assert run.own
            if applies:
                assert journal.applying(run)
            return run

    def reason(self, record: str) -> str:
        """Why it failed, as Service Catalog has it."""
        detail = self.sandbox.record(record)["RecordDetail"]
        assert detail["Status"] == "FAILED"
        reason: str = detail["RecordErrors"][0]["Description"]
        return reason


def sqs(*bodies: str | dict[str, Any]) -> dict[str, Any]:
    """The event for messages from a queue."""
    return {
        "Records": [
            {
                "messageId": f"message-{number}",
                "receiptHandle": "r",
                "body": body if isinstance(body, str) else json.dumps(body),
                "attributes": {"ApproximateReceiveCount": "1"},
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:queue",
                "awsRegion": "us-east-1",
            }
            for number, body in enumerate(bodies)
        ]
    }


SCHEDULED = {"detail-type": "Scheduled Event", "source": "aws.events", "detail": {}}
"""What a rule with a schedule gives."""


def failures(*numbers: int) -> dict[str, Any]:
    return {"batchItemFailures": [{"itemIdentifier": f"message-{n}"} for n in numbers]}


@pytest.fixture
def engine_of_builds(
    tmp_path: Path, ministack: Ministack, start_sandbox: Callable[..., Sandbox]
) -> Iterator[Engine]:
    records = [option for n in range(1, 6) for option in ("--record", f"rec-{n}")]
    with codebuild_server() as codebuild:
        yield Engine(tmp_path, new_table(ministack), codebuild, start_sandbox(*records))


@pytest.fixture
def start(engine_of_builds: Engine) -> Iterator[Function]:
    with engine_of_builds.function("start") as running:
        yield running


@pytest.fixture
def finish(engine_of_builds: Engine) -> Iterator[Function]:
    with engine_of_builds.function("finish") as running:
        yield running


class TestStart:
    def test_order_gets_a_build_that_is_told_the_record_alone(
        self, engine_of_builds: Engine, start: Function
    ) -> None:
        assert start(sqs(order())).value == failures()
        assert engine_of_builds.codebuild.records() == ["rec-1"]
        assert TOKEN not in json.dumps(engine_of_builds.codebuild.started)
        assert engine_of_builds.states() == {"rec-1": State.WAITING}
        assert TOKEN not in start.said

    def test_duplicate_starts_nothing(self, engine_of_builds: Engine, start: Function) -> None:
        for event in (sqs(order(), order()), sqs(order())):
            assert start(event).value == failures()
        engine_of_builds.begin("rec-1", applies=True)
        assert start(sqs(order())).value == failures()
        assert engine_of_builds.codebuild.records() == ["rec-1"]

    def test_what_cannot_be_answered_is_left_in_the_queue_and_the_rest_is_not(
        self, engine_of_builds: Engine, start: Function
    ) -> None:
        no_record = {name: value for name, value in order().items() if name != "recordId"}
        event = sqs("poison", order(), no_record)
        assert start(event).value == failures(0, 2)
        assert engine_of_builds.codebuild.records() == ["rec-1"]
        assert "error: the message message-0 is none, or the message: not JSON" in start.said
        assert "error: the message message-2 is none, or recordId: required, but missing" in (
            start.said
        )
        assert TOKEN not in start.said

    def test_order_whose_message_is_wrong_is_failed(
        self, engine_of_builds: Engine, start: Function
    ) -> None:
        assert start(sqs(order() | {"tags": "none"})).value == failures()
        assert "tags: must be a list" in engine_of_builds.reason("rec-1")
        assert engine_of_builds.codebuild.started == []

    def test_builds_at_their_limit_let_orders_wait_and_the_oldest_is_started_first(
        self, engine_of_builds: Engine, start: Function, finish: Function
    ) -> None:
        codebuild = engine_of_builds.codebuild
        codebuild.limit = 1
        for n in range(1, 4):
            assert start(sqs(order(record=f"rec-{n}"))).value == failures()
        assert codebuild.records() == ["rec-1"]
        assert set(engine_of_builds.states().values()) == {State.WAITING}
        codebuild.limit = 2
        start(sqs(order(record="rec-4")))
        assert codebuild.records() == ["rec-1", "rec-2"]
        engine_of_builds.begin("rec-1", applies=False)
        assert finish(codebuild.end(0, "STOPPED")).value is None
        assert codebuild.records() == ["rec-1", "rec-2", "rec-3"]
        assert engine_of_builds.states() == {f"rec-{n}": State.WAITING for n in (2, 3, 4)}

    def test_build_that_is_refused_is_told_and_asked_for_again(
        self, engine_of_builds: Engine, start: Function, finish: Function
    ) -> None:
        codebuild = engine_of_builds.codebuild
        codebuild.error = ("AccessDeniedException", "not authorized")
        assert start(sqs(order())).value == failures()
        assert (
            "error: rec-1 waits, no build was started: AccessDeniedException: not authorized"
            in start.said
        )
        assert not finish(SCHEDULED).failed
        for said in (start.said, finish.said):
            assert '"BuildsRefused":[1.0]' in said
        codebuild.error = None
        assert not finish(SCHEDULED).failed
        assert codebuild.records() == ["rec-1"]

    def test_messages_stay_in_the_queue_where_the_journal_cannot_be_asked(
        self, engine_of_builds: Engine
    ) -> None:
        nobody = {"AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:1"}
        with engine_of_builds.function("start", **nobody) as start:
            assert start(sqs(order(), order(record="rec-2"))).value == failures(0, 1)
            assert "error: the message message-1 is kept: the journal dynamodb://" in start.said
        assert engine_of_builds.codebuild.started == []

    @pytest.mark.parametrize(
        ("variable", "value", "line"),
        [
            ("WORKFLOW_RESULT_JOURNAL", "", "WORKFLOW_RESULT_JOURNAL has to name dynamodb://TABLE"),
            ("WORKFLOW_RESULT_JOURNAL", "/tmp/j", "a function has no disk that stays"),  # noqa: S108
            ("WORKFLOW_RESULT_BUILD_PROJECT", "", "has to name the builds' project"),
        ],
    )
    def test_what_is_not_set_up_is_told(
        self, engine_of_builds: Engine, variable: str, value: str, line: str
    ) -> None:
        with engine_of_builds.function("start", **{variable: value}) as start:
            answer = start(sqs(order()))
        assert answer.failed
        assert answer.value["errorType"] == "Failed"
        assert line in answer.value["errorMessage"]


class TestBuildThatEnded:
    def test_without_having_begun_is_failed_with_what_codebuild_said(
        self, engine_of_builds: Engine, start: Function, finish: Function
    ) -> None:
        start(sqs(order()))
        event = engine_of_builds.codebuild.end(0, "FAILED", "INSTALL", "exit status 7")
        assert not finish(event).failed
        assert engine_of_builds.reason("rec-1") == (
            "The build for this order failed, in its phase INSTALL: exit status 7. Nothing was "
            "run. Order it again; where that happens twice, tell whoever runs the engine."
        )
        assert engine_of_builds.states() == {}
        assert engine_of_builds.table.leftovers(TOKEN.encode()) == []

    @pytest.mark.parametrize(
        ("applies", "came"),
        [(True, "how far Terraform came is not known"), (False, "nothing was applied")],
    )
    def test_while_it_ran_is_failed_at_once(
        self,
        engine_of_builds: Engine,
        start: Function,
        finish: Function,
        applies: bool,
        came: str,
    ) -> None:
        start(sqs(order()))
        engine_of_builds.begin("rec-1", applies=applies)
        finish(engine_of_builds.codebuild.end(0, "TIMED_OUT"))
        assert engine_of_builds.reason("rec-1") == (
            "The build that carried out this order took longer than it may, in its phase BUILD, "
            f"so {came}."
        )
        assert engine_of_builds.table.leftovers(TOKEN.encode()) == []

    def test_run_of_another_build_goes_on(
        self, engine_of_builds: Engine, start: Function, finish: Function
    ) -> None:
        codebuild = engine_of_builds.codebuild
        start(sqs(order()))
        start(sqs(order(record="rec-2")))
        engine_of_builds.begin("rec-1", applies=True)
        event = codebuild.end(1, "FAILED")
        variables = event["detail"]["additional-information"]["environment"]
        variables["environment-variables"][0]["value"] = "rec-1"
        finish(event)
        assert engine_of_builds.states()["rec-1"] == State.RUNNING

    def test_event_that_comes_twice_changes_nothing(
        self, engine_of_builds: Engine, start: Function, finish: Function
    ) -> None:
        start(sqs(order()))
        event = engine_of_builds.codebuild.end(0, "STOPPED")
        for _ in range(2):
            assert not finish(event).failed
        assert "was stopped. Nothing was run." in engine_of_builds.reason("rec-1")

    def test_build_of_nobody_is_nothing(self, engine_of_builds: Engine, finish: Function) -> None:
        detail = {"build-status": "FAILED", "build-id": "arn:aws:codebuild:r:1:build/engine:9"}
        event = {"detail-type": "CodeBuild Build State Change", "detail": detail}
        assert not finish(event).failed


class TestDeadLetters:
    def test_order_that_nobody_knows_is_failed(
        self, engine_of_builds: Engine, finish: Function
    ) -> None:
        assert finish(sqs(order())).value == failures()
        assert engine_of_builds.reason("rec-1").startswith(
            "The engine could not take this order from its queue"
        )

    def test_order_that_waits_or_runs_or_is_reported_is_left_alone(
        self, engine_of_builds: Engine, start: Function, finish: Function
    ) -> None:
        start(sqs(*(order(record=f"rec-{n}") for n in (1, 2, 3))))
        engine_of_builds.begin("rec-2", applies=True)
        finish(sqs(order(record="rec-4")))
        event = sqs(*(order(record=f"rec-{n}") for n in (1, 2, 4)))
        assert finish(event).value == failures()
        states = engine_of_builds.states()
        assert states["rec-1"] == states["rec-3"] == State.WAITING
        assert states["rec-2"] == State.RUNNING

    def test_what_cannot_be_answered_stays_there(
        self, engine_of_builds: Engine, finish: Function
    ) -> None:
        assert finish(sqs("poison", order())).value == failures(0)
        assert "error: the message message-0 is none, or the message: not JSON" in finish.said

    def test_order_that_is_owed_then_is_done(
        self, engine_of_builds: Engine, finish: Function
    ) -> None:
        nobody = {"AWS_ENDPOINT_URL_SERVICE_CATALOG": "http://127.0.0.1:1"}
        with engine_of_builds.function("finish", **nobody) as cut_off:
            assert cut_off(sqs(order())).value == failures()
        assert engine_of_builds.states() == {"rec-1": State.OWED}
        finish(SCHEDULED)
        assert "could not take" in engine_of_builds.reason("rec-1")


class TestSchedule:
    def test_figures_of_the_journal_are_told(
        self, engine_of_builds: Engine, start: Function, finish: Function
    ) -> None:
        engine_of_builds.codebuild.limit = 0
        start(sqs(order(), order(record="rec-2")))
        finish(SCHEDULED)
        lines = [line for line in finish.said.splitlines() if line.startswith('{"_aws"')]
        told = json.loads(lines[0])
        (kinds,) = told["_aws"]["CloudWatchMetrics"]
        assert (kinds["Namespace"], kinds["Dimensions"]) == ("WorkflowResult", [[]])
        units = {metric["Name"]: metric["Unit"] for metric in kinds["Metrics"]}
        assert units == {
            **dict.fromkeys(("Owed", "Refused", "Running", "Waiting", "Reported"), "Count"),
            **dict.fromkeys(("OldestOwed", "OldestRunning", "OldestWaiting"), "Seconds"),
        }
        assert (told["Waiting"], told["Owed"], told["OldestOwed"]) == ([2], [0], [0])

    def test_without_time_nothing_is_begun(
        self, engine_of_builds: Engine, start: Function, finish: Function
    ) -> None:
        engine_of_builds.codebuild.limit = 0
        start(sqs(order()))
        engine_of_builds.codebuild.limit = 9
        assert not finish(SCHEDULED, seconds=5).failed
        assert engine_of_builds.codebuild.started == []
        finish(SCHEDULED)
        assert engine_of_builds.codebuild.records() == ["rec-1"]
