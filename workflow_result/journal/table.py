"""The calls to DynamoDB: over which client, and what goes wrong with them, for a person."""

import os
import threading
import time
from collections.abc import Mapping
from typing import Any, cast

from workflow_result.aside import Aside
from workflow_result.endpoint import is_on_this_machine
from workflow_result.journal.clock import Clock
from workflow_result.journal.store import JournalProblem
from workflow_result.problem import ExitCode
from workflow_result.undelivered import ADVICE, NotAnAnswer, SourceFailed, not_delivered

PATIENCE = 60.0
"""Seconds for which a source of credentials is waited for."""

LOOK_AGAIN = 60.0
"""Seconds after which credentials may have to be fetched anew, which may take long."""

_ADVICE = {
    **ADVICE,
    "EndpointConnection": "check the network and the table's region",
    "NoRegion": "set AWS_REGION, or name it in the URL: dynamodb://TABLE?region=REGION",
    "InvalidRegion": "give the table another region",
    "Expired": "renew the AWS credentials",
    "ValueError": "check AWS_ENDPOINT_URL_DYNAMODB, AWS_MAX_ATTEMPTS and the other AWS settings",
    "AccessDenied": "allow this action in the IAM policy of the role that runs this",
}


class Conflict(Exception):
    """A condition did not hold. `item` has the attributes of what is there, or is None."""

    def __init__(self, item: Mapping[str, Any] | None) -> None:
        super().__init__()
        self.item = item


class Table:
    """The DynamoDB table `name`, in `region` or else in that of the AWS settings of `profile`.

    Safe for use from many threads. `clock` goes by its answers. Every method raises
    `JournalProblem` where it cannot be asked.
    """

    def __init__(self, name: str, region: str | None, profile: str | None) -> None:
        self.clock = Clock()
        self._name = name
        self._region = (
            region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        )
        self._profile = profile
        self._client: Any = None
        self._sources: Any = None
        self._looked_at = 0.0
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
            client = self._ready()
            called = True
            try:
                answer: Mapping[str, Any] = getattr(client, operation)(
                    TableName=self._name, **parameters
                )
                self._hear(answer)
            except ClientError as error:
                self._hear(error.response)
                raise
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "ConditionalCheckFailedException" and called:
                raise Conflict(cast("dict[str, Any]", error.response).get("Item")) from None
            raise self._problem(error, code, called=called) from error
        except Exception as error:
            raise self._problem(error, "", called=called) from error
        return answer

    def wait_no_longer(self) -> None:
        """Try each call once from now on, and not for long."""
        with self._lock:
            self._patient = False
            self._client = None

    def _problem(self, error: Exception, code: str, *, called: bool) -> JournalProblem:
        what = f"the journal {self} cannot be used"
        if called and code == "ResourceNotFoundException":
            return JournalProblem(
                f"{what}: there is no such table in {self._client.meta.region_name}; "
                "terraform/journal makes one"
            )
        if called and code == "ValidationException":
            told = getattr(error, "response", {})["Error"].get("Message")
            return JournalProblem(
                f"{what}: it has another key or index than terraform/journal gives it: {told}"
            )
        cause = not_delivered(error, called=called, advice=_ADVICE)
        exit_code = ExitCode.SETUP if cause.setup else ExitCode.NOT_DELIVERED
        return JournalProblem(f"{what}: {cause.cause}", exit_code)

    def _hear(self, answer: Mapping[str, Any]) -> None:
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        self.clock.hear(headers.get("date"))
        # A proxy's web page would count as a write that was done.
        if "x-amzn-requestid" not in headers:
            raise NotAnAnswer("what answered is not AWS")

    def _ready(self) -> Any:
        """Return a client whose credentials are good now. Raises whatever stops that."""
        # Not in the thread: what is allocated in one costs more time and memory.
        import boto3  # noqa: F401

        with self._lock:
            if self._client is None or time.monotonic() > self._looked_at + LOOK_AGAIN:
                looking = Aside(self._look)
                if not looking.ends_within(PATIENCE):
                    failed = SourceFailed("any source", None)
                    if self._sources:
                        failed = self._sources.failed()
                    raise failed from TimeoutError("no answer in time")
                looking.result()
                self._looked_at = time.monotonic()
            return self._client

    def _look(self) -> None:
        if self._client is None:
            self._client = self._new_client()
        self._sources.fetch()

    def _new_client(self) -> Any:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import NoRegionError

        from workflow_result.credentials import Sources
        from workflow_result.loader import new_session

        session = new_session(self._profile)
        region = self._region or session.get_config_variable("region")
        if region is None:
            raise NoRegionError
        self._sources = Sources(session, region)
        url = os.environ.get("AWS_ENDPOINT_URL_DYNAMODB") or os.environ.get("AWS_ENDPOINT_URL")
        config = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard"})
        if not self._patient:
            config = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1})
        return boto3.session.Session(botocore_session=session).client(
            "dynamodb",
            region_name=region,
            # A proxy's "this machine" is another one.
            config=config.merge(Config(proxies={} if url and is_on_this_machine(url) else None)),
        )
