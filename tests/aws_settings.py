"""What the tests of credentials share: AWS configurations, good ones and broken ones."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path

import pytest

SECRET_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SESSION_TOKEN = "IQoJb3JpZ2luX2VjEJr//////////wEaCXVzLWVhc3QtMSJHMEUCIQDx\nTm90QVJlYWxUb2tlbg"
FUTURE = "2099-01-01T00:00:00Z"

ASSUMED = """\
<{0}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{0}Result>
<Credentials><AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>{1}</SecretAccessKey>
<SessionToken>{2}</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>
</{0}Result></{0}Response>
"""


class Place:
    """A home with an AWS configuration, and no source of credentials on this machine's network."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / ".aws"
        self.folder.mkdir()
        self.environment = {
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
        }

    def enter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have this process find nothing but what is here."""
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        for name, value in (self.environment | {"HOME": str(self.home)}).items():
            monkeypatch.setenv(name, value)

    def config(self, text: str) -> None:
        (self.folder / "config").write_text(text)

    def credentials(self, key_id: str, secret_key: str = SECRET_KEY, token: str = "") -> None:
        lines = f"aws_access_key_id = {key_id}\naws_secret_access_key = {secret_key}\n"
        lines += f"aws_session_token = {token}\n" if token else ""
        (self.folder / "credentials").write_text(f"[default]\n{lines}")

    def process(self, script: str, name: str = "give") -> Path:
        """A `credential_process` for the default profile."""
        file = self.home / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o700)
        self.config(f"[default]\ncredential_process = {file}\n")
        return file

    def printed(self, **members: str) -> Path:
        """What a `credential_process` can print."""
        file = self.home / "printed"
        keys = {"Version": 1, "AccessKeyId": "ASIAPROCESS", "SecretAccessKey": SECRET_KEY}
        file.write_text(json.dumps(keys | members))
        return file


def key_id(headers: Message) -> str:
    """Whose signature a call has."""
    return str(headers["Authorization"]).partition("Credential=")[2].partition("/")[0]


def error(code: str, message: str = "said so") -> tuple[int, bytes]:
    return 400, json.dumps({"__type": code, "message": message}).encode()


SSO = (
    "[default]\nsso_start_url = https://example.awsapps.com/start\nsso_region = us-east-1\n"
    "sso_account_id = 123456789012\nsso_role_name = engine\n"
)


def log_in(place: Place, expires: str = FUTURE, token: str = FUTURE) -> None:
    """What `aws sso login` leaves behind."""
    place.config(SSO)
    cache = place.folder / "sso" / "cache"
    cache.mkdir(parents=True)
    # botocore names it by the SHA-1 of the start URL.
    name = "e8be5486177c5b5392bd9aa76563515b29358e6e"
    (cache / f"{name}.json").write_text(json.dumps({"accessToken": token, "expiresAt": expires}))


Variables = dict[str, str]


@dataclass(frozen=True)
class Broken:
    """Settings with which no result can be sent.

    `cause` is what is said about it. `HOME` in it and in the settings is left open, as is `URL` in
    them, that of an endpoint which answers with `answer`. `is_setup`: nothing is configured, rather
    than that something fails.
    """

    name: str
    cause: str
    is_setup: bool = False
    config: str = ""
    variables: Variables = field(default_factory=dict)
    answer: tuple[int, bytes] = (500, b"out of order")
    prepare: Callable[[Place], object] = lambda _: None

    def set_up(self, place: Place, url: str) -> Variables:
        """Return the environment variables of it, where that endpoint is at `url`."""

        def insert(text: str) -> str:
            return text.replace("HOME", str(place.home)).replace("URL", url)

        if self.config:
            place.config(insert(self.config))
        self.prepare(place)
        given = {name: insert(value) for name, value in self.variables.items()}
        return {name: value for name, value in (place.environment | given).items() if value}

    def said(self, place: Place) -> str:
        return self.cause.replace("HOME", str(place.home))


KEYS = {"AWS_ACCESS_KEY_ID": "AKIAKEY", "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
NOWHERE = "http://127.0.0.1:1"
ROLE = "[default]\nrole_arn = arn:aws:iam::123456789012:role/engine\nsource_profile = keys\n"
ROLE_KEYS = f"[profile keys]\naws_access_key_id = a\naws_secret_access_key = {SECRET_KEY}\n"
WEB = {"AWS_WEB_IDENTITY_TOKEN_FILE": "HOME/jwt", "AWS_ROLE_ARN": "arn:aws:iam::1:role/engine"}
REFUSED = (
    b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error>"
    b"</ErrorResponse>"
)


def process(script: str) -> Callable[[Place], object]:
    return lambda place: place.process(script)


def jwt(place: Place) -> None:
    (place.home / "jwt").write_text("eyJhbGciOiJSUzI1NiJ9.e30.c2lnbmF0dXJl")


BROKEN = [
    Broken(
        "no region",
        "You must specify a region; set AWS_REGION or give --region",
        True,
        variables=KEYS | {"AWS_REGION": ""},
    ),
    Broken(
        "region",
        "Provided region_name 'us east' doesn't match a supported format; give another "
        "--region, to `resend`, too",
        True,
        variables=KEYS | {"AWS_REGION": "us east"},
    ),
    Broken(
        "no credentials",
        "Unable to locate credentials; set AWS_PROFILE or AWS_ACCESS_KEY_ID, or run where "
        "a role gives them",
        True,
    ),
    Broken(
        "no profile",
        "The config profile (nobody) could not be found; give another AWS_PROFILE or --profile",
        True,
        variables={"AWS_PROFILE": "nobody"},
    ),
    Broken(
        "half a key",
        "Partial credentials found in env, missing: AWS_SECRET_ACCESS_KEY; set both the "
        "access key ID and the secret access key",
        True,
        variables={"AWS_ACCESS_KEY_ID": "AKIAKEY"},
    ),
    Broken(
        "endpoint",
        "Invalid endpoint: 127.0.0.1:1; an endpoint is http://HOST:PORT or https://HOST",
        True,
        variables=KEYS | {"AWS_ENDPOINT_URL": "127.0.0.1:1"},
    ),
    Broken(
        "endpoint bracket",
        "Invalid IPv6 URL; check --endpoint-url, AWS_MAX_ATTEMPTS and the other AWS settings",
        True,
        variables=KEYS | {"AWS_ENDPOINT_URL": "http://["},
    ),
    Broken(
        "config",
        "Unable to parse config file: HOME/.aws/config; mend this file",
        True,
        "[default\nregion = us-east-1\n",
    ),
    Broken(
        "attempts",
        "invalid literal for int() with base 10: 'many'; check AWS_MAX_ATTEMPTS",
        True,
        variables=KEYS | {"AWS_MAX_ATTEMPTS": "many"},
    ),
    Broken(
        "no source",
        'The source_profile "keys" referenced in the profile "default" does not exist; '
        "mend the profile in the AWS config file",
        True,
        ROLE,
    ),
    Broken(
        "half of SSO",
        'The profile "default" is configured to use SSO but is missing required '
        "configuration: sso_start_url, sso_region; mend the profile in the AWS config "
        "file",
        True,
        "[default]\nsso_account_id = 1\nsso_role_name = engine\n",
    ),
    Broken(
        "process fails",
        "Error when retrieving credentials from custom-process: the vault is sealed; run "
        "the profile's credential_process by hand: it has to print credentials and exit "
        "with 0",
        prepare=process("echo the vault is sealed >&2; exit 1"),
    ),
    Broken(
        "process prints rubbish",
        "no AWS credentials from custom-process: Expecting value: line 1 column 1 (char "
        "0); run the profile's credential_process by hand: it has to print credentials "
        "and exit with 0",
        prepare=process("echo sealed"),
    ),
    Broken(
        "process gives half",
        "Error when retrieving credentials from custom-process: Missing required key in "
        "response: 'SecretAccessKey'; run the profile's credential_process by hand: it "
        "has to print credentials and exit with 0",
        prepare=process('echo \'{"Version": 1, "AccessKeyId": "a"}\''),
    ),
    Broken(
        "no process",
        "no AWS credentials from custom-process: HOME/nothing: No such file or directory; "
        "run the profile's credential_process by hand: it has to print credentials and "
        "exit with 0",
        config="[default]\ncredential_process = HOME/nothing\n",
    ),
    Broken(
        "container",
        "Error when retrieving credentials from container-role: Error retrieving "
        "metadata: Received non 200 response 500 from container metadata: out of order; "
        "check AWS_CONTAINER_CREDENTIALS_FULL_URI, AWS_CONTAINER_AUTHORIZATION_TOKEN and "
        "what answers there",
        variables={"AWS_CONTAINER_CREDENTIALS_FULL_URI": "URL"},
    ),
    Broken(
        "container gives half",
        "no AWS credentials from container-role: 'SecretAccessKey' is missing; check "
        "AWS_CONTAINER_CREDENTIALS_FULL_URI, AWS_CONTAINER_AUTHORIZATION_TOKEN and what "
        "answers there",
        variables={"AWS_CONTAINER_CREDENTIALS_FULL_URI": "URL"},
        answer=(200, b'{"AccessKeyId": "a"}'),
    ),
    Broken(
        "container token",
        "no AWS credentials from container-role: HOME/nothing: No such file or directory; "
        "check AWS_CONTAINER_CREDENTIALS_FULL_URI, AWS_CONTAINER_AUTHORIZATION_TOKEN and "
        "what answers there",
        variables={
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": "URL",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "HOME/nothing",
        },
    ),
    Broken(
        "no web identity",
        "no AWS credentials from assume-role-with-web-identity: HOME/jwt: No such file or "
        "directory; check AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN (or the profile), "
        "and the role's trust policy",
        variables=WEB,
    ),
    Broken(
        "web identity",
        "AssumeRoleWithWebIdentity: AccessDenied: not you; check "
        "AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN (or the profile), and the role's "
        "trust policy",
        variables=WEB | {"AWS_ENDPOINT_URL_STS": "URL"},
        answer=(403, REFUSED),
        prepare=jwt,
    ),
    Broken(
        "role",
        "AssumeRole: AccessDenied: not you; check the role and its source of credentials "
        "in the profile, and the role's trust policy",
        config=ROLE + ROLE_KEYS,
        variables={"AWS_ENDPOINT_URL_STS": "URL"},
        answer=(403, REFUSED),
    ),
    Broken(
        "no STS",
        'Could not connect to the endpoint URL: "http://127.0.0.1:1/"; check the network',
        config=ROLE + ROLE_KEYS,
        variables={"AWS_ENDPOINT_URL_STS": NOWHERE},
    ),
    Broken(
        "MFA",
        "no AWS credentials from assume-role: the role wants an MFA code; use credentials "
        "that need no MFA code: nobody is there to type it",
        config=ROLE + "mfa_serial = arn:aws:iam::1:mfa/m\n" + ROLE_KEYS,
    ),
    Broken(
        "SSO never",
        "Error loading SSO Token: Token for https://example.awsapps.com/start does not "
        "exist; run `aws sso login`",
        config=SSO,
    ),
    Broken(
        "SSO expired",
        "The SSO session associated with this profile has expired or is otherwise "
        "invalid; run `aws sso login`",
        prepare=lambda place: log_in(place, expires="2001-01-01T00:00:00Z"),
    ),
    Broken(
        "SSO in a profile",
        "Error loading SSO Token: Token for https://example.awsapps.com/start does not "
        "exist; run `aws sso login --profile 'e n'`",
        config=SSO.replace("default", "profile 'e n'"),
        variables={"AWS_PROFILE": "e n"},
    ),
    Broken(
        "SSO role",
        "GetRoleCredentials: ResourceNotFoundException: no such role; check "
        "sso_account_id and sso_role_name of the profile",
        variables={"AWS_ENDPOINT_URL_SSO": "URL"},
        answer=(404, b'{"__type": "ResourceNotFoundException", "message": "no such role"}'),
        prepare=log_in,
    ),
    Broken(
        "instance",
        "Unable to locate credentials; check the instance's role and its metadata service",
        variables={
            "AWS_EC2_METADATA_DISABLED": "false",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1",
        },
    ),
]
