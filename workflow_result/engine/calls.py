"""Calls that ask AWS's services something: over which client, and what goes wrong, for a person."""

from typing import Any

from workflow_result.account import Account
from workflow_result.client import CallFailed, Client
from workflow_result.problem import ExitCode, Problem
from workflow_result.undelivered import ADVICE, not_delivered

_KEY = "allow this role kms:Decrypt, in its IAM policy and in the key's"
_ADVICE = {
    # Before AccessDenied, which is a part of them.
    "KmsAccessDenied": _KEY,
    "KMS.AccessDenied": _KEY,
    **ADVICE,
    "EndpointConnection": "check the network and the region",
    "InvalidRegion": "give another region",
    "ValueError": "check AWS_MAX_ATTEMPTS, the endpoints and the other AWS settings",
}


class Unanswered(Problem):
    """A call was not answered, or with an error: AWS's `code` for it, empty where it has none.

    `cause` is for a person, in one line.
    """

    def __init__(self, exit_code: ExitCode, what: str, cause: str, code: str) -> None:
        super().__init__(exit_code, f"{what}: {cause}")
        self.cause = cause
        self.code = code


class Service:
    """The AWS service `name`, as boto3 calls it, in `account`.

    `region` is that of the account where it is None, `endpoint_url` that of the AWS settings.
    """

    def __init__(
        self,
        name: str,
        account: Account,
        region: str | None = None,
        endpoint_url: str | None = None,
    ) -> None:
        self._client = Client(name, account, region, endpoint_url)

    def call(self, what: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """Make a call, by boto3's name for the operation; return the answer.

        Raises `Unanswered`, which begins with `what`: SETUP where what is configured here cannot
        be used, else NOT_DELIVERED.
        """

        try:
            answer: dict[str, Any] = self._client.ask(
                lambda client: getattr(client, operation)(**parameters)
            )
            return answer
        except CallFailed as failed:
            cause = not_delivered(failed.error, called=failed.called, advice=_ADVICE)
            exit_code = ExitCode.SETUP if cause.setup else ExitCode.NOT_DELIVERED
            raise Unanswered(exit_code, what, cause.cause, failed.code) from failed.error
