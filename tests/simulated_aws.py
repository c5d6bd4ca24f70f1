"""DynamoDB and Service Catalog as a simulation has them, with what goes wrong between."""

import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from virtual_time import EPOCH, Process, World, here

from workflow_result.account import Account
from workflow_result.client import Client as RealClient
from workflow_result.journal.table import Table as RealTable
from workflow_result.request import Request
from workflow_result.undelivered import NotDelivered

PAGE = 50
"""Items in an answer to a query: a megabyte in AWS's."""

LAG = 1.0
"""Seconds that the index may be behind."""

Item = dict[str, Any]


@dataclass
class Faults:
    """How often which fault is made, of each attempt; and when nobody gets through."""

    throttled: float = 0.0
    error: float = 0.0
    """An answer of 500, whether the write was done or not."""
    lost: float = 0.0
    """The request does not arrive."""
    answer_lost: float = 0.0
    late: float = 0.0
    """The request arrives when nobody waits for its answer any more."""
    outages: Sequence[tuple[float, float]] = ()

    def draw(self, chance: random.Random) -> str:
        dice = chance.random()
        for fate in ("throttled", "error", "lost", "answer_lost", "late"):
            dice -= getattr(self, fate)
            if dice < 0:
                return fate
        return "ok"

    def is_out(self, now: float) -> bool:
        return any(begin <= now < end for begin, end in self.outages)


class Throttled(Exception):
    pass


class InternalError(Exception):
    pass


class ConditionFailed(Exception):
    def __init__(self, item: Item | None) -> None:
        super().__init__()
        self.item = item


class Network:
    """Calls to one service, each tried as often as an SDK does it."""

    def __init__(self, world: World, chance: random.Random, faults: Faults) -> None:
        self.world, self.chance, self.faults = world, chance, faults
        self.is_calm = False

    def attempt(self, serve: Callable[[], Any], patience: float, *, reachable: bool = True) -> Any:
        """Raises `TimeoutError` where no answer comes, `OSError` where nothing is reached."""
        world, chance = self.world, self.chance
        there, back = chance.uniform(0.002, 0.01), chance.uniform(0.002, 0.01)
        fate = "ok" if self.is_calm else self.faults.draw(chance)
        if not reachable or (self.faults.is_out(world.now) and not self.is_calm):
            if chance.random() < 0.5:
                fate = "lost"
            else:
                world.wait(there)
                raise ConnectionError
        if fate == "throttled":
            world.wait(there + back)
            raise Throttled
        answers: list[Any] = []

        def arrive() -> None:
            try:
                answers.append(serve())
            except ConditionFailed as failed:
                answers.append(failed)

        if fate == "late":
            there = patience + chance.expovariate(1 / 60)
        if fate != "lost" and (fate != "error" or chance.random() < 0.5):
            world.at(world.now + there, arrive)
        if fate in ("lost", "answer_lost", "late"):
            world.wait(patience)
            raise TimeoutError
        world.wait(there + back)
        if fate == "error":
            raise InternalError
        if isinstance(answers[0], ConditionFailed):
            raise answers[0]
        return answers[0]

    def backoff(self, attempt: int) -> None:
        """As botocore's standard mode has it."""
        self.world.wait(self.chance.random() * min(2**attempt, 20))


# --- DynamoDB -------------------------------------------------------------------------------


@dataclass
class Table:
    """The items, and what the index has of them by now."""

    network: Network
    written: Callable[[Item, Item], None]
    """Called with what was there and what is there, at each write."""
    items: dict[str, Item] = field(default_factory=dict)
    index: dict[str, Item] = field(default_factory=dict)
    shown: dict[str, int] = field(default_factory=dict)
    """Which version of each item the index knows."""
    calls: Counter[str] = field(default_factory=Counter)
    requests: int = 0

    def update_item(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        key = parameters["Key"]["record"]["S"]
        old = self.items.get(key)
        names, values = (
            parameters["ExpressionAttributeNames"],
            parameters["ExpressionAttributeValues"],
        )
        condition = parameters["ConditionExpression"]
        if condition == "#version = :seen":
            holds = old is not None and old[names["#version"]] == values[":seen"]
        else:
            assert condition == "attribute_not_exists(#version)"
            holds = old is None
        if not holds:
            raise ConditionFailed(old)
        new = dict(old or parameters["Key"])
        sets, _, removes = parameters["UpdateExpression"].partition(" REMOVE ")
        for name, value in re.findall(r"(#\w+) = (:\w+)", sets.removeprefix("SET ")):
            new[names[name]] = values[value]
        for name in filter(None, removes.split(", ")):
            new.pop(names[name], None)
        self.items[key] = new
        self.written(old or {}, new)
        world = self.network.world

        version = int(new["version"]["N"])

        def show() -> None:
            if version > self.shown.get(key, 0):
                self.shown[key] = version
                self.index[key] = {name: new[name] for name in new if name != "body"}
                if "destination" not in new:
                    del self.index[key]

        world.at(world.now + self.network.chance.uniform(0, LAG), show)
        return {"Attributes": new} if parameters["ReturnValues"] == "ALL_NEW" else {}

    def get_item(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        item = self.items.get(parameters["Key"]["record"]["S"])
        return {"Item": item} if item else {}

    def query(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        values = parameters["ExpressionAttributeValues"]
        until = float(values[":until"]["N"])

        def place(item: Item) -> tuple[float, str]:
            return float(item["due_at"]["N"]), item["record"]["S"]

        found = sorted(
            (
                item
                for item in self.index.values()
                if item.get("destination") == values[":destination"]
                and float(item["due_at"]["N"]) <= until
            ),
            key=place,
        )
        if start := parameters.get("ExclusiveStartKey"):
            found = [item for item in found if place(item) > place(start)]
        answer: dict[str, Any] = {"Items": found[:PAGE]}
        if len(found) > PAGE:
            answer["LastEvaluatedKey"] = found[PAGE - 1]
        return answer


@dataclass
class Client:
    """What boto3's client is to a process: the same call is repeated as it was."""

    table: Table
    process: Process
    patient: bool

    def __getattr__(self, operation: str) -> Callable[..., dict[str, Any]]:
        return lambda **parameters: self._call(operation, parameters)

    @property
    def meta(self) -> SimpleNamespace:
        return SimpleNamespace(region_name="us-east-1")

    def _call(self, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        network, machine = self.table.network, self.process.machine
        self.process.may_die("before")
        self.table.calls[operation] += 1
        self.process.about.calls[operation] += 1
        error: Exception | None = None
        for attempt in range(3 if self.patient else 1):
            if attempt:
                network.backoff(attempt - 1)
            begin, end = machine.unreachable
            self.table.requests += 1
            try:
                answer: dict[str, Any] = network.attempt(
                    lambda: getattr(self.table, operation)(parameters),
                    10 if self.patient else 2,
                    reachable=network.is_calm or not begin <= network.world.now < end,
                )
                self.process.may_die("after")
                return self._answer() | answer
            except Throttled:
                error = self._error("ThrottlingException")
            except InternalError:
                error = self._error("InternalServerError")
            except ConditionFailed as failed:
                self.process.may_die("after")
                raise self._error("ConditionalCheckFailedException", failed.item) from None
            except TimeoutError:
                error = ReadTimeoutError(endpoint_url="dynamodb")
            except ConnectionError:
                error = EndpointConnectionError(endpoint_url="dynamodb")
        assert error
        raise error

    def _answer(self) -> dict[str, Any]:
        date = formatdate(int(EPOCH + 1000 + self.table.network.world.now), usegmt=True)
        headers = {"date": date, "x-amzn-requestid": "1"}
        return {"ResponseMetadata": {"HTTPHeaders": headers}}

    def _error(self, code: str, item: Item | None = None) -> ClientError:
        response: Any = self._answer() | {"Error": {"Code": code, "Message": ""}}
        return ClientError(response | ({"Item": item} if item else {}), "UpdateItem")


class ClientTable(RealTable):
    """The program's own calls, over a `Client` of the simulation."""

    simulated: Table

    def __init__(self, name: str, region: str | None, account: Account) -> None:
        super().__init__(name, region, account)
        simulated = self.simulated

        class SimulatedClient(RealClient):
            def _ready(self, instead_of: Any = None) -> tuple[Client, Any]:
                return Client(simulated, here(), self._patient), None

        self._client = SimulatedClient("dynamodb", account)


# --- Service Catalog ------------------------------------------------------------------------


@dataclass
class Taken:
    """The result that Service Catalog has of a record."""

    status: str
    token: str
    at: float
    sender: Process


@dataclass
class ServiceCatalog:
    network: Network
    taken: dict[str, Taken] = field(default_factory=dict)
    refused: list[tuple[float, str, Process]] = field(default_factory=list)
    told: Callable[[str, str], None] = lambda *_: None

    def notify(self, request: Request, sender: Process) -> bool:
        """Take a result, the first of a record; whether it has this one."""
        members = request.members
        record, token = members["RecordId"], members["IdempotencyToken"]
        known = self.taken.get(record)
        if known is None:
            now = self.network.world.now
            self.taken[record] = Taken(members["Status"], token, now, sender)
            self.told(record, f"takes {members['Status']}")
            return True
        if known.token != token:
            self.told(record, f"refuses {members['Status']}")
            self.refused.append((self.network.world.now, record, sender))
        return bool(known.token == token)


class Delivery:
    """Stands for `delivery.Delivery` in one process."""

    destination = "aws"
    region = "us-east-1"

    def __init__(self, catalog: ServiceCatalog, process: Process) -> None:
        self._catalog, self._process = catalog, process
        self.sending: Callable[[], None] = lambda: None

    def connect(self, region: str | None = None) -> None:
        pass

    def look(self) -> Callable[[], None]:
        return lambda: None

    def send(self, request: Request, region: str | None = None) -> None:
        network = self._catalog.network
        self.sending()
        cause, sent, throttled = "", False, False
        for attempt in range(3):
            if attempt:
                network.backoff(attempt - 1)
            try:
                if network.attempt(lambda: self._catalog.notify(request, self._process), 10):
                    return
            except (Throttled, InternalError) as error:
                cause, throttled = type(error).__name__, isinstance(error, Throttled)
            except TimeoutError:
                cause, sent = "Read timeout", True
            except ConnectionError:
                cause = "Could not connect"
            else:
                raise NotDelivered("InvalidParametersException: another result", refused=True)
        raise NotDelivered(cause, sent=sent, throttled=throttled and not sent)
