"""The AWS account that a command works in: its region, its credentials, and clients with them."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from workflow_result.aside import Aside
from workflow_result.undelivered import SourceFailed

if TYPE_CHECKING:
    from workflow_result.credentials import Sources

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds for which a source of credentials is waited for."""


class Account:
    """What `region` and `profile` say, as those of the AWS CLI.

    What is None comes from where boto3 finds it, and the region from AWS_REGION first, which boto3
    does not read. Safe for use from many threads.
    """

    def __init__(self, region: str | None, profile: str | None) -> None:
        self._region = (
            region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        )
        self._profile = profile
        self._session: Any = None
        self._boto3: Any = None
        self._sources: Sources | None = None
        self._lock = threading.Lock()

    @property
    def region(self) -> str | None:
        """The region, or None where there is none, or where what is configured cannot be read."""
        if self._region is None:
            with suppress(Exception):
                found = self.new_session().get_config_variable("region")
                self._region = found if isinstance(found, str) else None
        return self._region

    def new_session(self) -> Any:
        """Return a session of botocore's, without credentials yet. Raises what botocore does."""
        from workflow_result.loader import new_session

        return new_session(self._profile)

    def client(
        self,
        service: str,
        region: str | None,
        endpoint_url: str | None,
        config: Any,
        instead_of: "Sources | None" = None,
    ) -> tuple[Any, "Sources"]:
        """Return a client of boto3's for a service, and what gives it its credentials.

        All of them have one session: credentials are asked for once. Where those that came from
        `instead_of` were not taken, it is another session. Raises whatever stops that.
        """
        import boto3
        from botocore.exceptions import NoRegionError

        from workflow_result.credentials import Sources

        with self._lock:
            session, sources = self._session, self._sources
            if session is None or sources is None or sources is instead_of:
                session, sources = self.new_session(), None
                # Another one for the same session would add its methods to S3's client again.
                self._boto3 = boto3.session.Session(botocore_session=session)
            if region is None:
                region = session.get_config_variable("region")  # raises what stopped `region`
            if region is None:
                raise NoRegionError
            if sources is None:
                sources = Sources(session, region)
                self._session, self._sources = session, sources
            client = self._boto3.client(
                service, region_name=region, endpoint_url=endpoint_url, config=config
            )
            return client, sources

    def within_patience(self, work: Callable[[], T]) -> T:
        """Return what `work` does: a `credential_process`, for example, may never end.

        Raises `SourceFailed` where it does not within `PATIENCE`.
        """
        # Not in the thread: what is allocated in one costs more time and memory.
        import boto3  # noqa: F401

        working = Aside(work)
        if not working.ends_within(PATIENCE):
            raise self.silence()
        return working.result()

    def silence(self) -> SourceFailed:
        """Return the error that says that a source of credentials does not answer."""
        sources = self._sources
        failed = sources.failed() if sources else SourceFailed("any source", None)
        failed.__cause__ = TimeoutError("no answer in time")
        return failed
