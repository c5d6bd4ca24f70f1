"""The calls to DynamoDB: over which client, and what goes wrong with them, for a person."""

import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from workflow_result.account import Account
from workflow_result.endpoint import is_on_this_machine
from workflow_result.journal.clock import Clock, steady
from workflow_result.journal.store import JournalProblem
from workflow_result.problem import ExitCode
from workflow_result.undelivered import ADVICE, NotAnAnswer, is_stale, not_delivered

if TYPE_CHECKING:
    from workflow_result.credentials import Sources

_ADVICE = {
    **ADVICE,
    "EndpointConnection": "check the network and the table's region",
    "NoRegion": "set AWS_REGION, or name it in the URL: dynamodb://TABLE?region=REGION",
    "InvalidRegion": "give the table another region",
    "ValueError": "check AWS_ENDPOINT_URL_DYNAMODB, AWS_MAX_ATTEMPTS and the other AWS settings",
}


class Conflict(Exception):
    """A condition did not hold. `item` has the attributes of what is there, or is None."""

    def __init__(self, item: Mapping[str, Any] | None) -> None:
        super().__init__()
        self.item = item


class Table:
    """The DynamoDB table `name`, in `region` or else in that of the `account`.

    Safe for use from many threads. `clock` goes by its answers. Every method raises
    `JournalProblem` where it cannot be asked.
    """

    def __init__(self, name: str, region: str | None, account: Account) -> None:
        self.clock = Clock()
        self._name = name
        self._region = region
        self._account = account
        self._client: Any = None
        self._sources: Sources | None = None
        self._lock = threading.Lock()
        self._patient = True

    def __str__(self) -> str:
        return f"dynamodb://{self._name}"

    def call(self, operation: str, **parameters: Any) -> Mapping[str, Any]:
        """Make a call, by boto3's name for it; return the answer.

        Raises `Conflict` where its condition does not hold.
        """
        from botocore.exceptions import ClientError

        called = False
        try:
            client, sources = self._ready()
            called = True
            try:
                return self._answer(getattr(client, operation), parameters)
            except ClientError as error:
                if not is_stale(_code(error)):
                    raise
                client, _ = self._ready(instead_of=sources)
                return self._answer(getattr(client, operation), parameters)
        except ClientError as error:
            if _code(error) == "ConditionalCheckFailedException" and called:
                raise Conflict(cast("dict[str, Any]", error.response).get("Item")) from None
            raise self._problem(error, _code(error), called=called) from error
        except Exception as error:
            raise self._problem(error, "", called=called) from error

    def wait_no_longer(self) -> None:
        """Try each call once from now on, and not for long."""
        with self._lock:
            self._patient = False
            self._client = None

    def _answer(
        self, method: Callable[..., Mapping[str, Any]], parameters: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        from botocore.exceptions import ClientError

        began = steady()
        try:
            answer = method(TableName=self._name, **parameters)
        except ClientError as error:
            self._hear(error.response, steady() - began)
            raise
        self._hear(answer, steady() - began)
        return answer

    def _hear(self, answer: Mapping[str, Any], took: float) -> None:
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        self.clock.hear(headers.get("date"), took)
        # A proxy's web page would count as a write that was done.
        if "x-amzn-requestid" not in headers:
            raise NotAnAnswer("what answered is not AWS")

    def _problem(self, error: Exception, code: str, *, called: bool) -> JournalProblem:
        what = f"the journal {self} cannot be used"
        if called and code == "ResourceNotFoundException":
            return JournalProblem(
                f"{what}: there is no such table in {self._client.meta.region_name}; check its "
                "name, region and account (terraform/journal makes one)"
            )
        if called and code == "ValidationException":
            told = getattr(error, "response", {})["Error"].get("Message")
            return JournalProblem(
                f"{what}: it has another key or index than terraform/journal gives it: {told}"
            )
        cause = not_delivered(error, called=called, advice=_ADVICE)
        exit_code = ExitCode.SETUP if cause.setup else ExitCode.NOT_DELIVERED
        return JournalProblem(f"{what}: {cause.cause}", exit_code)

    def _ready(self, instead_of: "Sources | None" = None) -> "tuple[Any, Sources]":
        """Return a client whose credentials are good now, and their sources.

        Others than those of `instead_of`, which were not taken. Raises whatever stops that.
        """
        with self._lock:
            if self._client is not None and self._sources is not None:
                if self._sources is not instead_of and not self._sources.may_be_asked():
                    return self._client, self._sources
                if self._sources is instead_of:
                    self._client = None
            self._account.within_patience(lambda: self._look(instead_of))
            assert self._sources
            return self._client, self._sources

    def _look(self, instead_of: "Sources | None") -> None:
        if self._client is None:
            self._client, self._sources = self._new_client(instead_of)
        if self._sources:
            self._sources.fetch()

    def _new_client(self, instead_of: "Sources | None") -> "tuple[Any, Sources]":
        from botocore.config import Config

        url = os.environ.get("AWS_ENDPOINT_URL_DYNAMODB") or os.environ.get("AWS_ENDPOINT_URL")
        # A proxy's "this machine" is another one.
        proxies: dict[str, str] | None = {} if url and is_on_this_machine(url) else None
        config = Config(
            connect_timeout=5, read_timeout=10, retries={"mode": "standard"}, proxies=proxies
        )
        if not self._patient:
            once = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1})
            config = config.merge(once)
        return self._account.client(
            "dynamodb", self._region or self._account.region, None, config, instead_of
        )


def _code(error: Any) -> str:
    return str(error.response["Error"]["Code"])
