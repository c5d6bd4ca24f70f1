"""The functions of the engine, as AWS Lambda calls them.

`start` and `finish` need a journal that machines share (WORKFLOW_RESULT_JOURNAL) and the project of
their builds (WORKFLOW_RESULT_BUILD_PROJECT). No event is logged: it may hold a WorkflowToken.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, wraps
from typing import TYPE_CHECKING, Any

from workflow_result.delivery import Delivery
from workflow_result.journal.place import Table, open_journal, parse
from workflow_result.pace import AT_MOST
from workflow_result.problem import ExitCode, Problem, Style, about, defect, printable, say
from workflow_result.secret import forgetting_tokens, hide

if TYPE_CHECKING:
    from workflow_result.engine.builds import Builds
    from workflow_result.request import Request

JOURNAL_VARIABLE = "WORKFLOW_RESULT_JOURNAL"
PROJECT_VARIABLE = "WORKFLOW_RESULT_BUILD_PROJECT"
LINK_VARIABLE = "WORKFLOW_RESULT_LOG_LINK"
"""Set where reasons are to end with a link to the log of the build."""

FOR_THE_REST = 90.0
"""Seconds that are left when the last result is sent: a minute at most for the call, and half of
one for what else is due."""

Event = Mapping[str, Any]
Handler = Callable[[Event, Any], Any]


class Failed(Exception):
    """A function has not done what it is for: why, for a person."""


PassesPerhaps = type("Lambda.ServiceException", (Failed,), {})
"""The same, where another try may help. Step Functions goes by this name, which Lambda itself gives
to faults that pass: the state machines of AWS's reference engine call again for it, and for no
error of a function (https://docs.aws.amazon.com/step-functions/latest/dg/connect-lambda.html)."""


class ParserInvalidParameterException(Failed):
    """Service Catalog has given an artifact without parameters to tell: it knows this name."""


class ParserAccessDeniedException(Failed):
    """The parser may not have the artifact: Service Catalog knows this name."""


def _handler(function: Handler) -> Handler:
    """Have what goes wrong be told without a traceback, and without any piece of a secret. What is
    one is of a single call: this instance of a function goes on to others."""

    @wraps(function)
    @forgetting_tokens()
    def handle(event: Event, context: Any) -> Any:
        try:
            return function(event, context)
        except Failed:
            raise
        except Problem as problem:
            raise Failed(hide("; ".join(problem.lines))) from None
        except Exception as error:
            defect(error)
            raise Failed("a defect of this program: the log says where") from None

    return handle


@_handler
def parse_parameters(event: Event, context: Any) -> Any:
    """Tell Service Catalog what parameters an artifact has: see `parameter_parser.answer`."""
    from workflow_result.engine import artifact, parameter_parser
    from workflow_result.engine.launch_role import NotAssumed

    try:
        return parameter_parser.answer(event)
    except (artifact.NotAllowed, NotAssumed) as error:
        raise ParserAccessDeniedException(_line(error)) from None
    except (artifact.Unfit, parameter_parser.Unparsable) as error:
        raise ParserInvalidParameterException(_line(error)) from None


def _line(error: Exception) -> str:
    """Return what an error says in one line; names in an archive can hold anything."""
    return hide(printable(str(error).encode("utf-8", "replace").decode()))


@_handler
def start(event: Event, context: Any) -> Any:
    """Take operation messages from a queue (SQS), and have a build carry out each order.

    What cannot be a message, and what the journal could not be asked about, is left in the queue.
    """
    with _builds(context, at_once=1) as builds:
        response = _each_message(event, context, builds.take)
        builds.start()
    return response


@_handler
def finish(event: Event, context: Any) -> Any:
    """See to what nobody else ends: for dead letters (SQS), for a build that has ended
    (EventBridge), and on a schedule, with any other event, for all that is due in the journal."""
    with _builds(context, at_once=AT_MOST) as builds:
        if "Records" in event:
            return _each_message(event, context, builds.dead_letter)
        if event.get("detail-type") == "CodeBuild Build State Change":
            from workflow_result.engine.codebuild import of_event

            builds.ended(of_event(event["detail"]))
            builds.start()  # there is room now
        else:
            _deliver(builds)
            builds.start()
    return None


@_handler
def notify(event: Event, context: Any) -> None:
    """Report what the notify functions of another engine are told: see `notices`.

    Succeeds where Service Catalog has the result, and where the journal owes it. Else the error is
    one that the state machine tries again for, unless the result was refused for good.
    """
    from workflow_result.engine import notices

    request = notices.read(event, os.environ.get(notices.OPERATION_VARIABLE))
    with about(request.members["RecordId"], request.operation):
        _notify(request)


def _notify(request: "Request") -> None:
    from workflow_result.reporting import Reporter

    delivery = Delivery(None, None, None)
    journal = None
    if os.environ.get(JOURNAL_VARIABLE):
        journal = open_journal(_table(), delivery.account)
    reporter = Reporter((lambda: journal) if journal else None, delivery)
    try:
        reporter.report(request)
        say(f"{request.members['RecordId']}: {request.members['Status']} is reported")
        _tell({"Reported": 1}, {})
    except Problem as problem:
        if problem.exit_code != ExitCode.NOT_DELIVERED:
            raise
        if not reporter.is_owed:
            raise PassesPerhaps(hide("; ".join(problem.lines))) from None
        for line in problem.lines:
            say(f"warning: {line}", Style.YELLOW)
    finally:
        reporter.close()


@cache
def _delivery(at_once: int) -> Delivery:
    """One for as long as this instance of a function lives: its clients are warm."""
    return Delivery(None, None, None, at_once)


def _table() -> Table:
    """The table that the environment names."""
    place = parse(os.environ.get(JOURNAL_VARIABLE, ""))
    if not isinstance(place, Table):
        line = f"{JOURNAL_VARIABLE} has to name dynamodb://TABLE: a function has no disk that stays"
        raise Problem(ExitCode.SETUP, line)
    return place


@contextmanager
def _builds(context: Any, at_once: int) -> Iterator["Builds"]:
    from workflow_result.engine.builds import Builds
    from workflow_result.engine.codebuild import CodeBuild

    project = os.environ.get(PROJECT_VARIABLE)
    if not project:
        raise Problem(ExitCode.SETUP, f"{PROJECT_VARIABLE} has to name the builds' project")
    delivery = _delivery(at_once)
    journal = open_journal(_table(), delivery.account)
    try:
        builds = Builds(
            journal,
            delivery,
            CodeBuild(project, delivery.account),
            lambda: context.get_remaining_time_in_millis() / 1000,
            log_link=bool(os.environ.get(LINK_VARIABLE)),
        )
        yield builds
        # Where builds are refused somebody has to set something up.
        counts = {"Reported": builds.reported, "BuildsRefused": builds.refused}
        _tell({name: count for name, count in counts.items() if count}, {})
    finally:
        journal.close()


def _each_message(event: Event, context: Any, see_to: Callable[[str], None]) -> Any:
    """Have `see_to` take each message; return those that SQS is to keep."""
    from aws_lambda_powertools.utilities.batch import (
        BatchProcessor,
        EventType,
        process_partial_response,
    )

    def handle(record: Any) -> None:
        try:
            see_to(record.body)
        except Problem as problem:
            what = "is none, or" if problem.exit_code == ExitCode.INVALID else "is kept:"
            for line in problem.lines:
                say(f"error: the message {record.message_id} {what} {line}", Style.RED)
            raise
        except Exception as error:
            defect(error)
            raise

    processor = BatchProcessor(EventType.SQS, raise_on_entire_batch_failure=False)
    return process_partial_response(dict(event), handle, processor, context)


def _deliver(builds: "Builds") -> None:
    """Send what is owed, for as long as there is time."""
    from workflow_result.resending import resend

    resend(
        builds.journal,
        builds.delivery,
        None,
        progress=False,
        is_over=lambda: builds.time_left() < FOR_THE_REST,
        tell=_tell,
    )


def _tell(counts: Mapping[str, float], seconds: Mapping[str, float]) -> None:
    """Tell CloudWatch these metrics."""
    from aws_lambda_powertools import Metrics
    from aws_lambda_powertools.metrics import MetricUnit

    from workflow_result.metrics import NAMESPACE

    told = Metrics(namespace=NAMESPACE)
    for values, unit in ((counts, MetricUnit.Count), (seconds, MetricUnit.Seconds)):
        for name, value in values.items():
            told.add_metric(name, unit, value)
    if counts or seconds:
        told.flush_metrics()
