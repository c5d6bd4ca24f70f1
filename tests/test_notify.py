"""`notify`: the call, what each answer of Service Catalog means, and what stays unsaid."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from conftest import CREDENTIALS, MAIN, UUID_TOKEN, Program, Sandbox, clean_environment

REQUEST: dict[str, Any] = {
    "WorkflowToken": UUID_TOKEN,
    "RecordId": "rec-demo",
    "Status": "SUCCEEDED",
}
FULL = REQUEST | {
    "FailureReason": "none, really",
    "Outputs": [
        {"OutputKey": "url", "OutputValue": "https://example.com/ü", "Description": "Where"},
        {"OutputKey": "bare"},
    ],
    "ResourceIdentifier": {"UniqueTag": {"Key": "k", "Value": "pp-1"}},
}
API = {
    "provision": "notify_provision_product_engine_workflow_result",
    "update": "notify_update_provisioned_product_engine_workflow_result",
    "terminate": "notify_terminate_provisioned_product_engine_workflow_result",
}
SAVED = "It is saved: `resend` sends it"


def test_result_ends_the_record(program: Program, sandbox: Sandbox) -> None:
    outcome = program("notify", stdin=FULL, **sandbox.environment)
    assert (outcome.code, outcome.stderr) == (0, "")
    record = sandbox.record()
    assert record["RecordDetail"]["Status"] == "SUCCEEDED"
    assert record["RecordDetail"]["RecordType"] == "PROVISION_PRODUCT"
    assert record["RecordOutputs"] == FULL["Outputs"]


def test_failure_and_its_reason_reach_the_record(program: Program, sandbox: Sandbox) -> None:
    reason = "Error: no such bucket\n  with aws_s3_bucket.b"
    request = REQUEST | {"Status": "FAILED", "FailureReason": reason}
    assert program("notify", stdin=request, **sandbox.environment).code == 0
    detail = sandbox.record()["RecordDetail"]
    assert detail["Status"] == "FAILED"
    assert detail["RecordErrors"][0]["Description"] == reason


@pytest.mark.parametrize("operation", API)
def test_service_catalog_gets_the_request_as_it_is(
    program: Program, sandbox: Sandbox, operation: str
) -> None:
    """The sandbox takes an IdempotencyToken again with the very same content only."""
    requests: dict[str, dict[str, Any]] = {
        "provision": FULL,
        "update": {k: v for k, v in FULL.items() if k != "ResourceIdentifier"},
        "terminate": REQUEST,
    }
    allowed = requests[operation]
    outcome = program("notify", "--operation", operation, stdin=allowed, **sandbox.environment)
    again = allowed | {"IdempotencyToken": outcome.json["idempotency_token"]}
    getattr(sandbox.client, API[operation])(**again)
    with pytest.raises(sandbox.client.exceptions.InvalidParametersException):
        getattr(sandbox.client, API[operation])(**again | {"FailureReason": "other"})


def test_output_is_that_of_validate_but_for_reported(program: Program, sandbox: Sandbox) -> None:
    checked = program("validate", stdin=FULL).json
    reported = program("notify", stdin=FULL, **sandbox.environment).json
    assert reported == checked | {"reported": "true"}


def test_repetition_has_the_same_output_and_changes_nothing(
    program: Program, sandbox: Sandbox
) -> None:
    first = program("notify", stdin=FULL, **sandbox.environment)
    record = sandbox.record()
    second = program("notify", stdin=FULL, **sandbox.environment)
    assert (second.code, second.stdout) == (first.code, first.stdout)
    assert second.lines == ["rec-demo: reported before, says the journal; not sent again"]
    assert sandbox.record()["RecordDetail"] == record["RecordDetail"]


def test_token_may_come_from_the_environment(program: Program, sandbox: Sandbox) -> None:
    request = {"RecordId": "rec-demo", "Status": "SUCCEEDED"}
    environment = sandbox.environment | {
        "WORKFLOW_RESULT_REQUEST": json.dumps(request),
        "WORKFLOW_RESULT_TOKEN": UUID_TOKEN,
    }
    assert program("notify", **environment).code == 0
    assert sandbox.status() == "SUCCEEDED"


def test_settings_may_come_as_options(program: Program, sandbox: Sandbox) -> None:
    keys = {k: v for k, v in CREDENTIALS.items() if k != "AWS_REGION"}
    options = ["--region", "eu-west-1", "--endpoint-url", sandbox.url]
    assert program("notify", *options, stdin=REQUEST, **keys).code == 0


def test_profile_gives_region_and_credentials(program: Program, sandbox: Sandbox) -> None:
    folder = program.home / ".aws"
    folder.mkdir()
    (folder / "config").write_text(
        "[profile engine]\nregion = eu-west-1\n"
        "aws_access_key_id = sandbox\naws_secret_access_key = sandbox\n"
    )
    options = ["--profile", "engine", "--endpoint-url", sandbox.url]
    assert program("notify", *options, stdin=REQUEST).code == 0


def test_invalid_request_is_not_sent(program: Program, sandbox: Sandbox) -> None:
    outcome = program("notify", stdin=REQUEST | {"Status": "DONE"}, **sandbox.environment)
    assert outcome.code == 65
    assert outcome.lines == ["Status: must be SUCCEEDED or FAILED"]
    assert sandbox.status() == "IN_PROGRESS"


class TestRefusedForGood:
    def test_unknown_record(self, program: Program, sandbox: Sandbox) -> None:
        outcome = program("notify", stdin=REQUEST | {"RecordId": "rec-x"}, **sandbox.environment)
        assert outcome.code == 69
        assert outcome.stdout == ""
        assert outcome.lines == [
            "rec-x: Service Catalog refused the result for good: ResourceNotFoundException: Record "
            "rec-x not found; check the region, the account, RecordId and WorkflowToken, and "
            "whether another result was reported before. It is kept as refused and not sent again"
        ]

    def test_record_that_has_ended(self, program: Program, sandbox: Sandbox) -> None:
        program("notify", stdin=REQUEST, **sandbox.environment)
        outcome = program("notify", stdin=REQUEST | {"Status": "FAILED"}, **sandbox.environment)
        assert outcome.code == 69
        assert "InvalidParametersException: The record has ended already;" in outcome.stderr
        assert sandbox.status() == "SUCCEEDED"

    def test_service_catalog_quotes_the_token(
        self, program: Program, start_sandbox: Callable[..., Sandbox]
    ) -> None:
        sandbox = start_sandbox("--misbehave", "quote")
        outcome = program("notify", "--debug", stdin=REQUEST, **sandbox.environment)
        assert outcome.code == 69
        assert "(WorkflowToken)" in outcome.stderr
        assert not any(UUID_TOKEN[i : i + 6] in outcome.stderr for i in range(30))

    def test_validation_exception_is_a_refusal(
        self, program: Program, start_sandbox: Callable[..., Sandbox]
    ) -> None:
        sandbox = start_sandbox("--misbehave", "invalid")
        outcome = program("notify", stdin=REQUEST, **sandbox.environment)
        assert outcome.code == 69
        assert "ValidationException: 1 validation error detected" in outcome.stderr


# A way to misbehave, and the cause and the advice that a person reads.
NOT_DELIVERED = {
    "throttle": "ThrottlingException: Rate exceeded",
    "unavailable": "ServiceUnavailableException: Try again later",
    "broken": "InternalFailure: An internal error has occurred",
    "access-denied": (
        "AccessDeniedException: User: sandbox is not authorized to perform this action; allow "
        "this action in the IAM policy of the role that runs this"
    ),
    "expired-token": (
        "ExpiredTokenException: The security token included in the request is expired; renew the "
        "AWS credentials"
    ),
    "bad-signature": (
        "InvalidSignatureException: Signature expired: 5 minutes behind; check the AWS "
        "credentials and this machine's clock"
    ),
    "drop": 'Connection was closed before we received a valid response from endpoint URL: "URL/"',
    "drop-after": (
        'Connection was closed before we received a valid response from endpoint URL: "URL/"'
    ),
    "half": "what answered at URL/ is not AWS, or broke off",
    "rubbish": "what answered at URL/ is not AWS, or broke off",
}


PASSING = ["throttle", "unavailable", "broken", "drop", "drop-after"]


@pytest.mark.parametrize("kind", NOT_DELIVERED)
def test_result_that_is_not_delivered_names_the_cause(
    program: Program, start_sandbox: Callable[..., Sandbox], kind: str
) -> None:
    sandbox = start_sandbox("--misbehave", kind)
    outcome = program("notify", stdin=REQUEST, **sandbox.environment)
    cause = NOT_DELIVERED[kind].replace("URL/", sandbox.url + "/")
    unknown = kind in ("drop", "drop-after", "half", "rubbish")
    state = "not known to be reported" if unknown else "not reported"
    assert outcome.lines == [f"rec-demo: {state}: {cause}. {SAVED}"]
    assert (outcome.code, outcome.stdout) == (75, "")
    assert sandbox.status() == ("SUCCEEDED" if kind in ("drop-after", "half") else "IN_PROGRESS")
    tries = [how for _, _, how in sandbox.calls()].count(f"misbehaving ({kind})")
    assert tries == (3 if kind in PASSING else 1)


@pytest.mark.parametrize("kind", PASSING)
def test_passing_fault_is_tried_again_at_once(
    program: Program, start_sandbox: Callable[..., Sandbox], kind: str
) -> None:
    sandbox = start_sandbox("--misbehave", f"{kind}:1")
    outcome = program("notify", stdin=REQUEST, **sandbox.environment)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert sandbox.status() == "SUCCEEDED"


def test_answer_that_never_comes_is_not_waited_for(
    program: Program, start_sandbox: Callable[..., Sandbox]
) -> None:
    sandbox = start_sandbox("--misbehave", "silent")
    environment = sandbox.environment | {"AWS_MAX_ATTEMPTS": "1"}
    outcome = program("notify", stdin=REQUEST, **environment)
    assert outcome.code == 75
    cause = f'Read timeout on endpoint URL: "{sandbox.url}/"'
    assert outcome.lines == [f"rec-demo: not known to be reported: {cause}. {SAVED}"]


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_while_waiting_for_the_answer_says_that_it_may_be_reported(
    program: Program, start_sandbox: Callable[..., Sandbox], kind: signal.Signals
) -> None:
    sandbox = start_sandbox("--misbehave", "silent")
    process = subprocess.Popen(
        [sys.executable, MAIN, "notify"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(program.home, **sandbox.environment),
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(REQUEST))
    process.stdin.close()
    process.stdin = None
    wait_until_connected(process.pid, sandbox.url)
    process.send_signal(kind)
    _, stderr = process.communicate()
    assert process.returncode == 75
    assert stderr == (f"rec-demo: not known to be reported: interrupted. {SAVED}\n")


def wait_until_connected(pid: int, url: str) -> None:
    """Wait until the process has a connection to the sandbox that carries its request."""
    port = f":{int(url.rpartition(':')[2]):04X}"
    for _ in range(1000):
        with open(f"/proc/{pid}/net/tcp") as table:
            rows = [line.split() for line in table][1:]
        # Columns: number, local address, remote address, state; 01 is ESTABLISHED.
        if any(row[2].endswith(port) and row[3] == "01" for row in rows):
            time.sleep(0.2)
            return
        time.sleep(0.01)
    raise AssertionError("the process does not connect")


# What is missing in the environment, and the cause that a person reads.
SETTINGS: dict[str, tuple[dict[str, str], str]] = {
    "no region": ({"AWS_REGION": ""}, "You must specify a region; set AWS_REGION or give --region"),
    "no credentials": (
        {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
        "Unable to locate credentials; set AWS_PROFILE or AWS_ACCESS_KEY_ID, or run where a role "
        "gives them",
    ),
    "no such profile": (
        {"AWS_PROFILE": "nobody"},
        "The config profile (nobody) could not be found; give another AWS_PROFILE or --profile",
    ),
    "no URL": (
        {"AWS_ENDPOINT_URL_SERVICE_CATALOG": "nonsense"},
        "Invalid endpoint: nonsense; an endpoint is http://HOST:PORT or https://HOST",
    ),
    "nobody listens": (
        {"AWS_ENDPOINT_URL_SERVICE_CATALOG": "http://127.0.0.1:1"},
        'Could not connect to the endpoint URL: "http://127.0.0.1:1/"; check the network and the '
        "endpoint, or give `resend` another --region",
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_setting_that_is_missing_or_wrong_is_named(program: Program, name: str) -> None:
    variables, cause = SETTINGS[name]
    environment = CREDENTIALS | {"AWS_ENDPOINT_URL_SERVICE_CATALOG": "http://127.0.0.1:1"}
    outcome = program("notify", stdin=REQUEST, **environment | variables)
    assert outcome.lines == [f"rec-demo: not reported: {cause}. {SAVED}"]
    assert outcome.code == 75


def test_missing_certificate_bundle_is_told_with_what_names_it(
    program: Program, sandbox: Sandbox
) -> None:
    environment = sandbox.environment | {
        "AWS_ENDPOINT_URL_SERVICE_CATALOG": sandbox.url.replace("http:", "https:"),
        "AWS_CA_BUNDLE": "/nowhere.pem",
    }
    outcome = program("notify", stdin=REQUEST, **environment)
    assert outcome.code == 75
    assert "; check AWS_CA_BUNDLE and this machine's certificates. " in outcome.stderr


def test_defect_is_one_line_without_the_token(program: Program, sandbox: Sandbox) -> None:
    """A botocore that no longer takes what our schema takes; its message quotes the token."""
    data = program.home / "data" / "servicecatalog" / "2015-12-10"
    data.mkdir(parents=True)
    model = changed_model()
    (data / "service-2.json").write_text(json.dumps(model))
    environment = sandbox.environment | {"AWS_DATA_PATH": "/nowhere:~/data"}
    outcome = program("notify", stdin=REQUEST, **environment)
    assert outcome.code == 70
    assert len(outcome.lines) == 1
    assert outcome.stderr.startswith("a defect of this program: ParamValidationError in ")
    (entry,) = json.loads(program("pending", "--json").stdout)
    assert entry["tries"] == 1
    assert entry["last_error"].startswith("a defect of this program")
    shown = program("notify", "--debug", stdin=REQUEST, **environment)
    assert shown.code == 70
    assert "Traceback" in shown.stderr
    assert UUID_TOKEN[:6] not in shown.stderr


def changed_model() -> dict[str, Any]:
    """Botocore's model, with a WorkflowToken that is an object."""
    from botocore.loaders import Loader

    model: dict[str, Any] = Loader().load_service_model("servicecatalog", "service-2")
    return model | {
        "shapes": model["shapes"] | {"EngineWorkflowToken": {"type": "structure", "members": {}}}
    }
