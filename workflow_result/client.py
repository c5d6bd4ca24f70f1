"""A client of an AWS service whose credentials are good, however long a process lives."""

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from workflow_result.account import Account
from workflow_result.answers import of_aws_alone
from workflow_result.endpoint import is_on_this_machine
from workflow_result.undelivered import is_stale

if TYPE_CHECKING:
    from botocore.config import Config

    from workflow_result.credentials import Sources

T = TypeVar("T")

_VARIABLES = {"servicecatalog": "SERVICE_CATALOG", "stepfunctions": "SFN"}
"""AWS_ENDPOINT_URL_…, where that is another name than boto3's
(https://docs.aws.amazon.com/sdkref/latest/guide/ss-endpoints-table.html)."""


class CallFailed(Exception):
    """`error` stopped a call: in the call itself where it was `called`, else before it.

    `code` is AWS's for it, empty where it has none; `status` that of HTTP.
    """

    def __init__(self, error: Exception, *, called: bool) -> None:
        from botocore.exceptions import ClientError

        super().__init__(error)
        self.error = error
        self.called = called
        answer: Any = error.response if called and isinstance(error, ClientError) else {}
        self.code = str(answer.get("Error", {}).get("Code", ""))
        self.status = str(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))


class Client:
    """The AWS `service`, as boto3 calls it, in `account`, for which an answer has `read_timeout`
    seconds. What answers and is not AWS is an error.

    `region` is that of the account where it is None, `endpoint_url` that of the AWS settings. Safe
    for use from many threads.
    """

    def __init__(
        self,
        service: str,
        account: Account,
        region: str | None = None,
        endpoint_url: str | None = None,
        *,
        read_timeout: float = 60,
    ) -> None:
        self._service = service
        self._account = account
        self._region = region
        self._endpoint_url = endpoint_url
        self._read_timeout = read_timeout
        self._client: Any = None
        self._sources: Sources | None = None
        self._lock = threading.Lock()
        self._patient = True

    def ask(self, call: Callable[[Any], T]) -> T:
        """Return what `call` does with boto3's client. It is called again with other credentials
        where there are some, and those that it had are good no more.

        Raises `CallFailed`.
        """
        from botocore.exceptions import ClientError

        called = False
        try:
            client, sources = self._ready()
            called = True
            try:
                return call(client)
            except ClientError as error:
                if not is_stale(error.response["Error"]["Code"]):
                    raise
                called = False
                client, _ = self._ready(instead_of=sources)
                called = True
                return call(client)
        except Exception as error:
            raise CallFailed(error, called=called) from error

    def wait_no_longer(self) -> None:
        """Try each call once from now on, and not for long."""
        with self._lock:
            self._patient = False
            self._client = None

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

        config = settings(self._service, self._endpoint_url, self._read_timeout)
        if not self._patient:
            once = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1})
            config = config.merge(once)
        client, sources = self._account.client(
            self._service,
            self._region or self._account.region,
            self._endpoint_url,
            config,
            instead_of,
        )
        return of_aws_alone(client), sources


def settings(service: str, endpoint_url: str | None = None, read_timeout: float = 60) -> "Config":
    """Return how a client of this service, as boto3 calls it, behaves."""
    from botocore.config import Config

    variable = _VARIABLES.get(service, service.upper())
    url = (
        endpoint_url
        or os.environ.get(f"AWS_ENDPOINT_URL_{variable}")
        or os.environ.get("AWS_ENDPOINT_URL")
    )
    # A proxy's "this machine" is another one.
    proxies: dict[str, str] | None = {} if url and is_on_this_machine(url) else None
    return Config(
        connect_timeout=5,
        read_timeout=read_timeout,
        retries={"mode": "standard"},
        proxies=proxies,
    )
