"""Stores on one model of a table, without a network or a wait, in one process."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
import simulated_aws
from virtual_time import World

from workflow_result.account import Account
from workflow_result.journal import dynamodb
from workflow_result.journal.dynamodb import DynamoDBStore
from workflow_result.journal.record import Key
from workflow_result.journal.store import JournalProblem
from workflow_result.journal.table import Conflict
from workflow_result.problem import ExitCode
from workflow_result.request import Draft, Request, check

LEASE = 300
KEY = Key("rec-1", "aws")


def a_result(status: str = "FAILED", record: str = "rec-1") -> Request:
    members = {"WorkflowToken": "a" * 20, "RecordId": record, "Status": status}
    return check(Draft(members), "provision")


@dataclass
class Time:
    """Goes on where somebody waits."""

    now: float = 1000.0
    end: float = 2000.0

    def steady(self) -> float:
        return self.now

    def set(self) -> None:
        self.end = self.now

    def wait(self, seconds: float) -> bool:
        """As that of the event which is set when the store is closed: at the `end`."""
        self.now += seconds
        return self.now > self.end


@dataclass
class QuietTable:
    """A table, and what happens to the calls to it: `decide` may do anything about one."""

    time: Time
    decide: Callable[[str, Mapping[str, Any], Callable[[], Any]], Any] = lambda _, __, do: do()
    world: World = field(default_factory=World)
    """Its events: the index learns of what was written."""
    impatient: list[DynamoDBStore] = field(default_factory=list)
    """Those that were told not to wait any longer."""

    def __post_init__(self) -> None:
        network: Any = SimpleNamespace(world=self.world, chance=random.Random(1))  # noqa: S311
        self.model = simulated_aws.Table(network, lambda *_: None)

    def call(self, operation: str, **parameters: Any) -> Any:
        def do() -> Any:
            try:
                return getattr(self.model, operation)(parameters)
            except simulated_aws.ConditionFailed as failed:
                raise Conflict(failed.item) from None

        return self.decide(operation, parameters, do)

    def store(self) -> DynamoDBStore:
        store = DynamoDBStore("journal", LEASE, None, Account(None, None))
        vars(store._table).update(
            call=self.call, wait_no_longer=lambda: self.impatient.append(store)
        )
        store._closing = cast("Any", self.time)
        return store

    @property
    def item(self) -> simulated_aws.Item:
        return self.model.items["aws#rec-1"]

    def fails_though_done(self) -> None:
        """Let the next call be done, and its answer be lost."""

        def decide(_: str, __: Mapping[str, Any], do: Callable[[], Any]) -> None:
            self.works()
            do()
            raise JournalProblem("no answer")

        self.decide = decide

    def works(self) -> None:
        """Let all calls be done."""
        self.decide = lambda _, __, do: do()

    def fails(self) -> None:
        """Let no call be done from now on."""

        def decide(*_: object) -> None:
            raise JournalProblem("no answer", ExitCode.NOT_DELIVERED)

        self.decide = decide


def quiet_table(monkeypatch: pytest.MonkeyPatch) -> QuietTable:
    """Make one, whose time goes on only where somebody waits."""
    time = Time()
    monkeypatch.setattr(dynamodb, "steady", time.steady)
    return QuietTable(time)
