"""The executions of a Step Functions engine: which one an order has, and what became of it."""

import re
from dataclasses import dataclass, field
from typing import Any

from workflow_result.account import Account
from workflow_result.engine.calls import Service, Unanswered
from workflow_result.problem import ExitCode, Problem

ARN = re.compile(
    r"(?P<partition>arn:[a-z0-9-]+):states:(?P<region>[a-z0-9-]+):(?P<account>[0-9]{12}):"
    r"stateMachine:(?P<name>[^:/]{1,80})(?::[^:/]+)?"
)
"""Of a state machine, with a version or an alias or without
(https://docs.aws.amazon.com/step-functions/latest/dg/concepts-state-machine-version.html)."""

ALIVE = ("RUNNING", "PENDING_REDRIVE")


@dataclass(frozen=True)
class Execution:
    """An execution for an order, as it was when it was looked at.

    `status` is Step Functions' word; `stopped`, in seconds since 1970, is None where it goes on;
    `error` is the name of the error that ended it. `source` is its input; where that could not be
    read, `unread` says why.
    """

    name: str
    machine: str
    status: str
    stopped: float | None
    error: str
    source: str | None = field(repr=False)
    unread: str = ""

    @property
    def is_alive(self) -> bool:
        return self.status in ALIVE or self.stopped is None


class StateMachine:
    """A state machine that an engine's executions are of.

    AWS's reference engine, HashiCorp's and aws-ia's all start an execution with the message as its
    input, and name it `<provisionedProductId>-<recordId>`.
    """

    def __init__(self, arn: str, account: Account) -> None:
        found = ARN.fullmatch(arn)
        assert found, "the caller has looked"
        self.arn = arn
        self.name = found["name"]
        self._executions = "{partition}:states:{region}:{account}:execution:{name}".format(
            **found.groupdict()
        )
        self._service = Service("stepfunctions", account, found["region"])

    def check(self) -> None:
        """Raise `Problem` where it cannot be asked, or keeps no executions that can be."""
        what = f"the state machine {self.name} cannot be asked"
        try:
            # Its definition is of no use here, and may need a key.
            machine = self._service.call(
                what,
                "describe_state_machine",
                stateMachineArn=self.arn,
                includedData="METADATA_ONLY",
            )
        except Unanswered as problem:
            if problem.code in ("StateMachineDoesNotExist", "InvalidArn"):
                line = f"{what}: there is none; check --state-machine {self.arn}"
                raise Problem(ExitCode.SETUP, line) from problem
            raise
        if machine.get("type") == "EXPRESS":
            # https://docs.aws.amazon.com/step-functions/latest/dg/choosing-workflow-type.html
            line = f"{what}: it is an express one, of which only its log knows the executions"
            raise Problem(ExitCode.SETUP, line)

    def execution_of(self, product_id: str, record_id: str) -> Execution | None:
        """Return the execution for an order, or None. Raises `Problem` where it is not known."""
        name = f"{product_id}-{record_id}"
        asked = {"executionArn": f"{self._executions}:{name}"}
        what = f"{record_id}: its execution in {self.name} is not known"
        unread = ""
        try:
            answer = self._service.call(what, "describe_execution", **asked)
        except Unanswered as problem:
            if problem.code == "ExecutionDoesNotExist":
                return None
            if not problem.code.lower().startswith("kms"):
                raise
            unread = problem.cause
            answer = self._service.call(
                what, "describe_execution", **asked, includedData="METADATA_ONLY"
            )
        source = None if unread else answer.get("input")
        stop = answer.get("stopDate")
        return Execution(
            name=name,
            machine=self.name,
            status=answer["status"],
            stopped=stop.timestamp() if stop else None,
            error=_name_of(answer),
            source=source,
            unread=unread if source or unread else "Step Functions does not give it",
        )


def _name_of(answer: dict[str, Any]) -> str:
    # The cause may say anything: an order's parameters, a piece of somebody's log.
    error = answer.get("error") or ""
    return error if re.fullmatch(r"[A-Za-z][A-Za-z0-9_.]{0,79}", error) else ""
