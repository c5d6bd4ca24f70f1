"""Where the AWS credentials come from: asked in botocore's own order, and kept secret.

The sources and their order are botocore's
(https://docs.aws.amazon.com/boto3/latest/guide/credentials.html).
"""

from typing import Any

from botocore.credentials import CredentialResolver, create_credential_resolver
from botocore.exceptions import (
    ConfigParseError,
    InvalidConfigError,
    MissingDependencyException,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)
from botocore.session import Session

from workflow_result.secret import REAL_LENGTH, keep_secret
from workflow_result.undelivered import SourceFailed

NOT_SET_UP = (
    ConfigParseError,
    InvalidConfigError,  # InfiniteLoopConfigError is one, too
    MissingDependencyException,
    PartialCredentialsError,
    ProfileNotFound,
)
"""What says that no source is set up as it has to be, rather than that one failed."""


class Sources(CredentialResolver):
    """Gives credentials to all clients of `session`, and keeps them secret from then on.

    `region` is where roles are assumed.
    """

    def __init__(self, session: Session, region: str) -> None:
        usual = create_credential_resolver(session, region_name=region)
        super().__init__(usual.providers)
        # botocore would ask at the terminal for the code, and wait.
        assume_role: Any = usual.get_provider("assume-role")
        assume_role._prompter = _no_mfa_code
        self._session = session
        self._credentials: Any = None
        self._kept: tuple[str | None, ...] = ()
        self.asked = "any source"
        """Which source was asked last."""
        session.register_component("credential_provider", self)
        # Sent at each attempt of each call, those to STS and SSO included, after a refresh, too.
        session.register("before-sign", self._keep_what_signs)

    def load_credentials(self) -> Any:
        """Return the credentials of the first source that has some, as botocore calls for them.

        Raises `NoCredentialsError` where there is none, `SourceFailed` where one fails, and one
        of `NOT_SET_UP`.
        """
        for provider in self.providers:
            self.asked = str(provider.METHOD)
            try:
                self._credentials = provider.load()
            except NOT_SET_UP:
                raise
            except Exception as error:
                raise self.failed() from error
            if self._credentials is not None:
                return self._credentials
        # An endpoint of the instance metadata that somebody has named is there, but silent.
        if self._session.get_config_variable("ec2_metadata_service_endpoint"):
            raise self.failed() from NoCredentialsError()
        raise NoCredentialsError

    def fetch(self) -> tuple[str | None, ...]:
        """Return the access key ID, secret access key and session token that are good now.

        Some sources are not asked before this. Raises `SourceFailed`.
        """
        self.asked = self._credentials.method
        try:
            now = self._credentials.get_frozen_credentials()
        except NOT_SET_UP:
            raise
        except Exception as error:
            raise self.failed() from error
        keys = (now.access_key, now.secret_key, now.token)
        self._keep(keys)
        return keys

    def may_be_asked(self) -> bool:
        """Whether what is good now has to be had from a source, which may take its time."""
        needed = getattr(self._credentials, "refresh_needed", None)
        return bool(needed and needed())

    def failed(self) -> SourceFailed:
        """Return the error that says that the source asked last has given nothing."""
        return SourceFailed(self.asked, self._session.get_config_variable("profile"))

    def _keep_what_signs(self, **event: Any) -> None:
        # Some sources are given a token instead of a signature.
        request = event["request"]
        _keep_secret(request.headers.get("x-amz-sso_bearer_token"), "(SSO token)")
        if isinstance(request.data, dict):
            _keep_secret(request.data.get("WebIdentityToken"), "(web identity token)")
        if (credentials := event["request_signer"]._credentials) is not None:
            now = credentials.get_frozen_credentials()
            self._keep((now.access_key, now.secret_key, now.token))

    def _keep(self, keys: tuple[str | None, ...]) -> None:
        if keys != self._kept:
            _keep_secret(keys[1], "(AWS_SECRET_ACCESS_KEY)")
            _keep_secret(keys[2], "(AWS_SESSION_TOKEN)")
            self._kept = keys


def _keep_secret(value: object, stand_in: str) -> None:
    """Hide `value` as it is, in one line, and as the HTTP library quotes it (`repr` of bytes)."""
    if isinstance(value, str) and len(value) >= REAL_LENGTH:
        for form in {value, " ".join(value.split()), ascii(value)[1:-1]}:
            keep_secret(form, stand_in)


def _no_mfa_code(_: str) -> str:
    raise EOFError("the role wants an MFA code")
