"""What it means that a result was not delivered, and what a person can do about it.

The AWS API reference names two errors for these operations, InvalidParametersException and
ResourceNotFoundException; every AWS service has the common ones besides
(https://docs.aws.amazon.com/servicecatalog/latest/dg/CommonErrors.html).
"""

import shlex
from collections.abc import Mapping
from typing import Any

# What another attempt cannot change. ValidationException is not in the API reference, but it
# is what Service Catalog answers where a value breaks a constraint of its model.
REFUSALS = {"InvalidParametersException", "ResourceNotFoundException", "ValidationException"}

THROTTLES = {
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "LimitExceededException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "TransactionInProgressException",
}
"""The error codes that ask to call less often, in botocore's standard mode
(https://docs.aws.amazon.com/boto3/latest/guide/retries.html), beside this HTTP status."""
TOO_MANY_REQUESTS = 429

STALE = ("Expired", "UnrecognizedClient", "InvalidClientTokenId", "Signature")
"""Parts of the error codes of credentials that were good once and may have successors."""

# A part of an error code, and what the person who sees it can do.
ADVICE = {
    "AccessDenied": "allow this action in the IAM policy of the role that runs this",
    "Expired": "renew the AWS credentials",
    "UnrecognizedClient": "check the AWS credentials",
    "InvalidClientTokenId": "check the AWS credentials",
    "Signature": "check the AWS credentials and this machine's clock",
    "RequestTimeTooSkewed": "set this machine's clock",
    "OptInRequired": "enable the region for the account",
    "NoCredentials": "set AWS_PROFILE or AWS_ACCESS_KEY_ID, or run where a role gives them",
    "PartialCredentials": "set both the access key ID and the secret access key",
    "ProfileNotFound": "give another AWS_PROFILE or --profile",
    "ConfigParse": "mend this file",
    "InvalidConfig": "mend the profile in the AWS config file",
    "InfiniteLoopConfig": "mend the profile in the AWS config file",
    "MissingDependency": "or use another source of credentials",
    "Invalid endpoint": "an endpoint is http://HOST:PORT or https://HOST",
    "invalid literal for int": "check AWS_MAX_ATTEMPTS",
    "ValueError": "check --endpoint-url, AWS_MAX_ATTEMPTS and the other AWS settings",
    "SSLError": "check AWS_CA_BUNDLE and this machine's certificates",
    "NoRegion": "set AWS_REGION or give --region",
    "InvalidRegion": "give another --region, to `resend`, too",
    "EndpointConnection": "check the network and the endpoint, or give `resend` another --region",
    "ProxyConnection": "check HTTPS_PROXY and NO_PROXY",
}

# The same for errors of a source of credentials, where it is of no matter which source it is.
SOURCE_ADVICE = {
    "EOFError": "use credentials that need no MFA code: nobody is there to type it",
    "RefreshWithMFA": "use credentials that need no MFA code: nobody is there to type it",
    "SSLError": ADVICE["SSLError"],
    "EndpointConnection": "check the network",
    "ProxyConnection": ADVICE["ProxyConnection"],
    "ConnectTimeout": "check the network",
    "ReadTimeout": "check the network",
}

# botocore's name for a source of credentials, and what a person can do where it gives none.
SOURCES = {
    "assume-role": "check the role and its source of credentials in the profile, and the role's "
    "trust policy",
    "assume-role-with-web-identity": "check AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN (or the "
    "profile), and the role's trust policy",
    "container-role": "check AWS_CONTAINER_CREDENTIALS_FULL_URI, AWS_CONTAINER_AUTHORIZATION_TOKEN "
    "and what answers there",
    "custom-process": "run the profile's credential_process by hand: it has to print credentials "
    "and exit with 0",
    "iam-role": "check the instance's role and its metadata service",
    "login": "run `aws login{profile}`",
    "sso": "run `aws sso login{profile}`",
}
SSO_ROLE = "check sso_account_id and sso_role_name of the profile"
ANY_SOURCE = "check where the AWS credentials come from"


class NotDelivered(Exception):
    """Service Catalog has not taken a result. `cause` is for a person, in one line.

    `refused`: it never will. `sent`: it may have taken it all the same, and not said so.
    `setup`: nothing was asked, since what is configured here cannot be used. `throttled`: it was
    asked too often.
    """

    def __init__(
        self,
        cause: str,
        *,
        refused: bool = False,
        sent: bool = False,
        setup: bool = False,
        throttled: bool = False,
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.refused = refused
        self.sent = sent
        self.setup = setup
        self.throttled = throttled


class SourceFailed(Exception):
    """What should have given credentials has not; `__cause__` says why.

    `source` is botocore's name for it (`METHOD` of its class), `profile` the AWS profile in use.
    """

    def __init__(self, source: str, profile: str | None) -> None:
        super().__init__(source)
        self.source = source
        self.profile = profile


class NotAnAnswer(ValueError):
    """Something answered, but not AWS, or not to the end."""


def not_delivered(
    error: BaseException, *, called: bool, advice: Mapping[str, str] = ADVICE
) -> NotDelivered:
    """Return what `error` means for the result that was to be sent, with the `advice` for it.

    `called`: it comes from the call itself, not from what was made ready for it. Raises `error`
    where it is a defect of this program, or a package is missing.
    """
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectionClosedError,
        ParamValidationError,
        ReadTimeoutError,
    )

    if isinstance(error, SourceFailed):
        return NotDelivered(_source_failed(error))
    if isinstance(error, ClientError):
        code = error.response["Error"]["Code"]
        cause = f"{code}: {error.response['Error'].get('Message') or 'no message'}"
        if code in REFUSALS:
            return NotDelivered(_short(cause), refused=True)
        throttled = is_throttled(error.response)
        cause = _with_advice(cause, _advice(code, advice))
        return NotDelivered(cause, throttled=throttled)
    # What `check` let through and botocore would not send is a defect.
    if isinstance(error, ParamValidationError | ImportError):
        raise error
    if isinstance(error, KeyboardInterrupt):
        return NotDelivered("interrupted", sent=called)
    name = type(error).__name__
    # OSError: a certificate bundle that is missing. ValueError: an endpoint that is no URL,
    # or `NotAnAnswer`.
    if isinstance(error, BotoCoreError | OSError | ValueError):
        sent = isinstance(error, ReadTimeoutError | ConnectionClosedError | NotAnAnswer)
        if type(error) is ValueError:  # it says what it is in its text alone
            name += f": {error}"
        cause = _with_advice(_text(error), _advice(name, advice))
        return NotDelivered(cause, sent=sent, setup=not called)
    # What botocore trips over in settings and in answers.
    cause = _with_advice(
        f"{name} in botocore: {error}", _advice(name, advice) or "--debug shows where"
    )
    return NotDelivered(cause, sent=called, setup=not called)


def is_throttled(response: Mapping[str, Any]) -> bool:
    """Whether this answer, as botocore parses it, asks to call less often."""
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status == TOO_MANY_REQUESTS or response.get("Error", {}).get("Code") in THROTTLES


def is_stale(code: str) -> bool:
    """Whether an error of this code may be gone once the credentials are fetched anew."""
    return any(part in code for part in STALE)


def _source_failed(error: SourceFailed) -> str:
    """Return why this source of credentials has given none, and what to do."""
    from botocore.exceptions import BotoCoreError, ClientError

    cause = error.__cause__
    advice = SOURCES.get(error.source, ANY_SOURCE)
    if isinstance(cause, ClientError):
        text = f"{cause.operation_name}: {cause.response['Error']['Code']}: " + (
            cause.response["Error"].get("Message") or "no message"
        )
        if error.source == "sso":
            advice = SSO_ROLE
    elif isinstance(cause, BotoCoreError):
        text = _text(cause).partition(" To refresh this SSO session")[0]  # said better below
    else:
        text = f"no AWS credentials from {error.source}: {_text(cause)}"
    name = type(cause).__name__
    advice = next((text for part, text in SOURCE_ADVICE.items() if part in name), advice)
    profile = error.profile
    option = f" --profile {shlex.quote(profile)}" if profile else ""
    return _with_advice(text, advice.replace("{profile}", option))


def _text(error: BaseException | None) -> str:
    if isinstance(error, OSError) and isinstance(error.filename, str):
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return str(error) or type(error).__name__


def _advice(code: str, advice: Mapping[str, str]) -> str:
    return next((text for part, text in advice.items() if part in code), "")


def _with_advice(cause: str, advice: str) -> str:
    return f"{_short(cause)}; {advice}" if advice else _short(cause)


def _short(text: str) -> str:
    """One line of at most 400 characters, without a full stop: a sentence goes on after it."""
    line = " ".join(text.split())
    return (line if len(line) <= 400 else line[:399] + "…").rstrip(".")
