"""What the README shows is what happens."""

import re

from conftest import ROOT, Program

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def test_request_in_the_readme_is_valid(program: Program) -> None:
    request = next(text for text in blocks("json") if '"WorkflowToken"' in text)
    outcome = program("validate", stdin=request)
    assert (outcome.code, outcome.stderr) == (0, "")


def test_refusal_in_the_readme_is_what_is_said(program: Program) -> None:
    command, *said = next(t for t in blocks("console") if "validate" in t).splitlines()
    request = re.search(r"echo '(.*?)'", command)
    assert request
    outcome = program("validate", stdin=request[1])
    assert (outcome.code, outcome.lines) == (65, said)


def test_every_command_and_exit_code_is_in_the_readme(program: Program) -> None:
    listed = re.findall(r"^  (\w+)  +", program("--help").stdout.partition("Commands:")[2], re.M)
    assert len(listed) == 8
    assert all(f"| `{command}` |" in README for command in listed)
    from workflow_result.problem import ExitCode

    assert all(f"\n| {code:d} | " in README for code in ExitCode)


def test_files_that_the_readme_links_to_exist() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(links) > 5
    assert all((ROOT / link).exists() for link in links)
