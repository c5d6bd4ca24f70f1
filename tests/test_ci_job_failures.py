"""ci-job.sh where the run cannot be prepared: each order ends FAILED, and says why."""

import gzip
import json
import re
import shutil
import signal
import tarfile
import time
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from ci_job_cli import MESSAGE, ROLE, SCRIPT, TOKEN, CiJob, file, link, packed, terminate
from conftest import Sandbox, endpoint, sandboxes
from engine_cli import TRACER, kill_left_over

pytestmark = pytest.mark.skipif(shutil.which("jq") is None, reason="jq is missing on PATH")

PATH = "s3://artifacts/a product/v1.tar.gz"
NAME = f"The artifact {PATH}"
MAIN_TF = file("main.tf", 'resource "terraform_data" "a" {}')
DENIED = """
An error occurred (AccessDenied) when calling the {} operation: User: arn:aws:sts::1:engine is not
 authorized"""


RECORDS = iter(range(1000))


@pytest.fixture(scope="module")
def one_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox for all of these tests, which have a record each."""
    with sandboxes(tmp_path_factory.mktemp("sandbox")) as start:
        yield start(*(option for n in range(100) for option in ("--record", f"rec-{n}")))


@pytest.fixture
def job(tmp_path: Path, one_sandbox: Sandbox) -> CiJob:
    """A job whose `aws` is served by the test."""
    job = CiJob(tmp_path, one_sandbox, record=f"rec-{next(RECORDS)}")
    job.serve(packed(MAIN_TF))
    return job


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in MESSAGE.items() if name not in names}


@pytest.mark.parametrize(
    ("message", "variables", "reason"),
    [
        (MESSAGE, {"STATE_BUCKET": ""}, "STATE_BUCKET is not set on the engine's machine."),
        (
            without("launchRoleArn"),
            {},
            "The message names no launch role, without which nothing is run: "
            "add a launch constraint.",
        ),
        (
            MESSAGE | {"launchRoleArn": "launch"},
            {},
            "The message names no launch role, without which nothing is run: "
            "add a launch constraint.",
        ),
        (without("artifact"), {}, "The path of the artifact is not s3://BUCKET/KEY: "),
        (
            MESSAGE | {"artifact": {"path": "https://example.com/a.tar.gz"}},
            {},
            "The path of the artifact is not s3://BUCKET/KEY: https://example.com/a.tar.gz",
        ),
        (without("provisionedProductId"), {}, "The message has no provisionedProductId."),
        (MESSAGE | {"identity": "someone"}, {}, "The engine could not prepare the run."),
    ],
)
def test_what_is_missing_is_named(
    job: CiJob, message: dict[str, Any], variables: dict[str, str], reason: str
) -> None:
    assert job.run(message, **variables).returncode == 1
    assert job.reason() == reason
    assert job.left_behind() == []


def test_a_failed_provision_has_the_tracer_tag(job: CiJob) -> None:
    """So that the product is TAINTED instead of ERROR, and gets its resource group."""
    sent = []

    def answer(headers: Message, body: bytes) -> tuple[int, bytes]:
        sent.append(body)
        return 200, b"{}"

    with endpoint(answer) as url:
        job.run(MESSAGE, STATE_BUCKET="", AWS_ENDPOINT_URL_SERVICE_CATALOG=url)
    assert json.loads(sent[0])["ResourceIdentifier"]["UniqueTag"] == TRACER


def test_without_a_region_nobody_can_be_told_but_it_is_kept(job: CiJob) -> None:
    del job.environment["AWS_REGION"]
    done = job.run()
    assert done.returncode == 75, done.stderr
    assert done.stderr.decode().splitlines()[0] == "AWS_REGION is not set on the engine's machine."


@pytest.mark.parametrize("program", ["aws", "terraform"])
def test_a_program_that_is_missing_is_named(job: CiJob, program: str) -> None:
    hide(job, program)
    assert job.run().returncode == 1
    assert job.reason() == f"{program} is not on PATH on the engine's machine."


@pytest.mark.parametrize("program", ["jq", "main.py"])
def test_without_what_reports_it_says_so_on_stderr(job: CiJob, program: str) -> None:
    hide(job, program)
    done = job.run()
    assert (done.returncode, done.stderr) == (78, f"{program} is not on PATH\n".encode())


def hide(job: CiJob, program: str) -> None:
    """Let PATH have only what the job needs, but for this program."""
    needed = (
        "bash cat chmod cp cut find gzip head jq mktemp mv rm sed sleep sort tail tar terraform"
    )
    for name in [*needed.split(), "tr", "wc", "env", "readlink", "grep", "mkdir"]:
        (job.bin / name).symlink_to(str(shutil.which(name)))
    (job.bin / program).unlink()
    job.environment["PATH"] = str(job.bin)


@pytest.mark.parametrize("message", ["", "no JSON", "{}", "[]", '{"token": "t"}', "{} {}"])
def test_without_a_message_it_says_so(job: CiJob, message: str) -> None:
    done = job.run(message)
    assert (done.returncode, done.stdout) == (65, b"")
    assert done.stderr == b"MESSAGE holds no operation message of Service Catalog\n"


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("assume-role", f"The launch role {ROLE} could not be assumed: "),
        ("get-object", f"{NAME} could not be fetched with the launch role {ROLE}: "),
    ],
)
def test_what_aws_refuses_is_told(job: CiJob, what: str, reason: str) -> None:
    secret = "FwoGZXIvYXdzE" * 20
    script = (job.bin / "aws").read_text()
    refusal = f"*{what}*) echo '{DENIED.format('Some')} {secret}' >&2; exit 254 ;;"
    (job.bin / "aws").write_text(script.replace("in\n", f"in\n{refusal}\n", 1))
    assert job.run().returncode == 1
    assert job.reason() == (
        f"{reason}An error occurred (AccessDenied) when calling the Some operation: "
        "User: arn:aws:sts::1:engine is not authorized (hidden)"
    )


def test_a_kept_artifact_that_cannot_be_read_is_no_missing_one(job: CiJob) -> None:
    """Without it, a terminate would go by the state alone."""
    script = (job.bin / "aws").read_text()
    (job.bin / "aws").write_text(script.replace("exec cp", "echo 'Access denied' >&2; exit 254 #"))
    assert job.run(terminate(job.record)).returncode == 1
    assert job.reason() == "The artifact kept in state could not be fetched: Access denied"


def device(name: str, kind: bytes = tarfile.CHRTYPE) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.devmajor, info.devminor = kind, 1, 3
    return info, b""


NO_ARCHIVE = r"is no tar\.gz archive: gzip: product/artifact\.tar\.gz"
OUTSIDE = "has a link that leads outside, or nowhere"


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (b"# main.tf", f"{NO_ARCHIVE}: not in gzip format"),
        (packed(MAIN_TF)[:-20], f"{NO_ARCHIVE}: unexpected end of file"),
        (
            gzip.compress(b"no tar", mtime=0),
            "could not be unpacked: tar: This does not look like a tar archive .*",
        ),
        (
            packed(MAIN_TF, file("../outside.tf", "")),
            r"could not be unpacked: .* tar: \.\./outside\.tf: Member name contains '\.\.' .*",
        ),
        (packed(MAIN_TF, link("up", "../../job.env")), f"{OUTSIDE}: up"),
        (packed(MAIN_TF, link("etc", "/etc")), f"{OUTSIDE}: etc"),
        (packed(MAIN_TF, link("gone", "nowhere/at/all")), f"{OUTSIDE}: gone"),
        (packed(MAIN_TF, link("loop", "loop")), f"{OUTSIDE}: loop"),
        (packed(MAIN_TF, link("up", "../.."), file("up/aws.config", "mine")), f"{OUTSIDE}: up"),
        (
            packed(MAIN_TF, link("hard", "../../job.env", tarfile.LNKTYPE)),
            "could not be unpacked: tar: .*",
        ),
        (
            packed(MAIN_TF, device("pipe", tarfile.FIFOTYPE)),
            "has something that is no file, folder or link: pipe",
        ),
        (packed(), "has no Terraform configuration at its top."),
        (
            packed(file("product/main.tf", ""), file("product/modules/a/main.tf", "")),
            "has no Terraform configuration at its top, but in ./product.",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "archive",
)
def test_an_archive_that_is_not_as_it_should_be(job: CiJob, archive: bytes, reason: str) -> None:
    job.serve(archive)
    assert job.run().returncode == 1
    assert re.fullmatch(f"{re.escape(NAME)} {reason}", job.reason())
    assert job.left_behind() == []


def test_an_archive_may_not_grow_beyond_measure(job: CiJob) -> None:
    """Tried with another measure, in a copy of the script."""
    shutil.copytree(SCRIPT.with_suffix(""), job.home / "ci-job")
    job.script = Path(shutil.copy2(SCRIPT, job.home))
    job.script.write_text(SCRIPT.read_text().replace("max_kib=1048576", "max_kib=1024"))
    job.serve(packed(MAIN_TF, file("bomb", "0" * 2_000_000)))
    assert job.run().returncode == 1
    assert job.reason() == f"{NAME} unpacks to more than 1 MiB."


@pytest.mark.parametrize(
    "name", ["~engine_override.tofu", "~~_override.tf", "é_override.tf.json", "~f_override.tf"]
)
def test_an_override_that_would_come_last_is_refused(job: CiJob, name: str) -> None:
    """Terraform merges override files in the order of their names."""
    job.serve(packed(MAIN_TF, file(name, "")))
    assert job.run().returncode == 1
    assert job.reason() == f"The artifact's {name} would take the place of the engine's backend."


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_it_prepares_is_reported(job: CiJob, name: str) -> None:
    job.put("aws", f"touch {job.home}/begun; exec sleep 60")
    process = job.start()
    while not (job.home / "begun").exists():
        time.sleep(0.02)
    process.send_signal(signal.Signals[name])
    process.communicate()
    assert process.returncode == 1
    assert job.reason() == f"The engine was stopped by {name} before Terraform was started."
    assert job.left_behind() == []
    kill_left_over(job.home)


def test_a_report_that_cannot_be_delivered_is_kept(job: CiJob) -> None:
    nowhere = {"AWS_ENDPOINT_URL_SERVICE_CATALOG": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    assert job.run(without("launchRoleArn"), **nowhere).returncode == 75


def test_no_token_is_shown(job: CiJob) -> None:
    done = job.run(without("launchRoleArn"))
    assert TOKEN.encode() not in done.stdout + done.stderr
