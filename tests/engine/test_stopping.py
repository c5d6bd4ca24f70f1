"""`run` stopped, by a signal or a time-out: it ends cleanly and says so."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import Sandbox
from engine_cli import (
    ONE_RESOURCE,
    SLOW,
    Engine,
    external_program,
    external_provider,
    read_until,
    running,
)


def ignore_hangup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def hanging_server() -> socket.socket:
    """A server that takes connections and never answers."""
    server = socket.create_server(("127.0.0.1", 0))
    server.listen()
    return server


class TestStopping:
    @pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_signal_in_apply_ends_it_cleanly_and_reports_failed(
        self, engine: Engine, kind: signal.Signals
    ) -> None:
        engine.configure(SLOW)
        process = engine.start()
        read_until(process, "begun")
        process.send_signal(kind)
        outcome = engine.end(process)
        assert outcome.code == 1
        assert "Gracefully shutting down" in outcome.stderr
        assert engine.reason().startswith(
            f"Terraform was stopped during apply: {kind.name} received:\n"
        )
        assert not (engine.directory / ".terraform.tfstate.lock.info").exists()

    @pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
    def test_signal_in_init_reports_failed(self, engine: Engine, kind: signal.Signals) -> None:
        with hanging_server() as server:
            port = server.getsockname()[1]
            engine.configure(f'module "a" {{ source = "http://127.0.0.1:{port}/a.zip" }}\n')
            process = engine.start()
            connection, _ = server.accept()
            process.send_signal(kind)
            outcome = engine.end(process)
            connection.close()
        assert outcome.code == 1
        assert engine.reason().startswith(
            f"Terraform was stopped during init: {kind.name} received"
        )

    @pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
    def test_signal_in_plan_reports_failed(self, engine: Engine, kind: signal.Signals) -> None:
        engine.configure(external_program(["sleep", "5"]))
        process = engine.start(TF_CLI_CONFIG_FILE=external_provider(engine))
        read_until(process, "data.external.program: Refreshing")
        process.send_signal(kind)
        assert engine.end(process).code == 1
        assert engine.reason().startswith(
            f"Terraform was stopped during plan: {kind.name} received"
        )

    def test_hangup_that_is_ignored_as_under_nohup_stops_nothing(self, engine: Engine) -> None:
        engine.configure(ONE_RESOURCE)
        wait = "[ $1 != init ] || { echo begun; until [ -e go ]; do sleep 0.1; done; }"
        process = engine.start(
            "--terraform",
            engine.wrapper(wait + '; exec terraform "$@"'),
            before=ignore_hangup,
        )
        read_until(process, "begun")
        process.send_signal(signal.SIGHUP)
        (engine.directory / "go").touch()
        assert engine.end(process).code == 0
        assert engine.sandbox.status() == "SUCCEEDED"

    @pytest.mark.parametrize("first", ["engine", "terraform"])
    def test_signal_for_a_whole_control_group_ends_it_cleanly(
        self, engine: Engine, first: str
    ) -> None:
        """As systemd sends it: Terraform has it already, and a second one would be no grace."""
        engine.configure(SLOW)
        slowly = engine.wrapper('terraform "$@"; code=$?; [ $1 != apply ] || sleep 2; exit $code')
        process = engine.start("--terraform", slowly)
        read_until(process, "begun")
        if first == "engine":
            process.send_signal(signal.SIGTERM)
        for pid in running(engine.home):
            with suppress(OSError):
                if b"terraform\0apply" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGTERM)
        read_until(process, "Gracefully shutting down")
        if first == "terraform":
            process.send_signal(signal.SIGTERM)
        outcome = engine.end(process)
        assert outcome.code == 1
        assert "stopping wrapper" not in outcome.stderr
        assert engine.reason().startswith("Terraform was stopped during apply: SIGTERM received")

    def test_signal_while_a_state_is_written_again_stops_what_comes_after_that(
        self, engine: Engine
    ) -> None:
        """Without the state nobody knows what there is."""
        engine.configure(ONE_RESOURCE)
        summary = "Failed to persist state to backend"
        diagnostic = {"severity": "error", "summary": summary, "detail": ""}
        event = {"@message": summary, "type": "diagnostic", "diagnostic": diagnostic}
        wrapper = engine.wrapper(
            f"""
            case "$1 $2" in
              apply*) touch errored.tfstate; echo '{json.dumps(event)}'; exit 1 ;;
              "state push")
                trap 'exit 1' INT
                kill -TERM $PPID
                for n in {{1..20}}; do sleep 0.1; done
                exit 0 ;;
            esac
            exec terraform "$@"
            """
        )
        outcome = engine.end(engine.start("--terraform", wrapper))
        assert outcome.lines.count("writing the state again") == 1
        assert not (engine.directory / "errored.tfstate").exists()
        assert engine.reason() == "Terraform was stopped during plan: SIGTERM received."

    def test_run_that_ends_well_all_the_same_is_a_success(self, engine: Engine) -> None:
        engine.configure(
            """
            resource "terraform_data" "a" {
              provisioner "local-exec" {
                command = "trap '' INT; echo begun; sleep 2"
              }
            }
            """
        )
        deaf = "trap '' INT TERM; "
        process = engine.start("--terraform", engine.wrapper(deaf + 'terraform "$@"'))
        read_until(process, "begun")
        process.send_signal(signal.SIGTERM)
        assert engine.end(process).code == 0
        assert engine.sandbox.status() == "SUCCEEDED"

    def test_second_signal_ends_it_at_once(self, engine: Engine) -> None:
        engine.configure(ONE_RESOURCE)
        stubborn = "trap '' INT; [ $1 != apply ] || { echo begun; sleep 60 & wait; }"
        process = engine.start(
            "--terraform", engine.wrapper(stubborn + '; trap - INT; exec terraform "$@"')
        )
        read_until(process, "begun")
        for _ in range(3):
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)
        outcome = engine.end(process)
        assert outcome.code == 1
        assert "stopping wrapper with SIGKILL: SIGINT received" in outcome.stderr
        assert engine.reason().startswith("Terraform was stopped during apply: SIGINT received")

    def test_time_out_ends_it_cleanly_and_reports_failed(self, engine: Engine) -> None:
        engine.configure(SLOW)
        outcome = engine.run("--timeout", "3")
        assert outcome.code == 1
        assert "Gracefully shutting down" in outcome.stderr
        assert engine.reason().startswith(
            "Terraform was stopped during apply: it did not end within 3 seconds:\n"
        )

    def test_terraform_that_ignores_the_time_out_is_killed(self, engine: Engine) -> None:
        engine.configure(ONE_RESOURCE)
        stubborn = engine.wrapper("trap '' INT; sleep 60 & wait; wait")
        outcome = engine.run("--terraform", stubborn, "--timeout", "1")
        assert outcome.code == 1
        assert "stopping wrapper with SIGKILL: it goes on" in outcome.stderr
        assert engine.reason() == (
            "Terraform was stopped during init: it did not end within 1 second."
        )

    def test_time_out_does_not_wait_for_a_reader_of_stderr(self, engine: Engine) -> None:
        engine.configure(SLOW.replace("exec sleep 60", "seq 1 5000; exec sleep 60"))
        process = engine.start("--timeout", "3")
        while engine.sandbox.status() == "IN_PROGRESS":
            time.sleep(0.1)
        assert "it did not end within 3 seconds" in engine.reason()
        assert engine.end(process).code == 1

    def test_failure_is_one_where_the_parent_ignores_what_becomes_of_its_children(
        self, engine: Engine
    ) -> None:
        engine.configure(SLOW.replace("exec sleep 60", "exit 3"))
        outcome = engine.run(before=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
        assert outcome.code == 1
        assert "exit status 3" in engine.reason()

    def test_terraform_comes_to_its_end_where_the_engine_is_killed(self, engine: Engine) -> None:
        """And says more than any pipe can hold, to nobody."""
        engine.configure(SLOW.replace("exec sleep 60", "sleep 1; seq 1 20000; touch created"))
        process = engine.start()
        read_until(process, "begun")
        process.kill()
        process.communicate()
        while running(engine.home):
            time.sleep(0.05)
        state = json.loads((engine.directory / "terraform.tfstate").read_text())
        assert [len(resource["instances"]) for resource in state["resources"]] == [1]
        assert (engine.directory / "created").exists()
        assert not (engine.directory / ".terraform.tfstate.lock.info").exists()

    def test_signal_while_reporting_does_not_stop_the_report(
        self, engine: Engine, start_sandbox: Callable[..., Sandbox]
    ) -> None:
        engine.sandbox = start_sandbox("--misbehave", "throttle:2")
        engine.configure(ONE_RESOURCE)
        process = engine.start()
        read_until(process, "rec-demo: reporting SUCCEEDED")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        assert engine.end(process).code == 0
        assert engine.sandbox.status() == "SUCCEEDED"

    def test_time_out_counts_for_a_terraform_that_closed_its_streams(self, engine: Engine) -> None:
        engine.configure(ONE_RESOURCE)
        mute = engine.wrapper("exec >&- 2>&-; exec sleep 60")
        outcome = engine.run("--terraform", mute, "--timeout", "1")
        assert outcome.code == 1
        assert engine.reason() == (
            "Terraform was stopped during init: it did not end within 1 second."
        )

    @pytest.mark.parametrize("command", ["exec sleep 60", "sleep 60; true"])
    def test_nothing_is_left_running(self, engine: Engine, command: str) -> None:
        engine.configure(SLOW.replace("exec sleep 60", command))
        assert engine.run("--timeout", "3").code == 1
        assert running(engine.home) == []
