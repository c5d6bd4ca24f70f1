"""The engine's calls to its own S3 bucket, and what goes wrong with them, for a person.

What fails here is not the order's fault, so it is a `Problem`.
"""

import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from workflow_result.account import Account
from workflow_result.client import CallFailed, Client
from workflow_result.problem import ExitCode, Problem
from workflow_result.undelivered import ADVICE, not_delivered

T = TypeVar("T")

_CHUNK = 2**20

_ADVICE = ADVICE | {
    "NoSuchBucket": "check --state-bucket, and the region",
    "PermanentRedirect": "the bucket is in another region: check AWS_REGION",
    "EndpointConnection": "check the network and the region",
    "ValueError": "check AWS_ENDPOINT_URL_S3, AWS_MAX_ATTEMPTS and the other AWS settings",
}

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

_ATTEMPTS = 3
"""How often an object is fetched at the most."""

_LASTING = ("NoSuchBucket", "AccessDenied", "PermanentRedirect", "AuthorizationHeaderMalformed")
"""Error codes that stay until somebody changes what is configured."""


@dataclass(frozen=True)
class Object:
    """What lies under a key: its content, and the ETag that tells it from what comes after it."""

    body: bytes
    etag: str


class StateBucket:
    """The bucket `name`, asked with the credentials of `account`.

    Raises `Problem` where no bucket can have this name; every method does where it cannot be asked.
    Safe for use from many threads.
    """

    def __init__(self, name: str, account: Account) -> None:
        if not _NAME.fullmatch(name):
            line = f"the state bucket {name} is none: its name alone is wanted, as terraform-states"
            raise Problem(ExitCode.SETUP, line)
        self.name = name
        self._client = Client("s3", account)

    def check(self) -> None:
        """See whether it is there, and can be read."""
        self.get("check")

    def get(self, key: str) -> Object | None:
        """Return what lies under `key`."""

        def read(answer: Any) -> Object:
            return Object(answer["Body"].read(), answer["ETag"])

        return self._ask(partial(self._take, key, read), absent="NoSuchKey")

    def has(self, key: str) -> bool:
        """Whether there is anything under `key`."""

        def has(s3: Any) -> bool:
            # HEAD would not tell a missing key from a missing bucket: its answers have no body.
            s3.get_object(Bucket=self.name, Key=key)["Body"].close()
            return True

        return bool(self._ask(has, absent="NoSuchKey"))

    def put(
        self, key: str, body: bytes, *, if_absent: bool = False, instead_of: str | None = None
    ) -> str | None:
        """Put `body` there, only where nothing is, or `instead_of` what has this ETag.

        Returns its ETag; None where there was something else.
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        """
        condition: dict[str, str] = {"IfNoneMatch": "*"} if if_absent else {}
        if instead_of:
            condition = {"IfMatch": instead_of}

        def put(s3: Any) -> str:
            answer = s3.put_object(Bucket=self.name, Key=key, Body=body, **condition)
            return str(answer["ETag"])

        return self._ask(put, absent="412 409 404" if condition else "")

    def delete(self, key: str, etag: str | None = None) -> None:
        """Delete what is there; where it has another ETag than the one that is given, it stays."""
        condition = {"IfMatch": etag} if etag else {}
        self._ask(
            lambda s3: s3.delete_object(Bucket=self.name, Key=key, **condition), absent="412 404"
        )

    def upload(self, file: Path, key: str) -> None:
        """Put the content of a file there."""
        self._ask(lambda s3: s3.upload_file(str(file), self.name, key))

    def download(self, key: str, file: Path) -> bool:
        """Write what lies under `key` to a file; whether there was anything."""

        def write(answer: Any) -> bool:
            with file.open("wb") as to:
                shutil.copyfileobj(answer["Body"], to, _CHUNK)
            return True

        return bool(self._ask(partial(self._take, key, write), absent="NoSuchKey"))

    def _take(self, key: str, take: Callable[[Any], T], s3: Any) -> T:
        """Return what `take` makes of the answer with an object. The SDK makes no second attempt
        where the connection breaks in an object's middle."""
        from botocore.exceptions import BotoCoreError

        for _ in range(_ATTEMPTS - 1):
            answer = s3.get_object(Bucket=self.name, Key=key)
            with suppress(BotoCoreError):
                return take(answer)
        return take(s3.get_object(Bucket=self.name, Key=key))

    def _ask(self, call: Callable[[Any], T], absent: str = "") -> T | None:
        """Return what `call` does with a client; None for an error of a code that is `absent`."""
        try:
            return self._client.ask(call)
        except CallFailed as failed:
            told = {failed.code, failed.status} - {""}
            if failed.code != "NoSuchBucket" and told & set(absent.split()):
                return None
            cause = not_delivered(failed.error, called=failed.called, advice=_ADVICE)
            raise Problem(
                ExitCode.SETUP
                if cause.setup or failed.code in _LASTING
                else ExitCode.NOT_DELIVERED,
                f"the state bucket {self.name} cannot be used: {cause.cause}",
            ) from failed.error
