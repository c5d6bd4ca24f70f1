"""`run`: the real Terraform, for a message, reported to a sandbox however it ends."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import MAIN, UUID_TOKEN, Sandbox, clean_environment
from engine_cli import (
    GREETING,
    MESSAGE,
    ONE_RESOURCE,
    SLOW,
    TERMINATE,
    TRACER,
    Engine,
    external_program,
    external_provider,
    hold_state_lock,
    limit_file_size,
    read_until,
    running,
)


class TestSuccess:
    def test_record_ends_with_outputs_and_descriptions(self, engine: Engine) -> None:
        engine.configure(GREETING)
        parameters = [{"key": "name", "value": "Ünal"}]
        outcome = engine.run(message=MESSAGE | {"parameters": parameters})
        assert outcome.code == 0, outcome.stderr
        record = engine.sandbox.record()
        assert record["RecordDetail"]["Status"] == "SUCCEEDED"
        assert record["RecordOutputs"] == [
            {
                "OutputKey": "greeting",
                "OutputValue": "hello Ünal",
                "Description": "What it says",
            }
        ]
        assert outcome.json["status"] == "SUCCEEDED"
        assert outcome.json["reported"] == "true"

    def test_outputs_of_every_type_are_in_name_order(self, engine: Engine) -> None:
        engine.configure(
            ONE_RESOURCE
            + """
            output "z_string"    { value = "as \\"it\\" is" }
            output "y_number"    { value = 12.5 }
            output "x_digits"    { value = [3.14159265358979323846, 12345678901234567890] }
            output "x_large"     { value = 1e5000 }
            output "w_bool"      { value = true }
            output "v_list"      { value = ["a", 1, null] }
            output "u_object"    { value = { "b" = { "c" = "é" }, "a" = [] } }
            output "t_empty"     { value = "" }
            output "s_sensitive" {
              value     = "hunter2hunter2"
              sensitive = true
            }
            """
        )
        assert engine.run().code == 0
        outputs = engine.outputs()
        assert list(outputs) == sorted(outputs)
        assert outputs == {
            "s_sensitive": "(sensitive value)",
            "t_empty": "",
            "u_object": '{"a":[],"b":{"c":"é"}}',
            "v_list": '["a",1,null]',
            "w_bool": "true",
            "x_digits": "[3.14159265358979323846,12345678901234567890]",
            "x_large": "1" + "0" * 5000,
            "y_number": "12.5",
            "z_string": 'as "it" is',
        }

    def test_output_that_shows_the_workflow_token_is_hidden(self, engine: Engine) -> None:
        engine.configure(
            """
            variable "callback" {}
            output "callback" { value = { url = "https://example.com/${var.callback}" } }
            output "other" { value = "1" }
            """
        )
        parameters = [{"key": "callback", "value": UUID_TOKEN}]
        assert engine.run(message=MESSAGE | {"parameters": parameters}).code == 0
        assert engine.outputs() == {"callback": "(sensitive value)", "other": "1"}

    def test_resource_identifier_is_the_tracer_tag(self, engine: Engine) -> None:
        """The sandbox takes an IdempotencyToken again with the very same content only."""
        engine.configure(ONE_RESOURCE)
        outcome = engine.run()
        engine.sandbox.client.notify_provision_product_engine_workflow_result(
            WorkflowToken=UUID_TOKEN,
            RecordId="rec-demo",
            Status="SUCCEEDED",
            Outputs=[],
            ResourceIdentifier={"UniqueTag": TRACER},
            IdempotencyToken=outcome.json["idempotency_token"],
        )

    def test_resource_identifier_is_there_for_a_failure_too(self, engine: Engine) -> None:
        """Some resources may exist."""
        outcome = engine.run()
        engine.sandbox.client.notify_provision_product_engine_workflow_result(
            WorkflowToken=UUID_TOKEN,
            RecordId="rec-demo",
            Status="FAILED",
            FailureReason=engine.reason(),
            ResourceIdentifier={"UniqueTag": TRACER},
            IdempotencyToken=outcome.json["idempotency_token"],
        )

    def test_plan_with_nothing_to_do_succeeds_with_outputs(
        self, engine: Engine, start_sandbox: Callable[..., Sandbox]
    ) -> None:
        engine.configure(GREETING)
        assert engine.run().code == 0
        engine.sandbox = start_sandbox()
        update = MESSAGE | {"operation": "UPDATE_PROVISIONED_PRODUCT"}
        outcome = engine.run(message=update, WORKFLOW_RESULT_JOURNAL=str(engine.home / "j" / "j"))
        assert outcome.code == 0
        assert "0 added, 0 changed, 0 destroyed" in outcome.stderr
        assert engine.outputs() == {"greeting": "hello nobody"}

    @pytest.mark.parametrize(
        "spelling", ["TERMINATE_PROVISIONED_PRODUCT", "TERMINATE_PROVISION_PRODUCT"]
    )
    def test_terminate_destroys_what_is_there(
        self, engine: Engine, start_sandbox: Callable[..., Sandbox], spelling: str
    ) -> None:
        engine.configure(GREETING)
        assert engine.run().code == 0
        engine.sandbox = start_sandbox()
        terminate = TERMINATE | {"operation": spelling}
        outcome = engine.run(
            message=terminate, WORKFLOW_RESULT_JOURNAL=str(engine.home / "j" / "j")
        )
        assert outcome.code == 0, outcome.stderr
        assert outcome.json["operation"] == "terminate"
        assert "1 destroyed" in outcome.stderr
        assert engine.sandbox.record()["RecordDetail"]["RecordType"] == (
            "TERMINATE_PROVISIONED_PRODUCT"
        )
        state = json.loads((engine.directory / "terraform.tfstate").read_text())
        assert state["resources"] == []

    @pytest.mark.parametrize("spelling", ["UPDATE_PROVISIONED_PRODUCT", "UPDATE_PROVISION_PRODUCT"])
    def test_update_has_two_spellings(self, engine: Engine, spelling: str) -> None:
        engine.configure(ONE_RESOURCE)
        outcome = engine.run(message=MESSAGE | {"operation": spelling})
        assert (outcome.code, outcome.json["operation"]) == (0, "update")

    def test_tags_and_tracer_tag_are_in_the_environment(self, engine: Engine) -> None:
        """Read by Python: a shell drops variables whose names it cannot have itself."""
        script = "import os; open('tags', 'w').write(chr(10).join(k + '=' + v for k, v in "
        script += "sorted(os.environ.items()) if k.startswith('TF_AWS_')))"
        engine.configure(
            f"""
            resource "terraform_data" "a" {{
              provisioner "local-exec" {{
                interpreter = ["{sys.executable}", "-c"]
                command     = "{script}"
              }}
            }}
            """
        )
        tags = [
            {"key": "team:name", "value": "a = b"},
            {"key": "empty", "value": ""},
            {"key": "absent"},
            {"key": TRACER["Key"], "value": "forged"},
        ]
        assert engine.run(message=MESSAGE | {"tags": tags}).code == 0
        assert (engine.directory / "tags").read_text().splitlines() == [
            "TF_AWS_DEFAULT_TAGS_SERVICE_CATALOG_TERRAFORM_INTEGRATION-DO_NOT_DELETE=pp-1",
            "TF_AWS_DEFAULT_TAGS_empty=",
            "TF_AWS_DEFAULT_TAGS_team:name=a = b",
        ]
        assert sorted(p.name for p in engine.directory.glob("*.tf")) == ["main.tf"]

    def test_terraform_knows_that_nobody_is_there_to_type(self, engine: Engine) -> None:
        engine.configure(ONE_RESOURCE)
        program = engine.wrapper('[ "$TF_IN_AUTOMATION" ] && exec terraform "$@"')
        assert engine.run("--terraform", program).code == 0

    def test_lines_that_are_not_json_are_told_and_do_no_harm(self, engine: Engine) -> None:
        engine.configure(GREETING)
        noise = 'echo "no json"; echo "{\\"json\\": \\"but no event\\"}"; echo 1; echo warn >&2; '
        noise += 'echo "{\\"@message\\": 5, \\"type\\": \\"log\\"}"; printf "\\377\\n"; '
        noise += 'echo "{\\"@message\\": \\"m\\", \\"type\\": \\"diagnostic\\", \\"range\\": 1}"; '
        noise += "printf '[%.0s' {1..9999}; echo"
        outcome = engine.run("--terraform", engine.wrapper(f'{noise}; exec terraform "$@"'))
        assert outcome.code == 0
        assert "  no json\n" in outcome.stderr
        assert engine.outputs() == {"greeting": "hello nobody"}

    def test_result_that_cannot_be_printed_is_reported_all_the_same(self, engine: Engine) -> None:
        engine.configure('output "hello" {\n  value = "world"\n}')
        full = lambda: os.dup2(os.open("/dev/full", os.O_WRONLY), 1)  # noqa: E731
        outcome = engine.run(before=full)
        told = "stdout cannot be written: No space left on device; all else is done"
        assert (outcome.code, outcome.lines[-1]) == (0, told)
        assert engine.sandbox.status() == "SUCCEEDED"

    def test_output_of_ten_megabytes_is_reported(self, engine: Engine) -> None:
        (engine.directory / "big").write_text("x" * 10_000_000)
        engine.configure(ONE_RESOURCE + 'output "big" { value = file("big") }\n')
        outcome = engine.run()
        assert outcome.code == 0, outcome.stderr
        assert len(engine.outputs()["big"]) == 10_000_000

    def test_what_goes_on_writing_does_not_hold_up_the_report(self, engine: Engine) -> None:
        engine.configure(GREETING)
        writer = "for i in {1..300}; do echo noise; sleep 0.1; done"
        wrapper = engine.wrapper(f'[ $1 != apply ] || ({writer}) & exec terraform "$@"')
        outcome = engine.run("--terraform", wrapper)
        assert outcome.code == 0
        assert outcome.stderr.count("noise") < 150
        assert engine.outputs() == {"greeting": "hello nobody"}

    def test_what_terraform_leaves_running_does_not_hold_up_the_report(
        self, engine: Engine
    ) -> None:
        engine.configure(
            """
            resource "terraform_data" "a" {
              provisioner "local-exec" {
                command = "sleep 50 >/dev/null 2>&1 &"
              }
            }
            """
        )
        keep_open = 'terraform "$@"; code=$?; [ "$1" != apply ] || sleep 60 & exit $code'
        began = time.monotonic()
        assert engine.run("--terraform", engine.wrapper(keep_open)).code == 0
        assert time.monotonic() - began < 40


class TestFailure:
    def test_error_of_apply(self, engine: Engine) -> None:
        engine.configure(
            """
            resource "terraform_data" "a" {
              provisioner "local-exec" {
                command = "echo no room left; exit 3"
              }
            }
            """
        )
        outcome = engine.run()
        assert outcome.code == 1
        assert engine.reason() == (
            "terraform apply failed:\n"
            "local-exec provisioner error (terraform_data.a)\n"
            "on main.tf line 3\n"
            "Error running command 'echo no room left; exit 3': exit status 3. Output: no room left"
        )
        assert outcome.json["status"] == "FAILED"

    def test_error_of_plan(self, engine: Engine) -> None:
        engine.configure(
            ONE_RESOURCE + 'output "a" { value = file("missing") }\noutput "b" { value = var.c }\n'
        )
        assert engine.run().code == 1
        reason = engine.reason()
        assert reason.startswith("terraform plan failed:\n1. ")
        assert "Reference to undeclared input variable" in reason
        assert 'Invalid value for "path" parameter' in reason or "Invalid function" in reason

    def test_error_of_init(self, engine: Engine) -> None:
        engine.configure('module "a" { source = "./missing" }\n')
        assert engine.run().code == 1
        assert engine.reason().startswith("terraform init failed:\n1. Unreadable module directory")

    def test_configuration_that_does_not_parse(self, engine: Engine) -> None:
        engine.configure('resource "terraform_data" {')
        assert engine.run().code == 1
        assert engine.reason().startswith("terraform init failed:\n")
        assert "main.tf line 1" in engine.reason()

    def test_working_directory_without_a_configuration(self, engine: Engine) -> None:
        """A destroy plan of it has nothing to destroy, and would pass for a success."""
        (engine.directory / "terraform.tfvars").touch()
        (engine.directory / ".hidden.tf").touch()
        assert engine.run(message=TERMINATE).code == 1
        assert engine.reason() == f"The working directory {engine.directory} has no configuration."

    def test_working_directory_that_is_not_there(self, engine: Engine) -> None:
        engine.directory.rmdir()
        assert engine.run().code == 1
        assert engine.reason() == f"The working directory {engine.directory} does not exist."

    def test_terraform_that_is_missing(self, engine: Engine) -> None:
        engine.configure(ONE_RESOURCE)
        outcome = engine.run("--terraform", "terraform-x")
        assert outcome.code == 78
        assert engine.reason() == "terraform-x was not found on the engine's machine."
        assert "terraform-x was not found on the engine's machine" in outcome.lines

    def test_path_of_terraform_is_meant_from_here(self, engine: Engine) -> None:
        engine.configure(ONE_RESOURCE)
        wrapper = Path(engine.wrapper('exec terraform "$@"'))
        assert engine.run("--terraform", f"./{wrapper.name}").code == 0

    def test_terraform_that_cannot_be_run(self, engine: Engine) -> None:
        engine.configure(ONE_RESOURCE)
        file = engine.home / "terraform"
        file.write_text("no program")
        assert engine.run("--terraform", str(file)).code == 78
        assert engine.reason() == f"{file} cannot be run on the engine's machine."

    def test_terraform_killed_by_a_signal(self, engine: Engine) -> None:
        engine.configure(
            """
            resource "terraform_data" "a" {
              provisioner "local-exec" {
                command = "sleep 60 >/dev/null 2>&1 & kill -9 $PPID"
              }
            }
            """
        )
        assert engine.run().code == 1
        assert engine.reason() == "terraform apply was killed by SIGKILL."
        assert running(engine.home) == []

    def test_provider_that_died(self, engine: Engine) -> None:
        """The data source's program ends the provider, which started it."""
        engine.configure(external_program(["sh", "-c", "kill -9 $PPID"]))
        assert engine.run(TF_CLI_CONFIG_FILE=external_provider(engine)).code == 1
        assert engine.reason().startswith("terraform plan failed:\n")
        assert "ReadDataSource" in engine.reason()

    def test_program_that_says_why_it_fails_in_plain_text(self, engine: Engine) -> None:
        engine.configure(ONE_RESOURCE)
        program = engine.wrapper("echo licence expired >&2; exit 7")
        assert engine.run("--terraform", program).code == 1
        assert engine.reason() == "wrapper init failed:\nlicence expired"

    def test_what_an_earlier_step_said_is_not_in_the_reason(self, engine: Engine) -> None:
        engine.configure(ONE_RESOURCE)
        program = engine.wrapper("echo $1 speaks; [ $1 = init ]")
        assert engine.run("--terraform", program).code == 1
        assert engine.reason() == "wrapper plan failed:\nplan speaks"

    def test_log_of_terraform_is_not_in_the_reason(self, engine: Engine) -> None:
        engine.configure(ONE_RESOURCE)
        log = "2026-01-01T00:00:00.000Z [DEBUG] noise"
        wrapper = engine.wrapper(
            f"echo '{log}'; echo '{{\"@level\": \"debug\"}}'; echo why; exit 3"
        )
        assert engine.run("--terraform", wrapper).code == 1
        assert engine.reason() == "wrapper init failed:\nwhy"

    def test_first_lines_of_a_panic_are_in_the_reason(self, engine: Engine) -> None:
        engine.configure(ONE_RESOURCE)
        wrapper = engine.wrapper("echo 'panic: why'; seq 60; exit 2")
        assert engine.run("--terraform", wrapper).code == 1
        assert engine.reason().startswith("wrapper init failed:\npanic: why\n1\n")
        assert engine.reason().endswith("\n59\n60")

    def test_program_that_says_nothing_leaves_its_exit_status(self, engine: Engine) -> None:
        engine.configure(ONE_RESOURCE)
        assert engine.run("--terraform", engine.wrapper("exit 7")).code == 1
        assert engine.reason() == "wrapper init failed with exit status 7."

    def test_state_lock_that_another_run_holds(self, engine: Engine) -> None:
        holder = hold_state_lock(engine, "exec sleep 60")
        assert engine.run("--lock-timeout", "1").code == 1
        assert engine.reason().startswith(
            "terraform plan failed:\nError acquiring the state lock\n"
        )
        holder.terminate()
        holder.communicate()

    def test_full_disk_under_the_plan_file(self, engine: Engine) -> None:
        """A limit on the size of files stands for the disk: both fail the write."""
        engine.configure(ONE_RESOURCE)
        assert engine.run(before=lambda: limit_file_size(512)).code == 1
        assert engine.reason().startswith(
            "The plan could not be written: the disk may be full under "
        )

    def test_tags_that_are_too_long(self, engine: Engine) -> None:
        engine.configure(ONE_RESOURCE)
        tags = [{"key": "a", "value": "x" * 3_000_000}]
        assert engine.run(message=MESSAGE | {"tags": tags}).code == 1
        assert engine.reason() == "The tags are too long to be passed on to Terraform."

    def test_tag_whose_key_the_environment_cannot_hold(self, engine: Engine) -> None:
        engine.configure(ONE_RESOURCE)
        assert engine.run(message=MESSAGE | {"tags": [{"key": "a=b", "value": "c"}]}).code == 1
        assert engine.reason() == 'The tag "a=b" cannot be passed on: its key has a =.'


class TestSecrets:
    @pytest.mark.parametrize("origin", ["message", "environment", "file", "default"])
    def test_sensitive_variable_is_not_in_the_reason_of_a_failure(
        self, engine: Engine, origin: str
    ) -> None:
        default = 'default = "correct horse"' if origin == "default" else ""
        engine.configure(
            f"""
            variable "password" {{
              type      = string
              sensitive = true
              {default}
            }}
            resource "terraform_data" "a" {{
              provisioner "local-exec" {{
                command = "echo refused; exit 1 # ${{var.password}}"
              }}
            }}
            """
        )
        parameters = [{"key": "password", "value": "correct horse"}] if origin == "message" else []
        variables = {"TF_VAR_password": "correct horse"} if origin == "environment" else {}
        if origin == "file":
            (engine.directory / "terraform.tfvars").write_text('password = "correct horse"')
        outcome = engine.run(message=MESSAGE | {"parameters": parameters}, **variables)
        assert outcome.code == 1
        assert "exit 1 # (sensitive value)" in engine.reason()
        assert "correct horse" not in engine.reason() + outcome.stderr

    def test_token_of_a_registry_is_not_in_the_reason_of_a_failure(self, engine: Engine) -> None:
        """Nor where a provisioner shows its environment."""
        engine.configure(
            """
            resource "terraform_data" "a" {
              provisioner "local-exec" { command = "env | grep TF_TOKEN; exit 1" }
            }
            """
        )
        outcome = engine.run(TF_TOKEN_app_terraform_io="aBcDeF.atlasv1.0123456789")
        assert outcome.code == 1
        assert "TF_TOKEN_app_terraform_io=(TF_TOKEN_app_terraform_io)" in engine.reason()
        assert "aBcDeF" not in engine.reason() + outcome.stderr

    def test_token_is_nowhere_but_in_the_report(self, engine: Engine) -> None:
        """Not in arguments, environments, state, logs at TRACE or what is printed.

        A token that no other test has: it looks at all processes of the machine.
        """
        tokens = [f"0f0e0d0c-3088-41ae-87dc-{number:012}" for number in range(3)]
        engine.configure(
            GREETING
            + """
            resource "terraform_data" "look" {
              provisioner "local-exec" {
                command = "cat /proc/[0-9]*/cmdline /proc/self/environ >seen 2>/dev/null; true"
              }
            }
            """
        )
        log = engine.home / "terraform.log"
        outcome = engine.run(
            message=MESSAGE | {"token": tokens[0]},
            TF_LOG="TRACE",
            TF_LOG_PATH=str(log),
            WORKFLOW_RESULT_TOKEN=tokens[1],
            WORKFLOW_RESULT_REQUEST=json.dumps({"WorkflowToken": tokens[2]}),
        )
        assert outcome.code == 0, outcome.stderr
        assert log.stat().st_size > 10_000
        assert (engine.directory / "seen").stat().st_size > 1_000
        for token in tokens:
            assert token not in outcome.stdout + outcome.stderr
            for file in (path for path in engine.home.rglob("*") if path.is_file()):
                assert token.encode() not in file.read_bytes(), file

    def test_plan_file_has_no_name_that_others_could_read(self, engine: Engine) -> None:
        """While it is applied, too; so nothing is left however the run ends."""
        engine.configure(SLOW)
        folder = engine.home / "tmp"
        folder.mkdir()
        process = engine.start(TMPDIR=str(folder))
        read_until(process, "begun")
        assert list(folder.iterdir()) == []
        names = {path.name for path in engine.directory.iterdir()}
        assert names <= {"main.tf", ".terraform.tfstate.lock.info", "terraform.tfstate"}
        process.kill()
        process.communicate()


class TestReport:
    def test_report_that_is_not_delivered_is_exit_code_75(
        self, engine: Engine, start_sandbox: Callable[..., Sandbox]
    ) -> None:
        engine.sandbox = start_sandbox("--misbehave", "access-denied")
        engine.configure(ONE_RESOURCE)
        outcome = engine.run()
        assert (outcome.code, outcome.stdout) == (75, "")
        assert "rec-demo: not reported: AccessDeniedException" in outcome.lines[-1]

    def test_report_that_is_refused_is_exit_code_69(self, engine: Engine) -> None:
        engine.configure(ONE_RESOURCE)
        outcome = engine.run(message=MESSAGE | {"recordId": "rec-x"})
        assert outcome.code == 69
        assert "refused the result for good: ResourceNotFoundException" in outcome.lines[-1]

    def test_closed_stderr_does_not_stop_anything(self, engine: Engine) -> None:
        engine.configure(GREETING)
        done = subprocess.run(
            ["bash", "-c", f"{sys.executable} {MAIN} run --chdir artifact 2>&-"],
            input=json.dumps(MESSAGE).encode(),
            capture_output=True,
            cwd=engine.home,
            env=clean_environment(engine.home, **engine.sandbox.environment),
        )
        assert done.returncode == 0
        assert engine.outputs() == {"greeting": "hello nobody"}


class TestProgress:
    def test_it_is_told_step_by_step_without_colours_in_a_log(self, engine: Engine) -> None:
        engine.configure(GREETING)
        outcome = engine.run()
        steps = [line for line in outcome.lines if not line.startswith(" ")]
        assert steps == [
            "terraform init",
            "terraform plan",
            "terraform apply",
            "rec-demo: reporting SUCCEEDED",
        ]
        assert "  terraform_data.greeting: Creating..." in outcome.lines
        assert "\x1b" not in outcome.stderr

    @pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
    def test_terminal_shows_colours_unless_no_color_is_set(
        self, engine: Engine, no_color: str, coloured: bool
    ) -> None:
        engine.configure('output "a" { value = nonsense }\n')
        (engine.home / "message").write_text(json.dumps(MESSAGE))
        command = f"{sys.executable} {MAIN} run --chdir artifact <message"
        done = subprocess.run(
            ["script", "-qec", command, "/dev/null"],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            cwd=engine.home,
            env=clean_environment(
                engine.home, **engine.sandbox.environment, NO_COLOR=no_color, TERM="xterm"
            ),
        )
        assert (b"\x1b[31m  Error: " in done.stdout) is coloured
        assert (b"\x1b" in done.stdout) is coloured
