"""The command line itself: help, usage, streams that are gone, packages that are missing."""

import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import MAIN, ROOT, UUID_TOKEN, Program, Sandbox, clean_environment

COMMANDS = ["validate", "notify", "run", "resend", "pending", "schema", "sandbox"]
VALID = f'{{"RecordId": "rec-demo", "Status": "SUCCEEDED", "WorkflowToken": "{UUID_TOKEN}"}}'
MESSAGE = (
    f'{{"token": "{UUID_TOKEN}", "operation": "PROVISION_PRODUCT", "recordId": "rec-demo", '
    '"provisionedProductId": "pp-1"}'
)


def shell(script: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script in which main.py is a command."""
    folder = home / "bin"
    folder.mkdir(exist_ok=True)
    command = folder / "main.py"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} {MAIN} "$@"\n')
    command.chmod(0o755)
    environment = clean_environment(home, **variables)
    environment["PATH"] = f"{folder}:{environment['PATH']}"
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env=environment, cwd=home
    )


def example_of(program: Program, command: str) -> str:
    """The example in a command's help, as printed."""
    text = shell(f"main.py {command} --help", program.home).stdout
    found = re.search(r"Example.*:\n((?:    +.*\n)+)", text)
    assert found, text
    return found[1]


@pytest.mark.parametrize("command", ["validate", "schema", "resend", "pending"])
def test_example_in_the_help_works_as_printed(program: Program, command: str) -> None:
    done = shell(example_of(program, command), program.home)
    assert done.returncode == 0
    assert done.stdout or done.stderr.startswith("nothing is owed: there is no journal ")


@pytest.mark.parametrize("command", ["notify", "run"])
def test_example_that_needs_a_sandbox_works_with_that_of_the_sandbox(
    program: Program, start_sandbox: Callable[..., Sandbox], command: str
) -> None:
    """But for the port: the one printed may be taken on this machine."""
    options = example_of(program, "sandbox").split()[2:]
    sandbox = start_sandbox(*options)
    script = example_of(program, command).replace("http://127.0.0.1:4510", sandbox.url)
    done = shell(script, program.home)
    assert done.returncode == 0, done.stderr
    assert sandbox.status() == "SUCCEEDED"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_the_program_as_it_was_called(program: Program, command: str) -> None:
    outcome = program(command, "--help")
    assert outcome.code == 0
    assert outcome.stdout.startswith(f"Usage: main.py {command} ")


def test_help_lists_the_commands(program: Program) -> None:
    outcome = program("--help")
    assert outcome.code == 0
    assert all(f"\n  {command} " in outcome.stdout for command in COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["validate", "--nonsense"],
        ["validate", "--operation", "destroy"],
        ["validate", "stray"],
        ["sandbox", "--port", "70000"],
        ["run", "--terraform", ""],
        ["run", "--timeout", "1" * 400],
    ],
)
def test_wrong_usage_is_exit_code_2(program: Program, arguments: list[str]) -> None:
    outcome = program(*arguments)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.lines[-1].startswith("Error: ")


def test_example_names_the_program_as_it_was_called(program: Program) -> None:
    text = program("schema", "--help").stdout
    assert f"\n    {MAIN} schema --operation terminate\n" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["notify", UUID_TOKEN],
        [UUID_TOKEN],
        ["validate", "--operation", UUID_TOKEN],
        ["validate", "--input", UUID_TOKEN],
        ["validate", f"--{UUID_TOKEN}"],
        ["notify", VALID],
        [VALID],
        ["validate", "--operation", VALID],
        ["validate", "--input", VALID],
    ],
)
def test_token_in_the_wrong_place_is_not_repeated(program: Program, arguments: list[str]) -> None:
    outcome = program(*arguments)
    assert outcome.code == 2
    assert outcome.stderr
    assert UUID_TOKEN[:6] not in outcome.stderr


def test_no_command_at_all_shows_the_help(program: Program) -> None:
    outcome = program()
    assert outcome.code == 2
    assert "Commands:" in outcome.stderr


@pytest.mark.parametrize("operation", ["provision", "update", "terminate"])
def test_schema_prints_the_committed_file(program: Program, operation: str) -> None:
    outcome = program("schema", "--operation", operation)
    file = ROOT / "schemas" / f"{operation}.schema.json"
    assert outcome.stdout == file.read_text(encoding="utf-8")


class TestStreams:
    @pytest.mark.parametrize("command", ["validate", "schema", "--help"])
    def test_broken_pipe_on_stdout_is_quiet(self, program: Program, command: str) -> None:
        script = f"echo '{VALID}' | ( main.py {command}; echo $? >code ) | true"
        for _ in range(3):  # the reader may go before or after the first byte
            done = shell(script, program.home)
            assert (program.home / "code").read_text() == "0\n"
            assert done.stderr == ""

    def test_closed_stdout_is_no_error(self, program: Program) -> None:
        done = shell(f"echo '{VALID}' | main.py validate >&-", program.home)
        assert (done.returncode, done.stderr) == (0, "")

    def test_full_disk_under_stdout_is_told(self, program: Program) -> None:
        done = shell(f"echo '{VALID}' | main.py validate >/dev/full", program.home)
        assert done.returncode == 78
        assert done.stderr == (
            "stdout cannot be written: No space left on device; all else is done\n"
        )

    def test_full_disk_under_the_help_is_told(self, program: Program) -> None:
        done = shell("main.py --help >/dev/full", program.home)
        assert done.returncode == 78
        assert done.stderr == "stdout cannot be written: No space left on device\n"

    def test_closed_stderr_loses_the_message_not_the_exit_code(self, program: Program) -> None:
        assert shell("echo '{' | main.py validate 2>&-", program.home).returncode == 65

    def test_closed_stdin_is_an_empty_one(self, program: Program) -> None:
        done = shell("main.py validate <&-", program.home)
        assert done.returncode == 65
        assert done.stderr.startswith("the request: empty: ")

    def test_text_that_the_terminal_cannot_show_is_no_crash(self, program: Program) -> None:
        done = shell(
            "echo '{\"schlüssel\": 1}' | main.py validate --partial", program.home, LC_ALL="C"
        )
        assert done.returncode == 65
        assert "unknown key" in done.stderr


class TestMissingPackages:
    def test_python_without_the_packages_is_told_what_installs_them(self, tmp_path: Path) -> None:
        bare = tmp_path / "bare"
        venv.create(bare, symlinks=True)
        done = subprocess.run(
            [bare / "bin" / "python", MAIN, "validate"],
            capture_output=True,
            text=True,
            env=clean_environment(tmp_path),
        )
        assert (done.returncode, done.stdout) == (78, "")
        assert done.stderr == (
            f"the Python package click is missing in {bare}/bin/python: run "
            f"`make -C {ROOT} venv`, then use {ROOT}/.venv/bin/python\n"
        )

    @pytest.mark.parametrize(
        ("package", "command", "source"),
        [("jsonschema", "validate", VALID), ("boto3", "notify", VALID), ("boto3", "run", MESSAGE)],
    )
    def test_one_missing_package_is_named(
        self, tmp_path: Path, package: str, command: str, source: str
    ) -> None:
        hidden = (
            "import sys, runpy\n"
            f"sys.modules[{package!r}] = None\n"
            f"sys.argv = ['main.py', {command!r}]\n"
            f"runpy.run_path({str(MAIN)!r}, run_name='__main__')\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", hidden],
            input=source,
            capture_output=True,
            text=True,
            env=clean_environment(tmp_path),
            cwd=ROOT,
        )
        assert done.returncode == 78
        assert done.stderr.startswith(f"the Python package {package} is missing in ")
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["--help"], {"boto3", "botocore", "jsonschema", "regress"}),
        (["schema"], {"boto3", "botocore", "jsonschema", "regress"}),
        (["validate"], {"boto3", "botocore", "http.server"}),
        (["notify", "--endpoint-url", "http://127.0.0.1:1"], {"http.server"}),
    ],
)
def test_command_imports_only_what_it_needs(
    tmp_path: Path, arguments: list[str], unwanted: set[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", MAIN, *arguments],
        input=VALID,
        capture_output=True,
        text=True,
        env=clean_environment(tmp_path),
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "click" in imported
    assert not imported & unwanted


def test_wheel_has_the_console_script_and_the_schemas(tmp_path: Path) -> None:
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "tests", "terraform")
    shutil.copytree(ROOT, source, ignore=ignored)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"),
            *("--no-build-isolation", "--disable-pip-version-check"),
            *("--target", tmp_path / "installed", source),
        ],
        check=True,
        env=clean_environment(tmp_path),
    )
    done = subprocess.run(
        [tmp_path / "installed" / "bin" / "workflow-result", "schema"],
        capture_output=True,
        text=True,
        env=clean_environment(tmp_path, PYTHONPATH=str(tmp_path / "installed")),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (ROOT / "schemas" / "provision.schema.json").read_text(encoding="utf-8")


def test_no_tracked_file_names_a_host_of_a_registry() -> None:
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    hosts = ["py" + "pi.org", "python" + "hosted"]
    for name in files:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not any(host in text for host in hosts), name


def test_program_is_executable() -> None:
    assert os.access(MAIN, os.X_OK)
