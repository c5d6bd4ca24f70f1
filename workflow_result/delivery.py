"""The one call to AWS, and what each way it can fail means.

The AWS API reference names two errors for these operations, InvalidParametersException and
ResourceNotFoundException; every AWS service has the common ones besides
(https://docs.aws.amazon.com/servicecatalog/latest/dg/CommonErrors.html).
"""

import ipaddress
import os
import re
import socket
import threading
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from workflow_result.request import Request
from workflow_result.schemas import API_OPERATIONS

# What another attempt cannot change. ValidationException is not in the API reference, but it
# is what Service Catalog answers where a value breaks a constraint of its model.
REFUSALS = {"InvalidParametersException", "ResourceNotFoundException", "ValidationException"}

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
    "ProfileNotFound": "give another AWS_PROFILE or --profile",
    "ConfigParse": "mend this file",
    "ValueError": "check --endpoint-url, AWS_MAX_ATTEMPTS and the other AWS settings",
    "EOFError": "use credentials that need no MFA code: nobody is there to type it",
    "SSLError": "check AWS_CA_BUNDLE and this machine's certificates",
    "NoRegion": "set AWS_REGION or give --region",
    "InvalidRegion": "give another --region, to `resend`, too",
    "EndpointConnection": "check the network and the endpoint, or give `resend` another --region",
}


class NotDelivered(Exception):
    """Service Catalog has not taken a result. `cause` is for a person, in one line.

    `refused`: it never will. `sent`: it may have taken it all the same, and not said so.
    """

    def __init__(self, cause: str, *, refused: bool = False, sent: bool = False) -> None:
        super().__init__(cause)
        self.cause = cause
        self.refused = refused
        self.sent = sent


class Delivery:
    """Sends requests to Service Catalog, all over one client for a region.

    `region`, `profile` and `endpoint_url` are those of the AWS CLI; what is None comes from
    where boto3 finds it, and the region from AWS_REGION first, which boto3 does not read.
    `at_once` is how many threads may send at the same time.
    """

    def __init__(
        self,
        region: str | None,
        profile: str | None,
        endpoint_url: str | None,
        at_once: int = 1,
    ) -> None:
        self._region = (
            region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        )
        self._profile = profile
        self._endpoint_url = endpoint_url
        self._at_once = at_once
        self._clients: dict[str | None, Any] = {}
        self._lock = threading.Lock()

    @property
    def destination(self) -> str:
        """Which records these are: those of AWS, or those of a sandbox on this machine."""
        url = self._endpoint_url
        if not url and _is_endpoint_configured():
            with suppress(Exception):
                url = self._configured_endpoint()
        url = (
            url
            or os.environ.get("AWS_ENDPOINT_URL_SERVICE_CATALOG")
            or os.environ.get("AWS_ENDPOINT_URL")
        )
        return "sandbox" if url and _is_on_this_machine(url) else "aws"

    @property
    def region(self) -> str | None:
        """Where results go."""
        if self._region is None:
            with suppress(Exception):
                found = self._session().get_config_variable("region")
                self._region = found if isinstance(found, str) else None
        return self._region

    def connect(self, region: str | None = None) -> None:
        """Make the client before it is needed. Where it cannot be made, `send` says why."""
        with suppress(Exception):
            self._client(region)

    def send(self, request: Request, region: str | None = None) -> None:
        """Report one result, in this region or in that of this `Delivery`.

        Returns when Service Catalog has it, now or from earlier. Raises `NotDelivered`.
        """
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            ConnectionClosedError,
            ParamValidationError,
            ReadTimeoutError,
        )

        try:
            client = self._client(region)
            # The API operation's name, as boto3 names its methods.
            call = client.meta.method_to_api_mapping
            method = next(m for m, api in call.items() if api == API_OPERATIONS[request.operation])
            getattr(client, method)(**request.members)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            cause = f"{code}: {error.response['Error'].get('Message') or 'no message'}"
            if code in REFUSALS:
                raise NotDelivered(_short(cause), refused=True) from error
            raise NotDelivered(_with_advice(code, cause)) from error
        # What `check` let through and botocore would not send is a defect.
        except (ParamValidationError, ModuleNotFoundError):
            raise
        except KeyboardInterrupt:
            raise NotDelivered("interrupted", sent=True) from None
        # OSError: a certificate bundle that is missing. ValueError: an endpoint that is no URL,
        # or `_NotAnAnswer`.
        except (BotoCoreError, OSError, ValueError) as error:
            cause = _with_advice(type(error).__name__, str(error) or type(error).__name__)
            sent = isinstance(error, ReadTimeoutError | ConnectionClosedError | _NotAnAnswer)
            raise NotDelivered(cause, sent=sent) from error
        except Exception as error:  # what botocore trips over in settings and in answers
            name = type(error).__name__
            cause = f"{name} in botocore: {error}"
            raise NotDelivered(
                _with_advice(name, cause, "--debug shows where"), sent=True
            ) from error

    def _client(self, region: str | None) -> Any:
        region = region or self.region
        with self._lock:
            if region not in self._clients:
                self._clients[region] = self._new_client(region)
            return self._clients[region]

    def _new_client(self, region: str | None) -> Any:
        import boto3
        from botocore.config import Config

        client = boto3.session.Session(botocore_session=self._session()).client(
            "servicecatalog",
            region_name=region,
            endpoint_url=self._endpoint_url,
            # An answer takes Service Catalog well under a second. Standard mode makes three
            # attempts (AWS_MAX_ATTEMPTS changes that), so no call lasts longer than a minute.
            config=Config(
                connect_timeout=5,
                read_timeout=10,
                retries={"mode": "standard"},
                max_pool_connections=self._at_once,
            ),
        )
        client.meta.events.register("after-call.service-catalog", _check_answer)
        return client

    def _session(self) -> Any:
        import botocore.session

        from workflow_result.loader import ServiceCatalogLoader

        session = botocore.session.Session(profile=self._profile)
        session.register_component("data_loader", ServiceCatalogLoader(session))
        return session

    def _configured_endpoint(self) -> str:
        """Return the endpoint of a client like ours, but for what may take long or be missing:
        credentials. The result is not on disk yet when this is asked."""
        client = self._session().create_client(
            "servicecatalog",
            region_name=self.region or "us-east-1",
            aws_access_key_id="none",
            aws_secret_access_key="none",
        )
        return str(client.meta.endpoint_url)


def _is_endpoint_configured() -> bool:
    """Whether the AWS configuration files may have a say in which endpoint is used.

    https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
    """
    if "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS" in os.environ:
        return True
    for variable, name in (
        ("AWS_CONFIG_FILE", "~/.aws/config"),
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
    ):
        path = os.path.expanduser(os.path.expandvars(os.environ.get(variable, name)))
        with suppress(OSError), open(path, "rb") as file:
            if b"endpoint_url" in file.read():
                return True
    return False


def _is_on_this_machine(url: str) -> bool:
    try:
        # What lacks a part of its scheme is meant for the same place, though nobody can send there.
        host = (urlsplit(re.sub(r"^(https?:)?/*", "//", url)).hostname or "").rstrip(".")
        if host == "localhost" or host.endswith(".localhost"):
            return True
        with suppress(OSError):
            host = socket.inet_ntoa(socket.inet_aton(host))  # 127.1 is an address, too
        address = ipaddress.ip_address(host)
    except ValueError:  # no address, or no URL; `send` says so
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


class _NotAnAnswer(ValueError):
    """Something answered, but not Service Catalog, or not to the end."""


def _check_answer(http_response: Any, **_: Any) -> None:
    # botocore does not look at the body where an operation has no output: to it a proxy's web
    # page and half an answer are successes, as long as their status is 200. AWS API reference:
    # "If the action is successful, the service sends back an HTTP 200 response with an empty
    # HTTP body", which is an empty object in its JSON protocol.
    body, status = http_response.content, http_response.status_code
    length = http_response.headers.get("Content-Length", str(len(body)))
    is_empty = body.strip() in (b"", b"{}") and length == str(len(body))
    if status < 300 and not (status == 200 and is_empty):
        raise _NotAnAnswer(f"what answered at {http_response.url} is not AWS, or broke off")


def _with_advice(code: str, cause: str, otherwise: str = "") -> str:
    advice = next((text for part, text in ADVICE.items() if part in code), otherwise)
    return f"{_short(cause)}; {advice}" if advice else _short(cause)


def _short(text: str) -> str:
    """One line of at most 400 characters, without a full stop: a sentence goes on after it."""
    line = " ".join(text.split())
    return (line if len(line) <= 400 else line[:399] + "…").rstrip(".")
