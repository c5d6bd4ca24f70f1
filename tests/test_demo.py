"""`make demo`, as a person runs it, with and without Terraform."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, UUID_TOKEN, clean_environment

DEMO = ROOT / "terraform" / "examples" / "demo.py"


def environment(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "tmp"
    folder.mkdir()
    return clean_environment(tmp_path, TMPDIR=str(folder))


def left_over(tmp_path: Path) -> list[str]:
    """Files in the temporary folder, and processes that were started from this test."""
    own = f"HOME={tmp_path}".encode()
    running = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if own in (process / "environ").read_bytes().split(b"\0"):
                running.append((process / "cmdline").read_text())
        except OSError:
            continue
    return [*running, *(str(path) for path in (tmp_path / "tmp").iterdir())]


def run_demo(variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, DEMO], capture_output=True, text=True, env=variables, timeout=100
    )


def test_demo_sends_a_result_through_terraform_and_leaves_nothing(tmp_path: Path) -> None:
    done = run_demo(environment(tmp_path))
    assert done.returncode == 0, done.stderr
    before, _, rest = done.stdout.partition("$ terraform init")
    applied, _, after = rest.partition("after the report:")
    assert "rec-demo: IN_PROGRESS" in before
    assert "Apply complete! Resources: 2 added" in applied
    assert '"reported":"true"' in applied
    assert "rec-demo: SUCCEEDED" in after
    assert "url = https://demo.example.com" in after
    assert UUID_TOKEN not in done.stdout + done.stderr
    assert left_over(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]


def test_demo_without_terraform_says_so_and_shows_the_same(tmp_path: Path) -> None:
    done = run_demo(environment(tmp_path) | {"PATH": "/nowhere"})
    assert done.returncode == 0, done.stderr
    assert "Terraform is not on this machine's PATH" in done.stdout
    assert "rec-demo: IN_PROGRESS" in done.stdout
    assert "rec-demo: SUCCEEDED" in done.stdout
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("path", [os.environ["PATH"], "/nowhere"], ids=["terraform", "alone"])
@pytest.mark.parametrize("names", ["HTTP_PROXY HTTPS_PROXY NO_PROXY", "http_proxy no_proxy"])
def test_demo_goes_past_a_proxy(tmp_path: Path, path: str, names: str) -> None:
    """Nothing listens where this one is said to be."""
    values = dict.fromkeys(names.split(), "http://127.0.0.1:9") | {
        name: "example.com" for name in names.split() if name.casefold() == "no_proxy"
    }
    done = run_demo(environment(tmp_path) | values | {"PATH": path})
    assert done.returncode == 0, done.stderr
    assert "rec-demo: SUCCEEDED" in done.stdout


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_demo_that_is_stopped_leaves_nothing(tmp_path: Path, kind: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, DEMO],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path),
        start_new_session=True,
    )
    assert process.stdout is not None
    while "terraform apply" not in process.stdout.readline():
        pass
    if kind is signal.SIGINT:
        os.killpg(process.pid, kind)  # as Ctrl-C does, to the whole group
    else:
        process.send_signal(kind)
    _, stderr = process.communicate()
    assert process.returncode == 128 + kind
    assert "Traceback" not in stderr
    for _ in range(100):
        if not left_over(tmp_path):
            break
        time.sleep(0.1)
    assert left_over(tmp_path) == []


def test_example_is_formatted_and_valid(tmp_path: Path) -> None:
    folder = tmp_path / "example"
    shutil.copytree(DEMO.parent / "local-exec", folder)
    variables = clean_environment(tmp_path, CHECKPOINT_DISABLE="1")
    for command in (["fmt", "-check", "-recursive"], ["init", "-input=false"], ["validate"]):
        subprocess.run(
            ["terraform", *command], cwd=folder, env=variables, check=True, capture_output=True
        )
