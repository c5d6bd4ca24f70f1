"""The one call to AWS: over which client, with which credentials, to which endpoint."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from workflow_result import endpoint
from workflow_result.account import Account
from workflow_result.aside import Aside
from workflow_result.request import Request
from workflow_result.schemas import API_OPERATIONS
from workflow_result.undelivered import is_stale, not_delivered

if TYPE_CHECKING:
    from workflow_result.credentials import Sources

LOOK = 8.0
"""Seconds for which a source of credentials is waited for, once all is ready to be applied."""

FAILED_FOR = 10.0
"""Seconds for which a source of credentials that failed is not asked again: `resend` may have
thousands of results to send."""


@dataclass
class _Client:
    """A client of Service Catalog, and what signs for it."""

    api: Any
    sources: "Sources"
    keys: tuple[str | None, ...] = ()
    doubtful: bool = False
    """Whether its credentials were fetched anew, and have not been good for a call since."""


class Delivery:
    """Sends requests to Service Catalog, all over one client for a region.

    `region` and `profile` are those of `Account`, `endpoint_url` that of the AWS CLI. `at_once` is
    how many threads may send at the same time. With more than one, a call that is throttled is not
    repeated here: whoever sends that many has to slow all of them down, see
    `NotDelivered.throttled`.
    """

    def __init__(
        self,
        region: str | None,
        profile: str | None,
        endpoint_url: str | None,
        at_once: int = 1,
    ) -> None:
        self.account = Account(region, profile)
        self._endpoint_url = endpoint_url
        self._at_once = at_once
        self._clients: dict[str | None, _Client] = {}
        self._failures: dict[str | None, tuple[float, Exception]] = {}
        self._lock = threading.Lock()

    @cached_property
    def destination(self) -> str:
        """Which records these are: those of AWS, or those of a sandbox on this machine."""
        url = self._endpoint_url
        if not url and endpoint.is_configured():
            with suppress(Exception):
                url = self._configured_endpoint()
        url = (
            url
            or os.environ.get("AWS_ENDPOINT_URL_SERVICE_CATALOG")
            or os.environ.get("AWS_ENDPOINT_URL")
        )
        return "sandbox" if url and endpoint.is_on_this_machine(url) else "aws"

    @property
    def region(self) -> str | None:
        """Where results go."""
        return self.account.region

    def connect(self, region: str | None = None) -> None:
        """Make the client before it is needed. Where it cannot be made, `send` says why."""
        with suppress(Exception):
            self._ready(region)

    def api(self) -> Any:
        """Return the client of boto3's, with credentials that are good now.

        Raises whatever stops that.
        """
        return self._client(self.region).api

    def look(self) -> Callable[[], None]:
        """Begin to look, in a thread, at region, endpoint and credentials. Nothing is sent.

        Returns a function that waits for the end of it, for `LOOK` seconds at most. It raises
        `NotDelivered` where no result could be sent (`setup`: not before somebody has changed what
        is configured here).
        """
        looking = Aside(lambda: self._client(self.region))

        def wait() -> None:
            try:
                if not looking.ends_within(LOOK):
                    raise self.account.silence()
                looking.result()
            except Exception as error:
                raise not_delivered(error, called=False) from error

        return wait

    def send(self, request: Request, region: str | None = None) -> None:
        """Report one result, in this region or in that of this `Delivery`.

        Returns when Service Catalog has it, now or from earlier. Raises `NotDelivered`.
        """
        from botocore.exceptions import ClientError

        called = False
        try:
            client = self._ready(region)
            called = True
            try:
                _notify(client, request)
            except ClientError as error:
                if not is_stale(error.response["Error"]["Code"]):
                    raise
                renewed = self.account.within_patience(
                    lambda: self._renew(region or self.region, client)
                )
                if renewed is None:
                    raise
                _notify(renewed, request)
        except (Exception, KeyboardInterrupt) as error:
            raise not_delivered(error, called=called) from error

    def _ready(self, region: str | None) -> _Client:
        """Return a client whose credentials are good now. Raises whatever stops that."""
        region = region or self.region
        client = self._clients.get(region)
        # Without the thread of `within_patience`, which costs a tenth of a call.
        if client and client.keys and not client.sources.may_be_asked():
            return client
        failed_at, failure = self._failures.get(region, (-FAILED_FOR, None))
        if failure and time.monotonic() < failed_at + FAILED_FOR:
            raise failure
        try:
            ready = self.account.within_patience(lambda: self._client(region))
        except Exception as error:
            self._failures[region] = (time.monotonic(), error)
            raise
        return ready

    def _client(self, region: str | None) -> _Client:
        with self._lock:
            if region not in self._clients:
                self._clients[region] = self._new_client(region)
            client = self._clients[region]
        client.keys = client.sources.fetch()
        return client

    def _renew(self, region: str | None, stale: _Client) -> _Client | None:
        """Return a client with other credentials than those that Service Catalog did not take.

        None: there are no others, or others were tried. Raises `SourceFailed`.
        """
        with self._lock:
            if self._clients[region] is not stale:  # another thread was faster
                return self._clients[region]
            if stale.doubtful:
                return None
            stale.doubtful = True
            renewed = self._new_client(region, stale.sources)
            renewed.keys = renewed.sources.fetch()
            if renewed.keys == stale.keys:
                return None
            renewed.doubtful = True
            self._clients[region] = renewed
            return renewed

    def _new_client(self, region: str | None, instead_of: "Sources | None" = None) -> _Client:
        from botocore.config import Config

        from workflow_result.answers import check_answer, leave_throttled

        # An answer takes Service Catalog well under a second. Standard mode makes three
        # attempts (AWS_MAX_ATTEMPTS changes that), so no call lasts longer than a minute.
        config = Config(
            connect_timeout=5,
            read_timeout=10,
            retries={"mode": "standard"},
            max_pool_connections=self._at_once,
            # A proxy's "this machine" is another one.
            proxies={} if self.destination == "sandbox" else None,
        )
        client, sources = self.account.client(
            "servicecatalog", region, self._endpoint_url, config, instead_of
        )
        client.meta.events.register("after-call.service-catalog", check_answer)
        if self._at_once > 1:
            client.meta.events.register_first("needs-retry.service-catalog", leave_throttled)
        return _Client(client, sources)

    def _configured_endpoint(self) -> str:
        """Return the endpoint of a client like ours, but for what may take long or be missing:
        credentials. The result is not on disk yet when this is asked."""
        client = self.account.new_session().create_client(
            "servicecatalog",
            region_name=self.region or "us-east-1",
            aws_access_key_id="none",
            aws_secret_access_key="none",
        )
        return str(client.meta.endpoint_url)


def _notify(client: _Client, request: Request) -> None:
    # The API operation's name, as boto3 names its methods.
    call = client.api.meta.method_to_api_mapping
    method = next(m for m, api in call.items() if api == API_OPERATIONS[request.operation])
    getattr(client.api, method)(**request.members)
    client.doubtful = False
