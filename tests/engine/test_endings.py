"""A run ends as what it was, whatever the environment and the outputs are like."""

import json
from typing import Any

import pytest
from conftest import UUID_TOKEN
from engine_cli import GREETING, MESSAGE, ONE_RESOURCE, TERMINATE, Engine, hold_state_lock


def state(engine: Engine) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((engine.directory / "terraform.tfstate").read_text())[
        "resources"
    ]
    return found


class TestOutputs:
    def test_nested_900_deep_leave_a_success_one(self, engine: Engine) -> None:
        """Told as Terraform tells it, by a script: it needs minutes for them itself."""
        engine.configure(ONE_RESOURCE)
        nested = "[" * 900 + '"x"' + "]" * 900
        kind = '["tuple",[' * 900 + '"string"' + "]]" * 900
        event = f'{{"deep":{{"sensitive":false,"type":{kind},"value":{nested}}}}}'
        (engine.home / "event").write_text(
            f'{{"@message":"Outputs: 1","outputs":{event},"type":"outputs"}}\n'
        )
        tells = engine.wrapper(f'terraform "$@" && [ $1 != apply ] || cat {engine.home}/event')
        assert engine.run("--terraform", tells).code == 0
        assert engine.outputs() == {"deep": nested}

    def test_of_17_million_characters_leave_a_success_one(self, engine: Engine) -> None:
        (engine.directory / "big").write_text("x" * 17_000_000)
        engine.configure(ONE_RESOURCE + 'output "big" { value = file("big") }\n')
        assert engine.run().code == 0
        assert engine.outputs() == {"big": "(17,000,000 characters, too long to be reported)"}

    def test_token_in_a_name_or_a_description_leaves_a_success_one(self, engine: Engine) -> None:
        token = f"t{UUID_TOKEN}"
        engine.configure(f'output "{token}" {{\n  value = 1\n  description = "is {token}"\n}}')
        assert engine.run(message=MESSAGE | {"token": token}).code == 0
        assert engine.sandbox.record()["RecordOutputs"] == [
            {
                "OutputKey": "(WorkflowToken)",
                "OutputValue": "1",
                "Description": "is (WorkflowToken)",
            }
        ]

    def test_event_on_stderr_is_none(self, engine: Engine) -> None:
        engine.configure(GREETING)
        forged = json.dumps(
            {"@message": "m", "type": "outputs", "outputs": {"forged": {"value": "x"}}}
        )
        wrapper = engine.wrapper(f'trap "echo \'{forged}\' >&2" EXIT; terraform "$@"')
        assert engine.run("--terraform", wrapper).code == 0
        assert engine.outputs() == {"greeting": "hello nobody"}


class TestEnvironment:
    @pytest.mark.parametrize(
        "arguments",
        ["-detailed-exitcode", "-refresh-only", "-destroy", "-lock-timeout=1s -no-color"],
    )
    def test_arguments_from_the_environment_change_nothing(
        self, engine: Engine, arguments: str
    ) -> None:
        engine.configure(GREETING)
        outcome = engine.run(TF_CLI_ARGS_plan=arguments)
        assert outcome.code == 0, outcome.stderr
        assert engine.outputs() == {"greeting": "hello nobody"}
        assert [resource["name"] for resource in state(engine)] == ["greeting"]

    def test_terminate_destroys_whatever_the_environment_says(self, engine: Engine) -> None:
        engine.configure(GREETING)
        assert engine.run().code == 0
        outcome = engine.run(
            message=TERMINATE | {"recordId": "rec-2"}, TF_CLI_ARGS_plan="-destroy=false"
        )
        assert outcome.code == 69, outcome.stderr  # the sandbox has no such record
        assert state(engine) == []

    @pytest.mark.parametrize(
        ("name", "argument", "option"),
        [
            ("TF_CLI_ARGS", "-target=a.b", "-target"),
            ("TF_CLI_ARGS_plan", "--target", "-target"),
            ("TF_CLI_ARGS", "-exclude=a", "-exclude"),
            ("TF_CLI_ARGS_plan", "'-target=a.b'", "-target"),
            ("TF_CLI_ARGS_plan", "-invoke=action.a.b", "-invoke"),
            ("TF_CLI_ARGS_plan", '-tar"get"=a.b', "-target"),
            ("TF_CLI_ARGS_plan", "\\-target-file=a", "-target-file"),
        ],
    )
    def test_arguments_that_leave_out_a_part_of_the_product_are_failed(
        self, engine: Engine, name: str, argument: str, option: str
    ) -> None:
        engine.configure(GREETING)
        assert engine.run(**{name: f"-no-color {argument}"}).code == 1
        assert engine.reason() == (
            f"{option} in TF_CLI_ARGS would leave out a part of the product."
        )
        assert not (engine.directory / "terraform.tfstate").exists()


class TestVersions:
    @pytest.mark.parametrize(
        ("kind", "version", "needed"), [("Terraform", "1.8.5", "1.9"), ("OpenTofu", "1.6.3", "1.7")]
    )
    def test_terraform_that_is_too_old_is_named(
        self, engine: Engine, kind: str, version: str, needed: str
    ) -> None:
        """Played by a script: before these, `init` has no -json."""
        engine.configure(ONE_RESOURCE)
        old = engine.wrapper(
            f"case $* in version) echo {kind} v{version} ;;\n"
            f'version*) echo \'{{"terraform_version": "{version}"}}\' ;;\n'
            '*) echo "flag provided but not defined: -json" >&2; exit 1 ;; esac'
        )
        assert engine.run("--terraform", old).code == 1
        assert engine.reason().splitlines()[0] == (
            f"{kind} {version} is too old for this engine, which needs {needed} or later:"
        )

    def test_terraform_that_the_artifact_excludes_is_named(self, engine: Engine) -> None:
        engine.configure('terraform {\n  required_version = ">= 99.0"\n}\n' + ONE_RESOURCE)
        assert engine.run().code == 1
        first, second, *_ = engine.reason().splitlines()
        assert first.startswith("The artifact's required_version excludes Terraform 1.")
        assert second == "Unsupported Terraform Core version"


class TestTerminate:
    def test_that_finds_nothing_says_so(self, engine: Engine) -> None:
        engine.configure(GREETING)
        outcome = engine.run(message=TERMINATE)
        assert outcome.code == 0
        assert "warning: nothing was found that could be destroyed" in outcome.lines

    def test_that_finds_something_says_nothing(self, engine: Engine) -> None:
        engine.configure(GREETING)
        assert engine.run().code == 0
        outcome = engine.run(message=TERMINATE | {"recordId": "rec-2"})
        assert "warning" not in outcome.stderr


def test_state_lock_is_waited_for(engine: Engine) -> None:
    holder = hold_state_lock(engine, "sleep 3")
    outcome = engine.run()
    holder.communicate()
    assert outcome.code == 0, outcome.stderr
    assert "0 added, 0 changed, 0 destroyed" in outcome.stderr


class TestStalePlan:
    """A script in Terraform's place changes the state between plan and apply, `times` times."""

    def run(self, engine: Engine, times: int) -> int:
        engine.configure(GREETING)
        change = "terraform apply -auto-approve -var name=other$RANDOM >/dev/null"
        count = f"[ $(cat {engine.home}/plans 2>/dev/null | wc -l) -lt {times} ]"
        wrapper = engine.wrapper(
            f"if [ $1 = apply ] && {count}; then echo >>{engine.home}/plans; {change}; fi\n"
            'exec terraform "$@"'
        )
        return engine.run("--terraform", wrapper).code

    def test_is_made_again(self, engine: Engine) -> None:
        assert self.run(engine, 1) == 0
        assert engine.outputs() == {"greeting": "hello nobody"}

    def test_is_failed_where_it_goes_on(self, engine: Engine) -> None:
        assert self.run(engine, 99) == 1
        assert engine.reason().startswith("wrapper apply failed:\nSaved plan is stale\n")
