"""`parse_parameters`: as Lambda runs it, and what Terraform makes of what it tells."""

import io
import json
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from conftest import CREDENTIALS, clean_environment
from hcl_texts import VALUES, Written
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lambda_runtime import Answer, Function, function
from moto_server import Moto, moto_server
from served_cli import packed

from workflow_result.engine import configuration
from workflow_result.engine.parameter_parser import parameters
from workflow_result.engine.parameters import definitions

ROLE = "arn:aws:iam::123456789012:role/launch"
PATH = "S3://artifacts/a folder/v1.tar.gz"
DENIED = b"""<ErrorResponse><Error><Code>AccessDenied</Code><Message>Not you</Message></Error>
</ErrorResponse>"""


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    with moto_server(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture
def s3(moto: Moto) -> Any:
    """S3 with a bucket for artifacts, and nothing in it."""
    moto.reset()
    new_client: Any = boto3.client
    client = new_client(
        "s3",
        endpoint_url=moto.url,
        region_name="us-east-1",
        aws_access_key_id="author",
        aws_secret_access_key="author",
    )
    client.create_bucket(Bucket="artifacts")
    return client


@contextmanager
def parser(home: Path, moto: Moto, **variables: str) -> Iterator[Function]:
    (home / "tmp").mkdir(exist_ok=True)
    own = {"AWS_ENDPOINT_URL": moto.url, "AWS_MAX_ATTEMPTS": "1", "TMPDIR": str(home / "tmp")}
    environment = clean_environment(home, **(CREDENTIALS | own | variables))
    with function("parse_parameters", home, environment) as running:
        yield running
    assert list((home / "tmp").iterdir()) == []


@contextmanager
def denying() -> Iterator[str]:
    """S3 and STS where nobody may do anything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = DENIED if self.command == "POST" else DENIED.replace(b"ErrorResponse", b"x")
            body = body.replace(b"<x>", b"").replace(b"</x>", b"")
            self.send_response(403)
            self.send_header("x-amzn-RequestId", "1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def request(role: str | None = ROLE, path: str = PATH) -> dict[str, Any]:
    return {"artifact": {"path": path, "type": "AWS_S3"}, "launchRoleArn": role}


def error(answer: Answer) -> tuple[str, str]:
    assert answer.failed
    return answer.value["errorType"], answer.value["errorMessage"]


def test_parameters_are_told_with_the_launch_role_and_without(
    tmp_path: Path, moto: Moto, s3: Any
) -> None:
    main = 'variable "größe" {\n default = ["\U0001f600"]\n type = list(string)\n}\n'
    s3.put_object(Bucket="artifacts", Key="a folder/v1.tar.gz", Body=packed(main_tf=main))
    with parser(tmp_path, moto) as parse:
        for role in (ROLE, None, ""):
            answer = parse(request(role))
            assert not answer.failed, answer.value
            assert answer.value == {
                "parameters": [
                    {
                        "key": "größe",
                        "defaultValue": '["\U0001f600"]',
                        "type": "list(string)",
                        "description": "",
                        "isNoEcho": False,
                    }
                ]
            }
        assert "Traceback" not in parse.said
    keys = [key for method, _, key in moto.requests() if method == "GET"]
    assert keys[0].startswith("ASIA")
    assert keys[1:] == ["sandbox", "sandbox"]


def test_errors_have_the_names_that_service_catalog_knows(
    tmp_path: Path, moto: Moto, s3: Any
) -> None:
    invalid = "ParserInvalidParameterException"
    put = {
        "wrong": packed(main_tf="variable {{"),
        "inner": packed(**{"inner/main_tf": ""}),
        "text": b"hello",
        "odd": odd(),
    }
    for key, body in put.items():
        s3.put_object(Bucket="artifacts", Key=key, Body=body)
    expected = {
        "wrong": "cannot be read: main.tf, line 1: this is not in Terraform's language.",
        "inner": "has no Terraform configuration at its top, but in ./inner.",
        "text": "is no tar.gz archive: Not a gzipped file (b'he')",
        "odd": "has a file that leads outside: ../? ",
        "none": f"could not be fetched with the launch role {ROLE}: "
        "NoSuchKey: The specified key does not exist.",
    }
    with parser(tmp_path, moto) as parse:
        for key, reason in expected.items():
            path = f"s3://artifacts/{key}"
            told = error(parse(request(path=path)))
            assert told[0] == invalid
            assert told[1].startswith(f"The artifact {path} ")
            assert told[1].removeprefix(f"The artifact {path} ") == reason
        assert error(parse({})) == (invalid, "The request has no artifact.path.")
        assert error(parse(request(path="artifacts/x"))) == (
            invalid,
            "The path of the artifact is not s3://BUCKET/KEY: artifacts/x",
        )
        assert error(parse(request("launch"))) == (
            invalid,
            "The launch role launch is no ARN of an IAM role.",
        )


def odd() -> bytes:
    """An archive with a name that is no text, and drives a terminal."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../\udcff\n\x1b[31m"))
    return file.getvalue()


def test_whoever_may_not_is_told_what_to_allow(tmp_path: Path, moto: Moto) -> None:
    denied = "ParserAccessDeniedException"
    with denying() as url:
        with parser(tmp_path, moto, AWS_ENDPOINT_URL_S3=url) as parse:
            for role, reader in (
                (ROLE, f"the launch role {ROLE}"),
                (None, "the parser's own role"),
            ):
                assert error(parse(request(role))) == (
                    denied,
                    f"The artifact {PATH} could not be fetched with {reader}: AccessDenied: "
                    "Not you. The role has to allow s3:GetObject for it; Service Catalog tags "
                    "what it keeps itself with servicecatalog:provisioning=true. "
                    "Without s3:ListBucket, S3 says the same of a key that does not exist.",
                )
        with parser(tmp_path, moto, AWS_ENDPOINT_URL_STS=url) as parse:
            assert error(parse(request())) == (
                denied,
                f"The launch role {ROLE} could not be assumed: AccessDenied: Not you. "
                "Check its trust policy: the engine's role has to be in it.",
            )


# --- what it tells is what Terraform takes ------------------------------------------------------

SHAPES = [
    'type = string\n default = "plain"',
    'type = string\n default = ""',
    'type = string\n default = "null"',
    'type = string\n default = "[1]"',
    'type = string\n default = "a \\"b\\" \\\\ $$${c} $${d} %%{e} <&> \\u00e9 \U0001f600"',
    "type = string\n default = <<-EOT\n   Two\n     lines\n   EOT\n",
    "type = string\n default = 5",
    "type = string\n default = 1.50",
    "type = string\n default = true",
    "type = number\n default = 5",
    'type = number\n default = "5"',
    "type = number\n default = -0.10",
    "type = number\n default = 1e3",
    "type = number\n default = 123456789012345678901234567890.123456789",
    "type = number\n default = null",
    "type = number\n default = 60 * 60",
    "type = number\n default = 10 / 3",
    "type = string\n default = 0.5 * 24",
    "type = list(number)\n default = [1 + 1, -(2 * 3)]",
    "default = 7 * 24 * 60 * 60",
    "type = bool\n default = true",
    'type = bool\n default = "false"',
    "type = bool\n default = null",
    'type = list(string)\n default = ["a", "$${b}", "\\"c\\""]',
    "type = list(string)\n default = []",
    "type = list(string)\n default = null",
    "type = list(string)\n default = [1, true, null]",
    'type = list(any)\n default = ["a", "b"]',
    "type = list\n default = [1]",
    'type = set(string)\n default = ["b", "a", "b"]',
    "type = set(number)\n default = [1, 2]",
    'type = tuple([string, number, bool])\n default = ["a", 1.5, false]',
    'type = map(string)\n default = { b = "x", "a b" = 1.50 }',
    "type = map(string)\n default = {}",
    "type = map(list(number))\n default = { a = [1, 2], b = [] }",
    "type = map\n default = { a = 1 }",
    'type = object({ a = string, b = optional(number, 7) })\n default = { a = "x" }',
    "type = object({ a = optional(object({ b = bool })) })\n default = { a = { b = true } }",
    "type = object({ a = any })\n default = { a = [1] }",
    "type = any\n default = 5",
    'type = any\n default = "5"',
    'type = any\n default = [1, "a"]',
    "type = any\n default = { a = { b = [null] } }",
    'default = "plain"',
    'default = "{}"',
    'default = "true"',
    "default = 5",
    "default = false",
    "default = []",
    "default = { a = 1 }",
    "default = [for x in [1, 2] : x + 1]",
    'type = string\n default = "s"\n sensitive = true',
    "type = list(number)\n default = [1]\n nullable = false",
    'type = string\n default = "overridden"',
    'type = number\n default = 1\n description = "and the type, too"',
]
OVERRIDES = {
    len(SHAPES) - 2: 'default = "by this"',
    len(SHAPES) - 1: 'type = string\ndefault = "x"',
}
IN_JSON = {
    "plain": {"default": "plain"},
    "template": {"default": "${a} %{b} $${c}", "type": "string"},
    "list": {"default": ["${a}", 1.50, None], "type": "list(string)"},
    "map": {"default": {"a": True, "${b}": "x"}},
    "number": {"default": 1e3},
}


def write(folder: Path, shapes: list[str]) -> None:
    names = [f"v{i}" for i in range(len(shapes))]
    blocks = [f"variable {n} {{\n {body}\n}}\n" for n, body in zip(names, shapes, strict=True)]
    (folder / "main.tf").write_text("".join(blocks))
    outputs = [f"output {n} {{\n value = var.{n}\n sensitive = true\n}}\n" for n in names]
    (folder / "outputs.tf").write_text("".join(outputs))


def planned(folder: Path, *options: str) -> dict[str, Any]:
    """The outputs' types and values in a plan, numbers as `Decimal`."""
    for command in (["plan", "-out=plan", *options], ["show", "-json", "plan"]):
        done = subprocess.run(
            ["terraform", *command],
            cwd=folder,
            env=clean_environment(folder, CHECKPOINT_DISABLE="1"),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    shown = json.loads(done.stdout, parse_int=Decimal, parse_float=Decimal)
    outputs: dict[str, Any] = shown["planned_values"]["outputs"]
    return outputs


def ordered_as_told(folder: Path) -> dict[str, Any]:
    """What a plan has where each parameter is ordered as it was told."""
    told = parameters(folder, "The artifact")
    ordered = {str(p["key"]): str(p["defaultValue"]) for p in told}
    given = definitions(ordered, configuration.read(folder))
    assert given.undeclared == ()
    (folder / "ordered").write_text(given.text)
    return planned(folder, "-var-file=ordered")


def test_what_is_told_is_what_terraform_takes(tmp_path: Path) -> None:
    write(tmp_path, SHAPES)
    overrides = [f"variable v{i} {{\n{body}\n}}\n" for i, body in OVERRIDES.items()]
    (tmp_path / "override.tf").write_text("".join(overrides))
    outputs = {f"json_{n}": {"value": f"${{var.json_{n}}}"} for n in IN_JSON}
    variables = {f"json_{name}": body for name, body in IN_JSON.items()}
    (tmp_path / "more.tf.json").write_text(json.dumps({"variable": variables, "output": outputs}))
    by_default = planned(tmp_path)
    as_told = ordered_as_told(tmp_path)
    assert len(by_default) > 50
    assert set(as_told) == set(by_default)
    for name, output in by_default.items():
        assert as_told[name] == output, name


QUARTERS = st.integers(0, 4000).map(lambda n: str(n / 4))  # exact in either base
ARITHMETIC = st.recursive(
    QUARTERS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*"), inner).map(" ".join),
        st.tuples(inner, st.sampled_from(["/ 4", "/ 0.5", "% 7", "% -2.5"])).map(" ".join),
        inner.map("({})".format),
        inner.map("-{}".format),
    ),
    max_leaves=8,
).map(lambda text: (text, True))


@settings(
    max_examples=4,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # each costs a second: no shrinking
    suppress_health_check=list(HealthCheck),
)
@given(
    st.lists(
        VALUES.filter(lambda written: written[1] is not None) | ARITHMETIC, min_size=20, max_size=40
    )
)
def test_any_default_that_is_told_is_what_terraform_takes(
    tmp_path: Path, defaults: list[Written]
) -> None:
    write(tmp_path, [f"default = {text}" for text, _ in defaults])
    by_default = planned(tmp_path)
    as_told = ordered_as_told(tmp_path)
    for i, (text, _) in enumerate(defaults):
        assert as_told.get(f"v{i}") == by_default.get(f"v{i}"), text
