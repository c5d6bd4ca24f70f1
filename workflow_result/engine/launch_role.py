"""The launch role of a product: its credentials, and how Terraform gets at them.

Terraform, its providers with all their aliases, and what provisioners start have the launch role
as the default profile; the backend alone has the engine's own role, as the profile `engine`.
"""

import json
import os
import re
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from workflow_result.account import Account
from workflow_result.answers import of_aws_alone
from workflow_result.client import CallFailed, Client, settings
from workflow_result.problem import ExitCode, Problem, Style, say
from workflow_result.secret import keep_secret
from workflow_result.undelivered import ADVICE, not_delivered

_ARN = re.compile(r"arn:aws[a-z-]*:iam::([0-9]{12}):role/[A-Za-z0-9+=,.@_/-]+")

_RENEWED_EVERY = 120.0
"""Seconds between two looks at credentials that may expire."""

_GOOD_FOR = timedelta(minutes=10)
"""How long the engine's own credentials are said to be good. They are written anew before."""

_LEFT = timedelta(minutes=30)
"""The launch role's are fetched anew once they are good for less than that. A role that is assumed
by a role is so for an hour at most
(https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles.html#iam-term-role-chaining)."""

_ADVICE = ADVICE | {
    "EndpointConnection": "check the network and the region",
    "ValueError": "check AWS_ENDPOINT_URL_STS, AWS_MAX_ATTEMPTS and the other AWS settings",
}

_NOT_FOR_TERRAFORM = re.compile(
    r"AWS_(ACCESS_KEY(_ID)?|SECRET_(ACCESS_)?KEY|SESSION_TOKEN|SECURITY_TOKEN|(DEFAULT_)?PROFILE|"
    r"ROLE_ARN|ROLE_SESSION_NAME|WEB_IDENTITY_TOKEN_FILE|CONTAINER_.*|CONFIG_FILE|"
    r"SHARED_CREDENTIALS_FILE|EC2_METADATA_.*)"
)
"""Variables that would give it the engine's role, or another one: Go's SDK takes AWS_ACCESS_KEY
too, before any profile (https://pkg.go.dev/github.com/aws/aws-sdk-go-v2/config#EnvConfig)."""


class NotAssumed(Exception):
    """The launch role cannot be used. Its text is for the person who ordered."""


def account_of(role: str) -> str:
    """Return the account of a role's ARN. Raises `NotAssumed` where it is no ARN of a role."""
    arn = _ARN.fullmatch(role)
    if not arn:
        raise NotAssumed(f"The launch role {role} is no ARN of an IAM role.")
    return arn[1]


class LaunchRole:
    """The role with the ARN `role`, assumed with the credentials of `account` for a `session`."""

    def __init__(self, role: str, session: str, account: Account) -> None:
        self._role = role
        self._session = re.sub("[^A-Za-z0-9=,.@_-]", "-", session)[:64]
        self._account = account
        self._sts = Client("sts", account)
        self._credentials: dict[str, Any] = {}
        self._folder = Path()
        self._ended = threading.Event()

    def assume(self) -> None:
        """Fetch its credentials.

        Raises `NotAssumed` where it may not be assumed, and `Problem` where STS cannot be asked.
        """
        account_of(self._role)
        try:
            answer = self._sts.ask(
                lambda sts: sts.assume_role(RoleArn=self._role, RoleSessionName=self._session)
            )
        except CallFailed as failed:
            if failed.code in ("AccessDenied", "ValidationError", "MalformedPolicyDocument"):
                said = getattr(failed.error, "response", {})["Error"].get("Message")
                raise NotAssumed(
                    f"The launch role {self._role} could not be assumed: {failed.code}: {said}. "
                    "Check its trust policy: the engine's role has to be in it."
                ) from failed.error
            raise self._problem(failed) from failed.error
        self._credentials = answer["Credentials"]
        for name in ("SecretAccessKey", "SessionToken"):
            keep_secret(self._credentials[name], f"(launch role's {name})")

    def client(self, service: str, region: str | None) -> Any:
        """Return a client of boto3's that has the role's credentials."""
        import boto3

        new: Any = boto3.session.Session(
            botocore_session=self._account.new_session(),
            aws_access_key_id=self._credentials["AccessKeyId"],
            aws_secret_access_key=self._credentials["SecretAccessKey"],
            aws_session_token=self._credentials["SessionToken"],
        ).client
        return of_aws_alone(new(service, region_name=region, config=settings(service)))

    def write(self, folder: Path) -> dict[str, str]:
        """Write the profiles for Terraform to `folder`, and keep them good until `close`.

        Returns Terraform's environment: with them, and with no other credentials.
        """
        self._folder = folder
        self._write("engine", self._engines())
        self._write("launch", self._launch())
        config = folder / "aws.config"
        profiles = (("default", "launch"), ("profile engine", "engine"))
        config.write_text(
            "".join(
                f'[{profile}]\ncredential_process = /bin/cat "{folder / name}.json"\n'
                for profile, name in profiles
            )
        )
        threading.Thread(target=self._keep_good, daemon=True).start()
        kept = {n: v for n, v in os.environ.items() if not _NOT_FOR_TERRAFORM.fullmatch(n)}
        return kept | {
            "AWS_CONFIG_FILE": str(config),
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_REGION": self._account.region or "",
            "AWS_DEFAULT_REGION": self._account.region or "",
        }

    def close(self) -> None:
        """Renew them no longer."""
        self._ended.set()

    def _keep_good(self) -> None:
        warned = False
        while not self._ended.wait(_RENEWED_EVERY):
            try:
                self._write("engine", self._engines())
                if self._credentials["Expiration"] - datetime.now(UTC) < _LEFT:
                    self.assume()
                    self._write("launch", self._launch())
                warned = False
            except Exception as error:  # they are good for a while yet
                reason = error.lines[0] if isinstance(error, Problem) else str(error)
                if not warned:
                    say(f"warning: credentials could not be renewed: {reason}", Style.YELLOW)
                warned = True

    def _engines(self) -> dict[str, str]:
        _, sources = self._account.client("sts", self._account.region, None, settings("sts"))
        key, secret, token = self._account.within_patience(sources.fetch)
        keys = {"AccessKeyId": str(key), "SecretAccessKey": str(secret)}
        if token:
            expires = datetime.now(UTC) + _GOOD_FOR
            keys |= {"SessionToken": str(token), "Expiration": expires.isoformat()}
        return keys

    def _launch(self) -> dict[str, str]:
        expires = self._credentials["Expiration"].astimezone(UTC).isoformat()
        return {**self._credentials, "Expiration": expires}

    def _write(self, name: str, keys: Mapping[str, str]) -> None:
        """Put them in the place of the earlier ones: somebody may read these right now.

        https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html
        """
        new = self._folder / f"{name}.new"
        new.touch(mode=0o600)
        new.write_text(json.dumps({"Version": 1, **keys}))
        new.replace(self._folder / f"{name}.json")

    def _problem(self, failed: CallFailed) -> Problem:
        cause = not_delivered(failed.error, called=failed.called, advice=_ADVICE)
        return Problem(
            ExitCode.SETUP if cause.setup else ExitCode.NOT_DELIVERED,
            f"the launch role {self._role} could not be assumed: {cause.cause}; nothing was run",
        )
