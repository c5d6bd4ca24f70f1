"""`doctor`: every check has a set-up in which it fails, and says what to do."""

import json
import os
import re
import select
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from email.message import Message
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import conftest
import pytest
from conftest import CREDENTIALS, UUID_TOKEN, Outcome, Program, Sandbox
from engine_cli import kill_left_over
from journal_cli import Desk
from ministack_server import Ministack

NOWHERE = "http://127.0.0.1:9"
AGREES = "its clock agrees with this machine's"
REQUEST = {"WorkflowToken": UUID_TOKEN, "RecordId": "rec-demo", "Status": "SUCCEEDED"}


def line(outcome: Outcome, check: str) -> str:
    """The line of a check: its mark, and what comes after the name."""
    found = re.findall(rf"^(.) {check} +(.*)$", outcome.stdout, re.M)
    assert len(found) == 1, outcome.stdout + outcome.stderr
    return " ".join(found[0])


@contextmanager
def serving(answer: Callable[[Message, bytes], tuple[int, bytes]], **headers: str) -> Iterator[str]:
    """Serve what `answer` returns; its Date may be among the `headers`."""
    with pytest.MonkeyPatch.context() as patch:
        if "Date" in headers:
            patch.setattr(BaseHTTPRequestHandler, "date_time_string", lambda *_: headers["Date"])
        with conftest.endpoint(answer) as url:
            yield url


@contextmanager
def aws(code: str, status: int = 400, **headers: str) -> Iterator[str]:
    """A service that answers every call with this error, as JSON and XML know it."""

    def answer(_: Message, body: bytes) -> tuple[int, bytes]:
        if body.startswith(b"Action="):
            text = f"<ErrorResponse><Error><Code>{code}</Code><Message>no</Message></Error>"
            return status, f"{text}</ErrorResponse>".encode()
        return status, json.dumps({"__type": code, "message": "no"}).encode()

    with serving(answer, **headers) as url:
        yield url


def test_set_up_that_is_right_has_no_fault(program: Program, sandbox: Sandbox) -> None:
    outcome = program("doctor", "--probe", **sandbox.environment)
    assert outcome.code == 0, outcome.stdout
    assert outcome.stderr == ""
    assert [row[0] for row in outcome.stdout.splitlines()] == ["✔"] * 8
    assert not program.journal.exists()


def test_json_has_the_same(program: Program, sandbox: Sandbox) -> None:
    outcome = program("doctor", "--json", **sandbox.environment)
    findings = [json.loads(row) for row in outcome.stdout.splitlines()]
    assert {finding["health"] for finding in findings} == {"fine"}
    assert [finding["check"] for finding in findings] == [
        *("python", "terraform", "region", "credentials", "endpoint", "journal", "state bucket")
    ]


WITHOUT = """
import os, sys

class Missing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in os.environ["WITHOUT"].split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""


def without(packages: str, folder: Path) -> dict[str, str]:
    """An environment in which Python has none of these."""
    (folder / "sitecustomize.py").write_text(WITHOUT)
    return CREDENTIALS | {"PYTHONPATH": str(folder), "WITHOUT": packages}


def test_package_that_is_missing_is_a_fault(program: Program, tmp_path: Path) -> None:
    outcome = program("doctor", "--terraform", "none", **without("regress", tmp_path))
    assert (outcome.code, outcome.stderr) == (78, "")
    assert line(outcome, "python").startswith("✘ 3.")
    assert line(outcome, "python").endswith(" lacks regress: `make venv` installs them")


def test_all_else_is_looked_at_where_packages_are_missing(program: Program, tmp_path: Path) -> None:
    file = program.home / "terraform"
    file.write_text("is no program")
    file.chmod(0o755)
    missing = "boto3 jsonschema platformdirs regress tree_sitter tree_sitter_hcl"
    environment = without(f"botocore {missing}", tmp_path)
    outcome = program("doctor", "--probe", "--terraform", file, **environment)
    assert (outcome.code, outcome.stderr) == (78, "")
    lacks = f" lacks {missing.replace(' ', ', ')}: `make venv` installs them"
    assert line(outcome, "python").endswith(lacks)
    assert line(outcome, "terraform").endswith(f"Exec format error: '{file}'")
    assert line(outcome, "region") == "✔ us-east-1"
    for check in ("credentials", "endpoint", "permission"):
        assert re.match(r"✘ No module named '\w+': `make venv` installs", line(outcome, check))
    assert line(outcome, "journal").startswith("✘ No module named 'platformdirs': `make venv` ")
    assert line(outcome, "state bucket") == "✔ none named; `worker` needs one"


def test_journal_whose_name_is_none_is_a_fault(program: Program, sandbox: Sandbox) -> None:
    outcome = program("doctor", "--journal", "s3://results", **sandbox.environment)
    assert outcome.code == 78
    assert line(outcome, "journal") == (
        "✘ the journal s3://results cannot be used: name a file, or dynamodb://TABLE"
    )
    assert line(outcome, "endpoint").startswith("✔")


def test_terraform_that_is_missing_is_a_warning(program: Program, sandbox: Sandbox) -> None:
    """Who reports alone needs none."""
    outcome = program("doctor", "--terraform", "terraforn", **sandbox.environment)
    assert outcome.code == 0
    assert line(outcome, "terraform") == (
        "! terraforn was not found: `run` and `worker` need it, or --terraform"
    )


TELLS_NONE = "PROGRAM tells no version: run `PROGRAM version -json` by hand, or name another one"
TERRAFORMS = {
    'echo \'{"terraform_version": "1.8.5"}\'': "Terraform 1.8.5 is too old: install 1.9 or later",
    """case "$2" in -json) echo '{"terraform_version": "1.6.3"}' ;; *) echo OpenTofu ;; esac""": (
        "OpenTofu 1.6.3 is too old: install 1.7 or later"
    ),
    "exit 3": TELLS_NONE,
    "echo '[]'": TELLS_NONE,
    """echo '{"terraform_version": "1.x"}'""": TELLS_NONE,
}


@pytest.mark.parametrize(("script", "told"), TERRAFORMS.items())
def test_terraform_that_cannot_be_used_is_a_fault(
    program: Program, sandbox: Sandbox, script: str, told: str
) -> None:
    file = program.home / "terraform"
    file.write_text(f"#!/bin/bash\n{script}\n")
    file.chmod(0o755)
    outcome = program("doctor", "--terraform", file, **sandbox.environment)
    assert outcome.code == 78
    assert line(outcome, "terraform") == f"✘ {told.replace('PROGRAM', str(file))}"


def test_terraform_that_hangs_is_a_fault_and_ended_with_all_that_it_started(
    program: Program, sandbox: Sandbox
) -> None:
    """What it started holds a pipe open, as long as it lives: when it is asked whether it is
    OpenTofu, and when it is called after that."""
    pipe = program.home / "pipe"
    os.mkfifo(pipe)
    file = program.home / "terraform"
    file.write_text(
        "#!/bin/bash\n"
        """if [ "$2" = -json ]; then echo '{"terraform_version": "1.12.0"}'; exit; fi\n"""
        f"exec 3>{pipe}\ntrap '' INT TERM HUP\nsleep 3600 &\nwait\n"
    )
    file.chmod(0o755)
    listening = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        outcome = program("doctor", "--terraform", file, **sandbox.environment)
        assert outcome.code == 78
        assert line(outcome, "terraform") == (
            "✘ no answer within 2.5 seconds: run `terraform version` by hand"
        )
        assert select.select([listening], [], [], 30)[0], "it lives on"
    finally:
        os.close(listening)
        kill_left_over(program.home)


def test_script_that_drops_tags_is_a_fault(program: Program, sandbox: Sandbox) -> None:
    if Path("/bin/sh").resolve().name != "dash":
        pytest.skip("dash is missing as /bin/sh")
    file = program.home / "terraform"
    file.write_text(f'#!/bin/sh\nexec {shutil.which("terraform")} "$@"\n')
    file.chmod(0o755)
    outcome = program("doctor", "--terraform", file, **sandbox.environment)
    assert line(outcome, "terraform") == (
        f"✘ {file} is a script whose shell drops variables with hyphens, and the order's tags "
        "with them: have bash run it"
    )


def test_region_that_is_missing_is_a_fault(program: Program) -> None:
    outcome = program("doctor", AWS_EC2_METADATA_DISABLED="true")
    assert line(outcome, "region") == "✘ none: set AWS_REGION, or give --region"


def test_credentials_that_are_missing_are_a_fault(program: Program) -> None:
    outcome = program("doctor", AWS_REGION="us-east-1", AWS_EC2_METADATA_DISABLED="true")
    assert outcome.code == 78
    assert line(outcome, "credentials") == (
        "✘ Unable to locate credentials; set AWS_PROFILE or AWS_ACCESS_KEY_ID, or run where a role "
        "gives them"
    )


def test_credentials_that_have_expired_are_a_fault(program: Program) -> None:
    with aws("ExpiredToken", 403) as url:
        outcome = program("doctor", AWS_ENDPOINT_URL=url, **CREDENTIALS)
    assert line(outcome, "credentials") == "✘ ExpiredToken: no; renew the AWS credentials"


def test_endpoint_that_does_not_answer_is_a_fault(program: Program) -> None:
    outcome = program("doctor", AWS_ENDPOINT_URL_SERVICE_CATALOG=NOWHERE, **CREDENTIALS)
    assert line(outcome, "endpoint") == (
        f'✘ Could not connect to the endpoint URL: "{NOWHERE}/"; check the network and the endpoint'
    )


def test_certificates_that_are_missing_are_a_fault(program: Program, sandbox: Sandbox) -> None:
    outcome = program("doctor", AWS_CA_BUNDLE="/no/such.pem", **sandbox.environment)
    assert line(outcome, "endpoint") == ("✘ AWS_CA_BUNDLE names /no/such.pem, which is not there")


ELSEWHERE = """
import socket
find = socket.getaddrinfo
socket.getaddrinfo = lambda host, *more: find("127.0.0.1", *more)
"""
"""Has every host be this machine, as if there were no other."""

PROXIES = [
    ({"HTTP_PROXY": "http://user:Secret@PROXY/"}, "http://PROXY/"),
    ({"HTTP_PROXY": NOWHERE, "http_proxy": "user:Sec%2Fret@PROXY"}, "http://PROXY"),
    ({"HTTP_PROXY": NOWHERE, "NO_PROXY": "catalog.example"}, None),
    ({"HTTPS_PROXY": NOWHERE, "ALL_PROXY": NOWHERE}, None),
]


@pytest.mark.parametrize(("variables", "told"), PROXIES)
def test_proxy_that_is_used_is_told(
    program: Program, tmp_path: Path, variables: dict[str, str], told: str | None
) -> None:
    """No other one, and without its password. What answers is the endpoint, and the proxy."""
    (tmp_path / "sitecustomize.py").write_text(ELSEWHERE)
    with aws("ResourceNotFoundException") as server:
        proxy = server.removeprefix("http://")
        url = f"http://catalog.example:{proxy.rpartition(':')[2]}"
        given = {name: value.replace("PROXY", proxy) for name, value in variables.items()}
        environment = CREDENTIALS | given | {"PYTHONPATH": str(tmp_path)}
        outcome = program("doctor", "--endpoint-url", url, "--terraform", "none", **environment)
    over = f" over the proxy {told.replace('PROXY', proxy)}" if told else ""
    assert line(outcome, "endpoint") == f"✔ {url} answers{over}; {AGREES}"
    assert "Sec" not in outcome.stdout + outcome.stderr


def test_sandbox_is_asked_over_no_proxy(program: Program, sandbox: Sandbox) -> None:
    outcome = program("doctor", HTTP_PROXY=NOWHERE, HTTPS_PROXY=NOWHERE, **sandbox.environment)
    assert line(outcome, "endpoint") == f"✔ {sandbox.url} answers; {AGREES}"


@pytest.mark.parametrize(
    ("off", "mark", "advice"), [(100, "!", ""), (-100, "!", ""), (3600, "✘", ": set it")]
)
def test_clock_that_is_wrong_is_told(program: Program, off: int, mark: str, advice: str) -> None:
    date = formatdate(time.time() - off, usegmt=True)
    with aws("ResourceNotFoundException", Date=date) as url:
        outcome = program("doctor", AWS_ENDPOINT_URL_SERVICE_CATALOG=url, **CREDENTIALS)
    told = line(outcome, "endpoint")
    assert told.startswith(f"{mark} {url} answers; this machine's clock is ")
    seconds = float(re.findall(r"([+-]\d+) s off", told)[0])
    assert abs(seconds - off) < 20
    assert told.endswith(f" s off{advice}")


def test_who_may_not_look_at_records_is_at_no_fault(program: Program) -> None:
    with aws("AccessDeniedException") as url:
        outcome = program("doctor", AWS_ENDPOINT_URL_SERVICE_CATALOG=url, **CREDENTIALS)
    assert line(outcome, "endpoint").startswith(f"✔ {url} answers")


def test_permission_that_is_missing_is_a_fault(program: Program) -> None:
    with aws("AccessDeniedException") as url:
        outcome = program("doctor", "--probe", AWS_ENDPOINT_URL_SERVICE_CATALOG=url, **CREDENTIALS)
    assert outcome.code == 78
    assert line(outcome, "permission") == (
        "✘ provision, update, terminate: AccessDeniedException: no; allow this action in the IAM "
        "policy of the role that runs this"
    )


def test_permission_for_each_operation_is_asked_for(program: Program) -> None:
    def answer(headers: Message, _: bytes) -> tuple[int, bytes]:
        denied = "NotifyTerminate" in headers["X-Amz-Target"]
        code = "AccessDeniedException" if denied else "ResourceNotFoundException"
        return 400, json.dumps({"__type": code, "message": "no"}).encode()

    with conftest.endpoint(answer) as url:
        outcome = program("doctor", "--probe", AWS_ENDPOINT_URL_SERVICE_CATALOG=url, **CREDENTIALS)
    assert line(outcome, "permission").startswith("✘ terminate: AccessDeniedException: no; ")


def test_nothing_is_reported_without_probe(program: Program, sandbox: Sandbox) -> None:
    program("doctor", **sandbox.environment)
    assert sandbox.calls() == []


def test_endpoint_that_is_silent_is_a_fault_and_not_waited_for(program: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        outcome = program("doctor", AWS_ENDPOINT_URL_SERVICE_CATALOG=url, **CREDENTIALS)
    assert line(outcome, "endpoint") == (
        "✘ no answer within 2.5 seconds: check the network, HTTPS_PROXY and NO_PROXY"
    )


def test_journal_that_others_could_get_at_is_a_fault(program: Program, sandbox: Sandbox) -> None:
    folder = program.home / "open"
    folder.mkdir()
    folder.chmod(0o777)
    outcome = program("doctor", "--journal", folder / "journal", **sandbox.environment)
    assert outcome.code == 78
    assert line(outcome, "journal") == (
        f"✘ the journal {folder}/journal lies in a folder where others can make files, and it "
        "holds WorkflowTokens: name one in a sub-folder, which is made with mode 0700: --journal "
        f"{folder}/workflow-result/journal"
    )
    assert list(folder.iterdir()) == []


def test_what_is_owed_is_a_warning(program: Program, sandbox: Sandbox) -> None:
    environment = sandbox.environment | {
        "AWS_ENDPOINT_URL_SERVICE_CATALOG": NOWHERE,
        "AWS_MAX_ATTEMPTS": "1",
    }
    program("notify", stdin=REQUEST, **environment)
    before = program.journal.read_bytes()
    outcome = program("doctor", **sandbox.environment)
    assert outcome.code == 0
    assert line(outcome, "journal") == (
        f"! {program.journal}: 1 owed, the oldest for 0 minutes: `resend` sends what is owed"
    )
    assert program.journal.read_bytes() == before


def test_what_was_refused_is_a_fault(program: Program, sandbox: Sandbox) -> None:
    program("notify", stdin=REQUEST | {"RecordId": "rec-unknown"}, **sandbox.environment)
    outcome = program("doctor", **sandbox.environment)
    assert outcome.code == 78
    assert line(outcome, "journal") == (
        f"✘ {program.journal}: 1 refused, the oldest for 0 minutes: `pending` shows why they were "
        "refused"
    )


def test_table_that_is_missing_is_a_fault(program: Program, sandbox: Sandbox) -> None:
    with aws("com.amazonaws.dynamodb.v20120810#ResourceNotFoundException") as url:
        told = of_table(program, sandbox, "results", url)
    assert told == (
        "✘ the journal dynamodb://results cannot be used: there is no such table in us-east-1; "
        "check its name, region and account (terraform/journal makes one)"
    )


def of_table(program: Program, sandbox: Sandbox, name: str, url: str) -> str:
    """The line of a journal in this table, at this URL."""
    options = ("--terraform", "none", "--journal", f"dynamodb://{name}")
    environment = sandbox.environment | {"AWS_ENDPOINT_URL_DYNAMODB": url}
    return line(program("doctor", *options, **environment), "journal")


class TestTable:
    def test_what_is_owed_is_told_and_that_the_table_is_right(
        self, program: Program, sandbox: Sandbox, shared_desk: Desk, record: str
    ) -> None:
        assert shared_desk.shared
        table = shared_desk.shared
        right = f"its key and index are right; {AGREES}"
        told = of_table(program, sandbox, table.name, table.server.url)
        assert told == f"✔ dynamodb://{table.name}: nothing is owed; {right}"
        shared_desk.owe(record)
        told = of_table(program, sandbox, table.name, table.server.url)
        assert told == (
            f"! dynamodb://{table.name}: 1 owed, the oldest for 0 minutes: `resend` sends what is "
            f"owed; {right}"
        )

    @pytest.mark.parametrize(
        "keys",
        [
            ("id", "destination", "due_at"),
            ("record", "destination", "at"),
            ("record", "to", "due_at"),
            ("record",),
        ],
    )
    def test_key_and_index_that_are_wrong_are_a_fault(
        self, program: Program, sandbox: Sandbox, ministack: Ministack, keys: Sequence[str]
    ) -> None:
        name = f"wrong-{'-'.join(keys)}"
        key, *of_index = keys
        client = ministack.client("dynamodb")
        index = {
            "IndexName": "due",
            "KeySchema": [
                {"AttributeName": name, "KeyType": kind}
                for name, kind in zip(of_index, ("HASH", "RANGE"), strict=False)
            ],
            "Projection": {"ProjectionType": "ALL"},
        }
        client.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": "N" if name == "due_at" else "S"}
                for name in keys
            ],
            KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
            **({"GlobalSecondaryIndexes": [index]} if of_index else {}),
        )
        told = of_table(program, sandbox, name, ministack.url)
        assert told.startswith(
            f"✘ the journal dynamodb://{name} cannot be used: it has another key or index than "
            "terraform/journal gives it: "
        )

    @pytest.mark.parametrize(
        ("off", "mark", "advice"), [(-100, "!", ""), (100, "!", ""), (3600, "✘", ": set it")]
    )
    def test_clock_that_is_wrong_is_told(
        self, program: Program, sandbox: Sandbox, off: int, mark: str, advice: str
    ) -> None:
        with tables_api(Date=formatdate(time.time() - off, usegmt=True)) as url:
            told = of_table(program, sandbox, "results", url)
        start = "dynamodb://results: nothing is owed; its key and index are right; this machine's"
        assert told.startswith(f"{mark} {start} clock is ")
        seconds = float(re.findall(r"([+-]\d+) s off", told)[0])
        assert abs(seconds - off) < 20
        assert told.endswith(f" s off{advice}")

    def test_key_that_may_not_be_looked_at_is_not_said_to_be_right(
        self, program: Program, sandbox: Sandbox
    ) -> None:
        """Whoever has look_policy may only query the index."""
        with tables_api(denied="GetItem") as url:
            told = of_table(program, sandbox, "results", url)
        assert told == f"✔ dynamodb://results: nothing is owed; its index is right; {AGREES}"


@contextmanager
def tables_api(denied: str = "none", **headers: str) -> Iterator[str]:
    """DynamoDB with a table in which nothing is; one operation may be denied."""

    def answer(given: Message, _: bytes) -> tuple[int, bytes]:
        operation = given["X-Amz-Target"].rpartition(".")[2]
        if operation == denied:
            return 400, b'{"__type": "AccessDeniedException", "message": "no"}'
        return 200, b'{"Items": []}' if operation == "Query" else b"{}"

    with serving(answer, **headers) as url:
        yield url


def test_state_bucket_that_cannot_be_asked_is_a_fault(program: Program, sandbox: Sandbox) -> None:
    outcome = program(
        "doctor",
        AWS_ENDPOINT_URL_S3=NOWHERE,
        WORKFLOW_RESULT_STATE_BUCKET="states",
        **sandbox.environment,
    )
    assert line(outcome, "state bucket") == (
        f"✘ the state bucket states cannot be used: Could not connect to the endpoint URL: "
        f'"{NOWHERE}/states/check"; check the network and the region'
    )


def test_no_secret_is_shown(program: Program) -> None:
    secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    given: dict[str, Any] = CREDENTIALS | {"AWS_SECRET_ACCESS_KEY": secret}
    with aws("ExpiredToken", 403) as url:
        outcome = program("doctor", "--json", AWS_ENDPOINT_URL=url, **given)
    assert secret not in outcome.stdout + outcome.stderr
