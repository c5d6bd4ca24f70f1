"""The calls to DynamoDB: over which client, and what goes wrong with them, for a person."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from workflow_result.account import Account
from workflow_result.client import CallFailed, Client
from workflow_result.journal.clock import Clock, steady
from workflow_result.journal.store import JournalProblem
from workflow_result.problem import ExitCode
from workflow_result.undelivered import ADVICE, not_delivered

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
        self._client = Client("dynamodb", account, region, read_timeout=10)

    def __str__(self) -> str:
        return f"dynamodb://{self._name}"

    def call(self, operation: str, **parameters: Any) -> Mapping[str, Any]:
        """Make a call, by boto3's name for it; return the answer.

        Raises `Conflict` where its condition does not hold.
        """

        def call(client: Any) -> Mapping[str, Any]:
            return self._answer(getattr(client, operation), parameters)

        try:
            return self._client.ask(call)
        except CallFailed as failed:
            if failed.code == "ConditionalCheckFailedException":
                raise Conflict(cast("Any", failed.error).response.get("Item")) from None
            raise self._problem(failed) from failed.error

    def query(self, **parameters: Any) -> Iterator[Mapping[str, Any]]:
        """Yield the attributes of each item that a query finds, page by page."""
        while True:
            answer = self.call("query", **parameters)
            yield from answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return
            parameters["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def wait_no_longer(self) -> None:
        """Try each call once from now on, and not for long."""
        self._client.wait_no_longer()

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
        self.clock.hear(answer["ResponseMetadata"]["HTTPHeaders"].get("date"), took)

    def _problem(self, failed: CallFailed) -> JournalProblem:
        what = f"the journal {self} cannot be used"
        if failed.code == "ResourceNotFoundException":
            region = self._region or self._account.region
            return JournalProblem(
                f"{what}: there is no such table in {region}; check its name, region and account "
                "(terraform/journal makes one)"
            )
        if failed.code == "ValidationException":
            told = cast("Any", failed.error).response["Error"].get("Message")
            return JournalProblem(
                f"{what}: it has another key or index than terraform/journal gives it: {told}"
            )
        cause = not_delivered(failed.error, called=failed.called, advice=_ADVICE)
        exit_code = ExitCode.SETUP if cause.setup else ExitCode.NOT_DELIVERED
        return JournalProblem(f"{what}: {cause.cause}", exit_code)
