"""The command line itself: help, usage, streams that are gone, packages that are missing."""

import os
import re
import resource
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import MAIN, ROOT, UUID_TOKEN, Program, Sandbox, clean_environment

from workflow_result.version import __version__

COMMANDS = ["validate", "notify", "run", "resend", "pending", "schema", "sandbox"]
BASE64_TOKEN = "AQICAHjbV3mBx6yQ0+rT2/8pK4cL9ZsWdE7uYfGhJkLmNoPqRsTuVwXyZ0123456789a="
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
@pytest.mark.parametrize("options", ["none", "example"])
def test_example_that_needs_a_sandbox_works_with_any(
    program: Program, start_sandbox: Callable[..., Sandbox], command: str, options: str
) -> None:
    """But for the port: the one printed may be taken on this machine."""
    given = example_of(program, "sandbox").split()[2:] if options == "example" else []
    sandbox = start_sandbox(*given)
    script = example_of(program, command).replace("http://127.0.0.1:4510", sandbox.url)
    done = shell(script, program.home)
    assert done.returncode == 0, done.stderr
    assert sandbox.status(f"rec-{command}") == "SUCCEEDED"


def test_examples_work_one_after_another(
    program: Program, start_sandbox: Callable[..., Sandbox]
) -> None:
    """The README's first report before them, in two terminals, and again with another sandbox."""
    first = (
        "export AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=sandbox AWS_SECRET_ACCESS_KEY=sandbox\n"
        f"export WORKFLOW_RESULT_TOKEN={UUID_TOKEN}\n"
        "export AWS_ENDPOINT_URL_SERVICE_CATALOG=http://127.0.0.1:4510\n"
        """echo '{"RecordId": "rec-demo", "Status": "SUCCEEDED"}' | main.py notify\n"""
    )
    examples = [example_of(program, command) for command in COMMANDS if command != "sandbox"]
    before = set(program.home.iterdir())
    for _ in range(2):
        sandbox = start_sandbox()
        script = "\n".join(["set -e", first, *examples])
        for _ in range(2):
            done = shell(script.replace("http://127.0.0.1:4510", sandbox.url), program.home)
            assert done.returncode == 0, done.stderr
        for command in ("notify", "run"):
            assert sandbox.status(f"rec-{command}") == "SUCCEEDED"
    left = {path.name for path in set(program.home.iterdir()) - before}
    assert left <= {".local", ".terraform.d", "sandbox-0.log", "sandbox-1.log"}


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
        ["validate", f"--input={UUID_TOKEN}"],
        ["validate", f"--{UUID_TOKEN}"],
        ["notify", BASE64_TOKEN],
        [BASE64_TOKEN],
        ["validate", "--operation", BASE64_TOKEN],
        ["validate", f"--operation={BASE64_TOKEN}"],
        ["validate", "--input", BASE64_TOKEN],
        ["validate", f"--input={BASE64_TOKEN}"],
        ["validate", f"--{BASE64_TOKEN}"],
        ["validate", f"--token={BASE64_TOKEN}"],
        ["sandbox", "--record", BASE64_TOKEN],
        ["run", "--timeout", BASE64_TOKEN],
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
    assert BASE64_TOKEN[:6] not in outcome.stderr


@pytest.mark.parametrize("argument", ["request", "a/Folder/request-1", "the-request-of-2026.json"])
def test_file_that_is_not_there_is_named(program: Program, argument: str) -> None:
    outcome = program("validate", "--input", argument)
    assert outcome.code == 2
    assert outcome.lines[-1].endswith(f"File '{argument}' does not exist.")


# What people try, and the last line that it gets.
NEAR_MISSES = {
    "a file as an argument": (
        ["run", "message.json"],
        "Error: There is an argument too many. What is read comes on stdin or with --input FILE.",
    ),
    "an option of another name": (
        ["run", "--message", "message.json"],
        "Error: No such option '--message'. A file comes with --input FILE.",
    ),
    "an option that is misspelt": (
        ["run", "--inptu", "message.json"],
        "Error: No such option '--inptu'. Did you mean '--input'?",
    ),
    "an argument where nothing is read": (
        ["schema", "provision"],
        "Error: There is an argument too many.",
    ),
    "an option where nothing is read": (
        ["schema", "--file", "request.json"],
        "Error: No such option '--file'.",
    ),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_wrong_usage_says_what_is_right(program: Program, name: str) -> None:
    arguments, line = NEAR_MISSES[name]
    assert program(*arguments).lines[-1] == line


def test_version_is_that_of_the_project(program: Program) -> None:
    outcome = program("--version")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout == f"workflow-result {__version__}\n"


def test_package_can_be_run_as_a_module(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "workflow_result", *arguments],
            capture_output=True,
            text=True,
            check=True,
            env=clean_environment(tmp_path),
            cwd=ROOT,
        ).stdout

    assert run("--version") == f"workflow-result {__version__}\n"
    text = run("schema", "--help")
    assert text.startswith("Usage: python -m workflow_result schema ")
    assert "\n    python -m workflow_result schema --operation terminate\n" in text


def test_core_dumps_are_off(tmp_path: Path) -> None:
    """One would hold the WorkflowToken."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    if hard == 0 or not hasattr(resource, "prlimit"):
        pytest.skip("core dumps cannot be had, or not be asked about, on this machine")
    process = subprocess.Popen(
        [sys.executable, MAIN, "sandbox", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=clean_environment(tmp_path),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (hard, hard)),
    )
    try:
        assert process.stdout
        process.stdout.readline()  # its URL: it is at work
        assert resource.prlimit(process.pid, resource.RLIMIT_CORE)[0] == 0
    finally:
        process.terminate()
        process.communicate()


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
        ("module", "code", "said"),
        [
            (
                "click/__init__.py",
                "import a_thing_that_is_nowhere",
                "the Python package a_thing_that_is_nowhere is missing in ",
            ),
            (
                "click/__init__.py",
                "raise ImportError('built for another machine')",
                "the Python package click cannot be imported in {python} (ImportError: built for "
                "another machine): unset PYTHONPATH, or run `make ",
            ),
            (
                "click/__init__.py",
                "from os import nothing",
                "the Python package os cannot be imported in {python} (ImportError: cannot import "
                "name 'nothing' from 'os' ",
            ),
            ("click.py", "def", "the Python package workflow_result cannot be imported in "),
            ("click.py", "1 / 0", "the Python package click cannot be imported in "),
            (
                "jsonschema/__init__.py",
                "from jsonschema import parts",
                "the Python package jsonschema cannot be imported in ",
            ),
            (
                "jsonschema/__init__.py",
                "import jsonschema._parts",
                "the Python package jsonschema cannot be imported in {python} "
                "(ModuleNotFoundError: No module named 'jsonschema._parts'): ",
            ),
            ("jsonschema.py", "def", "the Python package workflow_result cannot be imported in "),
            (
                "regress.py",
                "raise ImportError",
                "the Python package regress cannot be imported in ",
            ),
        ],
    )
    def test_broken_package_is_told_in_one_line(
        self, program: Program, module: str, code: str, said: str
    ) -> None:
        file = program.home / "broken" / module
        file.parent.mkdir(parents=True)
        file.write_text(code)
        outcome = program("validate", stdin=VALID, PYTHONPATH=str(program.home / "broken"))
        assert (outcome.code, outcome.stdout, len(outcome.lines)) == (78, "", 1)
        assert outcome.stderr.startswith(said.format(python=sys.executable))

    def test_main_without_its_folder_says_so(self, tmp_path: Path) -> None:
        shutil.copy(MAIN, tmp_path)
        done = subprocess.run(
            [sys.executable, tmp_path / "main.py"],
            capture_output=True,
            text=True,
            env=clean_environment(tmp_path),
        )
        assert (done.returncode, done.stdout) == (78, "")
        assert done.stderr == (
            "main.py needs the folder workflow_result beside it: "
            "No module named 'workflow_result'\n"
        )


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
    assert not imported(tmp_path, arguments, VALID) & unwanted


def test_external_data_source_without_a_query_costs_no_look_into_its_pipe(tmp_path: Path) -> None:
    """That takes ctypes, which takes long to import."""

    def names(stdin: str) -> set[str]:
        return imported(tmp_path, ["validate"], stdin, WORKFLOW_RESULT_REQUEST=VALID)

    assert "ctypes" not in names("{}")
    assert "ctypes" in names("{ }") or not sys.platform.startswith("linux")


def imported(tmp_path: Path, arguments: list[str], stdin: str, **environment: str) -> set[str]:
    """The modules that main.py imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", MAIN, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env=clean_environment(tmp_path, **environment),
    )
    names = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "click" in names
    return names


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
