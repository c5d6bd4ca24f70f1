"""Every page does what it says: its commands are run in their order, its outputs are compared.

A fenced block `sh` is run and has to succeed. `console` has commands behind `$ ` and what they
print; `…` stands for anything. `json`, `yaml` and `hcl` are parsed. What cannot be run here has a
comment before it, `<!-- not run: why -->`.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, Program, clean_environment

from workflow_result.problem import ExitCode

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "terraform/**/*.md")
    for path in ROOT.glob(pattern)
    if ".terraform" not in path.parts
)
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<why>.+?) -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.M | re.S
)
ELSEWHERE = "make "
"""How commands begin that other tests run, that take minutes, or change the checkout."""

LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)")


@dataclass
class Step:
    """A piece of shell, and what it is to print; None: anything, but it has to succeed."""

    command: str
    printed: str | None


def blocks(page: Path, kind: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return [found["text"] for found in FENCE.finditer(text) if found["kind"] == kind]


def steps(text: str) -> Iterator[Step]:
    for found in FENCE.finditer(text):
        if found["why"] or found["kind"] not in ("sh", "console"):
            continue
        if found["kind"] == "sh":
            yield Step(found["text"], None)
            continue
        for command in re.split(r"^\$ ", found["text"], flags=re.M)[1:]:
            first, *more = command.split("\n", 1)
            while first.endswith("\\") and more:
                line, *more = more[0].split("\n", 1)
                first += "\n" + line
            yield Step(first, more[0] if more else "")


def script(steps: list[Step]) -> str:
    """A shell script that runs them, and prints a NUL after each."""
    lines = ["exec 2>&1", "trap 'kill $(jobs -p) 2>/dev/null' EXIT"]
    for step in steps:
        command = "\n".join(
            line for line in step.command.splitlines() if not line.startswith(ELSEWHERE)
        )
        if command.startswith("./main.py sandbox"):  # in another terminal, says the page
            wait = "until grep -qs http sandbox.out; do sleep 0.1; done; cat sandbox.out"
            command = f"{command.strip()} >sandbox.out 2>&1 & {wait}"
        lines += ["set -e" if step.printed is None else "set +e", command, r"printf '\0'"]
    return "\n".join(lines)


def pattern(printed: str) -> str:
    expected = re.escape(printed).replace("…\\\n", r"(?:.*\n)*?").replace("…", ".*?")
    return re.sub(r"(?m)^\(\?:", "(?:", expected)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the files that git knows, with a virtual environment."""
    folder = tmp_path / "checkout"
    listed = subprocess.check_output(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
    )
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_do_what_the_page_says(page: Path, checkout: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    text = page.read_text(encoding="utf-8").replace("4510", port)
    text = text.replace("./main.py sandbox", f"./main.py sandbox --port {port}")
    expected = list(steps(text))
    if not expected:
        return
    environment = clean_environment(tmp_path, CHECKPOINT_DISABLE="1")
    environment["PATH"] = f"{sys.prefix}/bin{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script(expected)],
        capture_output=True,
        text=True,
        cwd=checkout,
        env=environment,
    )
    printed = done.stdout.split("\0")
    assert len(printed) == len(expected) + 1, f"{done.stdout}\n{done.stderr}"
    for step, output in zip(expected, printed, strict=False):
        if step.printed is not None and not step.command.startswith(ELSEWHERE):
            assert re.fullmatch(pattern(step.printed), output), f"{step.command}\n{output}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_the_page_shows_can_be_read(page: Path) -> None:
    for text in blocks(page, "json"):
        json.loads(text)
    for text in blocks(page, "yaml"):
        yaml.safe_load(text)
    for text in blocks(page, "hcl"):
        subprocess.run(
            ["terraform", "fmt", "-"], input=text.encode(), check=True, capture_output=True
        )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, heading in LINK.findall(page.read_text(encoding="utf-8")):
        file = (page.parent / target) if target else page
        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), flags=re.M)
            anchors = [re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles]
            assert heading in anchors, f"{target}#{heading}"


def test_every_command_is_in_the_reference(program: Program) -> None:
    listed = re.findall(r"^  (\w+)  +", program("--help").stdout.partition("Commands:")[2], re.M)
    reference = (ROOT / "docs" / "requests.md").read_text(encoding="utf-8")
    assert "notify" in listed
    assert [command for command in listed if f"| `{command}` |" not in reference] == []


def test_every_exit_code_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    codes = re.findall(r"\d+", " ".join(re.findall(r"^\| ([\d, ]+) \| ", readme, flags=re.M)))
    assert sorted(map(int, codes)) == sorted({*ExitCode, 143})


def test_requests_on_the_pages_are_valid(program: Program) -> None:
    requests = [t for page in PAGES for t in blocks(page, "json") if '"WorkflowToken"' in t]
    assert requests
    for request in requests:
        outcome = program("validate", stdin=request)
        assert (outcome.code, outcome.stderr) == (0, "")


def test_front_page_is_a_page() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
