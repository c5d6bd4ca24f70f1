"""`rescue`: how it stands with an order, what it says of it, and what it leaves alone."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import MAIN, UUID_TOKEN, Outcome, Program, clean_environment, endpoint
from engine_cli import MESSAGE, kill_left_over
from journal_cli import Desk, a_message, ended
from rescue_cli import by_record
from simulated_engine import MACHINE, Refusal, SimulatedEngine

from workflow_result.delivery import Delivery
from workflow_result.engine import dead_letters
from workflow_result.engine.calls import Service
from workflow_result.engine.catalog import Catalog
from workflow_result.engine.dead_letters import DeadLetterQueue
from workflow_result.engine.rescue import Rescue, Sources
from workflow_result.journal.place import open_journal
from workflow_result.problem import Problem

PLACED_ON = "2023-11-14T22:13:20+00:00"
ENDED_ON = "2023-11-14T22:14:20+00:00"
EXECUTION = "the execution pp-1-rec-demo"
APPLY = "`rescue --apply` ends it FAILED"
ELSEWHERE = (
    "see whether the engine takes messages, name its --state-machine or --dead-letter-queue, look "
    "for the message in its log and report it with `notify`, or ask AWS Support"
)


class Hanging:
    """`main.py rescue` for a simulated engine."""

    def __init__(self, program: Program, engine: SimulatedEngine) -> None:
        self.program = program
        self.engine = engine

    def __call__(self, *options: str, **environment: str) -> Outcome:
        return self.program("rescue", *options, **self.engine.environment | environment)

    @property
    def all(self) -> list[str]:
        """The options that name all that the engine has."""
        return [f"--state-machine={MACHINE}", f"--dead-letter-queue={self.engine.queue}"]


@pytest.fixture
def engine() -> Iterator[SimulatedEngine]:
    engine = SimulatedEngine()
    with engine.served():
        yield engine


@pytest.fixture
def rescue(program: Program, engine: SimulatedEngine) -> Hanging:
    return Hanging(program, engine)


def line(state: str, known: str) -> str:
    return (
        f"rec-demo  update  pp-1 (a-product)  210987654321  {state}  since {PLACED_ON}: {known}\n"
    )


# --- what is known of an order --------------------------------------------------------------

TABLE: list[tuple[dict[str, Any], str, str]] = [
    ({"status": "RUNNING", "stopDate": None}, "alive", f"{EXECUTION} of engine is RUNNING"),
    ({"status": "PENDING_REDRIVE"}, "alive", f"{EXECUTION} of engine is PENDING_REDRIVE"),
    ({}, "endable", f"{EXECUTION} failed (Lambda.Unknown) on {ENDED_ON}, without a report"),
    (
        {"status": "TIMED_OUT", "error": None},
        "endable",
        f"{EXECUTION} timed out on {ENDED_ON}, without a report",
    ),
    (
        {"status": "ABORTED", "error": "password=hunter2"},
        "endable",
        f"{EXECUTION} was aborted on {ENDED_ON}, without a report",
    ),
    (
        {"status": "SUCCEEDED", "error": None},
        "endable",
        f"{EXECUTION} succeeded on {ENDED_ON}, without a report",
    ),
    (
        {"input": None},
        "lost",
        f"{EXECUTION} failed (Lambda.Unknown) on {ENDED_ON}, and its input is of no use: Step "
        "Functions does not give it",
    ),
    (
        {"input": Refusal("KmsAccessDeniedException", "The key is not yours")},
        "lost",
        f"{EXECUTION} failed on {ENDED_ON}, and its input is of no use: KmsAccessDeniedException: "
        "The key is not yours; allow this role kms:Decrypt, in its IAM policy and in the key's",
    ),
    (
        {"input": "[]"},
        "lost",
        f"{EXECUTION} failed (Lambda.Unknown) on {ENDED_ON}, and its input is of no use: the "
        "message: must be a JSON object, not a list",
    ),
    (
        {"input": json.dumps(MESSAGE | {"recordId": "rec-other"})},
        "lost",
        f"{EXECUTION} failed (Lambda.Unknown) on {ENDED_ON}, and its input is of no use: it is "
        "that of rec-other",
    ),
    (
        {"stopDate": 4_000_000_000},
        "young",
        f"{EXECUTION} failed (Lambda.Unknown) on 2096-10-02T07:06:40+00:00, not long ago",
    ),
]
TO_DO = {
    "alive": "; where it hangs, stop it, then run `rescue` again",
    "endable": f"; {APPLY}",
    "lost": f"; {ELSEWHERE}",
    "young": "",
}
CODES = {"alive": 0, "endable": 75, "lost": 75, "young": 0}


@pytest.mark.parametrize(("changes", "state", "known"), TABLE, ids=lambda value: str(value)[:30])
def test_execution_tells(
    rescue: Hanging, engine: SimulatedEngine, changes: dict[str, Any], state: str, known: str
) -> None:
    engine.execution(**changes)
    outcome = rescue(*rescue.all)
    assert outcome.stdout == line(state, known + TO_DO[state])
    assert outcome.code == CODES[state]
    assert (
        outcome.stderr == f"1 under change, {int(state not in ('alive', 'young'))} of them hang\n"
    )
    assert rescue(*rescue.all, "--apply").code == (0 if state != "lost" else 75)
    assert engine.results() == ([("rec-demo", "FAILED")] if state == "endable" else [])


def test_execution_of_hashicorps_engine_is_read(rescue: Hanging, engine: SimulatedEngine) -> None:
    own: dict[str, Any] = {
        "terraformOrganization": "o",
        "tracerTag": {"token": "", "operation": ""},
    }
    engine.execution(input=engine.message(operation="UPDATE_PROVISIONED_PRODUCT", **own))
    outcome = rescue(*rescue.all, "--apply")
    assert outcome.code == 0
    ended = [(name, m) for name, m, _ in engine.calls if "Notify" in name]
    assert [name for name, _ in ended] == ["NotifyUpdateProvisionedProductEngineWorkflowResult"]
    assert ended[0][1]["WorkflowToken"] == UUID_TOKEN
    assert UUID_TOKEN not in outcome.stdout + outcome.stderr


def test_order_of_which_nothing_is_found_is_lost(rescue: Hanging) -> None:
    known = f"neither an execution nor a message of it was found; {ELSEWHERE}"
    assert rescue(*rescue.all, "--apply").stdout == line("lost", known)


def test_record_that_has_ended_leaves_nothing_to_do(
    rescue: Hanging, engine: SimulatedEngine
) -> None:
    engine.execution()
    engine.statuses["rec-demo"] = "FAILED"
    engine.under_change = ["rec-demo"]
    outcome = rescue(*rescue.all, "--apply")
    known = f"its record ended FAILED on {PLACED_ON}; Service Catalog has its result, and has not "
    assert (outcome.code, outcome.stdout) == (
        75,
        line("reported", f"{known}gone on: ask AWS Support"),
    )
    assert engine.results() == []


def test_nothing_hangs(rescue: Hanging, engine: SimulatedEngine) -> None:
    engine.statuses.clear()
    outcome = rescue(*rescue.all, "--json")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (
        0,
        "[]\n",
        "nothing is under change\n",
    )


def test_order_placed_just_now_is_left_alone(new_desk: Callable[..., Desk]) -> None:
    desk = new_desk()
    outcome = desk.main("rescue", "--apply", WORKFLOW_RESULT_JOURNAL="")
    assert outcome.code == 0
    assert ": it was placed not long ago\n" in outcome.stdout
    assert desk.main("rescue", "--older-than=0", WORKFLOW_RESULT_JOURNAL="").code == 75


def test_every_page_is_read(start_sandbox: Callable[..., Any], program: Program) -> None:
    records = [f"rec-{n:03}" for n in range(130)]
    sandbox = start_sandbox(*(f"--record={record}" for record in records))
    outcome = program("rescue", "--json", **sandbox.environment)
    assert sorted(by_record(outcome)) == records
    searches = sandbox.log.read_text().count("SearchProvisionedProducts")
    assert searches == 2


def test_every_message_of_a_long_queue_is_read_and_given_back(
    rescue: Hanging, engine: SimulatedEngine
) -> None:
    for n in range(34):
        engine.dead_letter(engine.message(f"rec-{n}"))
    engine.dead_letter()
    letters = dict(engine.letters)
    assert f"endable  since {PLACED_ON}: its message is in" in rescue(*rescue.all).stdout
    assert (engine.letters, engine.hidden) == (letters, set())
    assert rescue(*rescue.all, "--apply").code == 0
    assert (len(engine.letters), engine.hidden) == (34, set())


# --- the journal ----------------------------------------------------------------------------


@pytest.fixture
def hanging_desk(new_desk: Callable[..., Desk]) -> Desk:
    """A desk of which each order is old enough, and has a message in a dead-letter queue."""
    return new_desk()


def test_run_that_died_before_it_changed_anything_is_left_to_the_journal(
    hanging_desk: Desk, rescue: Hanging, engine: SimulatedEngine
) -> None:
    desk = hanging_desk
    step = "workflow_result.engine.terraform:TerraformRun.run"
    ended(desk.start(*desk.run_options, stdin=a_message("rec-demo"), **desk.killed("before", step)))
    kill_left_over(desk.home)
    engine.dead_letter()
    outcome = rescue(*rescue.all, "--json", "--apply", f"--journal={desk.journal}")
    row = by_record(outcome)["rec-demo"]
    assert (outcome.code, row["state"]) == (75, "owed")
    assert row["known"].endswith(" died before it changed anything")
    assert row["to_do"] == "its message comes again, or `resend` reports it FAILED"
    assert engine.results() == []


def test_journal_that_is_named_and_not_there_is_a_mistake(
    rescue: Hanging, engine: SimulatedEngine
) -> None:
    nowhere = rescue.program.home / "nowhere"
    outcome = rescue(*rescue.all, f"--journal={nowhere}", "--apply")
    expected = f"there is no journal {nowhere}: check --journal or WORKFLOW_RESULT_JOURNAL"
    assert (outcome.code, outcome.lines) == (78, [expected])
    assert engine.calls == []


def test_result_that_is_refused_leaves_the_message_and_can_be_tried_again(
    rescue: Hanging, engine: SimulatedEngine
) -> None:
    engine.dead_letter()
    engine.refuses["NotifyProvisionProductEngineWorkflowResult"] = Refusal(
        "InvalidParametersException", "not this account"
    )
    outcome = rescue(*rescue.all, "--apply", "--json")
    assert outcome.code == 69
    assert by_record(outcome)["rec-demo"]["known"].startswith(
        "rec-demo: Service Catalog refused the result for good: InvalidParametersException: "
    )
    assert (len(engine.letters), engine.hidden) == (1, set())
    engine.refuses.clear()
    again = rescue(*rescue.all)
    assert "a result of it was refused (InvalidParametersException: not this account); its " in (
        again.stdout
    )
    assert rescue(*rescue.all, "--apply").code == 0
    assert engine.letters == {}


def test_result_that_is_not_delivered_is_owed_and_sent_once(
    rescue: Hanging, engine: SimulatedEngine
) -> None:
    engine.dead_letter()
    engine.refuses["NotifyProvisionProductEngineWorkflowResult"] = Refusal("ThrottlingException")
    outcome = rescue(*rescue.all, "--apply", "--json")
    row = by_record(outcome)["rec-demo"]
    assert (outcome.code, row["state"], row["to_do"]) == (75, "owed", "`resend` sends it")
    assert engine.letters == {}
    engine.refuses.clear()
    assert rescue(*rescue.all, "--apply").code == 75
    assert rescue.program("resend", **engine.environment).code == 0
    assert rescue(*rescue.all, "--apply").lines == ["nothing is under change"]
    assert len(set(engine.results())) == 1
    tokens = {m["IdempotencyToken"] for name, m, _ in engine.calls if "Notify" in name}
    assert len(tokens) == 1


# --- what changes meanwhile -----------------------------------------------------------------


def once(names: list[str], what: Callable[[], object]) -> Callable[[str], None]:
    """A hook that does this before the last of these operations, in their order."""
    left = list(names)

    def before(operation: str) -> None:
        if left and operation == left[0]:
            left.pop(0)
            if not left:
                what()

    return before


def test_order_that_ends_meanwhile_is_left_alone(rescue: Hanging, engine: SimulatedEngine) -> None:
    engine.execution()
    end = {"rec-demo": "SUCCEEDED"}
    engine.before = once(["DescribeRecord"] * 2, lambda: engine.statuses.update(end))
    outcome = rescue(*rescue.all, "--apply", "--json")
    assert (outcome.code, by_record(outcome)["rec-demo"]["state"]) == (0, "over")
    assert engine.results() == []


def test_order_whose_message_has_gone_meanwhile_is_left_alone(
    rescue: Hanging, engine: SimulatedEngine
) -> None:
    engine.dead_letter()
    moved = ["ChangeMessageVisibilityBatch", "ReceiveMessage"]
    engine.before = once(moved, engine.letters.clear)
    outcome = rescue(*rescue.all, "--apply")
    why = "left alone: neither an execution nor a message of it was found"
    assert (outcome.code, outcome.lines[0]) == (75, f"rec-demo: {why}")
    assert engine.results() == []


def test_nobody_else_gets_the_message_until_the_order_has_ended(
    rescue: Hanging, engine: SimulatedEngine
) -> None:
    engine.dead_letter()
    held: list[set[str]] = []
    engine.before = lambda name: held.append(set(engine.hidden)) if "Notify" in name else None
    assert rescue(*rescue.all, "--apply").code == 0
    assert held == [{"0"}]


def test_message_that_is_not_held_any_more_ends_nothing(
    engine: SimulatedEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in engine.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(dead_letters, "HOLDING", 0)
    engine.dead_letter()
    delivery = Delivery(None, None, None)
    sources = Sources(
        [Catalog(Service("servicecatalog", delivery.account))],
        [],
        [DeadLetterQueue(engine.queue, delivery.account)],
        sees_runs=True,
    )
    rescue = Rescue(sources, None, lambda: open_journal(tmp_path / "journal"), delivery, 0)
    (finding,) = rescue.end(rescue.look())
    assert finding.known == "ending the others took too long"
    assert (engine.results(), len(engine.letters), engine.hidden) == ([], 1, set())
    monkeypatch.setattr(dead_letters, "READING", 0)
    with pytest.raises(Problem, match="it has more messages than can be read in time; delete some"):
        rescue.look()


# --- what may be looked at ------------------------------------------------------------------

QUEUE = "the dead-letter queue dead cannot be read"
STATE_MACHINE = "the state machine engine cannot be asked"


def test_queue_that_counts_is_never_received_from(rescue: Hanging, engine: SimulatedEngine) -> None:
    engine.queue_attributes = {"RedrivePolicy": "{}"}
    outcome = rescue(*rescue.all)
    why = "it counts how often a message was received, and has a dead-letter queue itself"
    assert (outcome.code, outcome.lines) == (78, [f"{QUEUE}: {why}"])
    assert "ReceiveMessage" not in {name for name, _, _ in engine.calls}


@pytest.mark.parametrize("kind", ["ExternalProvision", "ExternalUpdate", "TerraformOSTerminate"])
def test_operation_queue_is_never_received_from(
    rescue: Hanging, engine: SimulatedEngine, kind: str
) -> None:
    name = f"ServiceCatalog{kind}OperationQueue"
    outcome = rescue(f"--dead-letter-queue={engine.queue.replace('dead', name)}")
    line = (
        f"the dead-letter queue {name} cannot be read: it is a queue that Service Catalog sends to"
    )
    assert (outcome.code, outcome.lines) == (78, [line])
    assert "ReceiveMessage" not in {name for name, _, _ in engine.calls}


@pytest.mark.parametrize(
    ("operation", "refusal", "code", "said"),
    [
        (
            "GetQueueAttributes",
            Refusal("com.amazonaws.sqs#QueueDoesNotExist"),
            78,
            f"{QUEUE}: there is none; check --dead-letter-queue URL",
        ),
        (
            "ReceiveMessage",
            Refusal("AccessDeniedException", "not you"),
            75,
            f"{QUEUE}: AccessDeniedException: not you; allow this action in the IAM policy of the "
            "role that runs this",
        ),
        (
            "DescribeStateMachine",
            Refusal("StateMachineDoesNotExist"),
            78,
            f"{STATE_MACHINE}: there is none; check --state-machine {MACHINE}",
        ),
        (
            "DescribeExecution",
            Refusal("AccessDeniedException", "not you"),
            75,
            "rec-demo: its execution in engine is not known: AccessDeniedException: not you; allow "
            "this action in the IAM policy of the role that runs this",
        ),
        (
            "SearchProvisionedProducts",
            Refusal("ThrottlingException", "slowly"),
            75,
            "the products that are UNDER_CHANGE are not known: ThrottlingException: slowly",
        ),
        (
            "DescribeRecord",
            Refusal("ResourceNotFoundException", "none"),
            75,
            "rec-demo: it is not known how it stands: ResourceNotFoundException: none",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalpha() else "",
)
def test_what_cannot_be_asked_stops_everything(
    rescue: Hanging,
    engine: SimulatedEngine,
    operation: str,
    refusal: Refusal,
    code: int,
    said: str,
) -> None:
    engine.dead_letter()
    engine.refuses[operation] = refusal
    outcome = rescue(*rescue.all, "--apply")
    assert (outcome.code, outcome.lines) == (code, [said.replace("URL", engine.queue)])
    assert engine.results() == []
    assert (len(engine.letters), engine.hidden) == (1, set())


def test_express_state_machine_cannot_be_asked(rescue: Hanging, engine: SimulatedEngine) -> None:
    engine.machine = {"type": "EXPRESS"}
    outcome = rescue(*rescue.all)
    why = "it is an express one, of which only its log knows the executions"
    assert (outcome.code, outcome.lines) == (78, [f"{STATE_MACHINE}: {why}"])


def test_web_page_does_not_mean_that_nothing_hangs(rescue: Hanging) -> None:
    with endpoint(lambda *_: (200, b"{}"), request_id=None) as url:
        outcome = rescue(AWS_ENDPOINT_URL=url)
    assert outcome.code == 75
    assert outcome.lines == [
        "the products that are UNDER_CHANGE are not known: what answered is not AWS"
    ]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--state-machine=engine", "engine: must be the ARN of a state machine, arn:aws:states:…"),
        ("--dead-letter-queue=dead", "dead: must be the URL of a queue, https://…"),
        ("--older-than=-1", "-1 is not in the range x>=0."),
    ],
)
def test_wrong_usage(program: Program, option: str, said: str) -> None:
    outcome = program("rescue", option)
    name = option.partition("=")[0]
    assert outcome.code == 2
    assert outcome.lines[-1] == f"Error: Invalid value for '{name}': {said}"


def test_products_are_looked_for_with_their_profile_and_ended_with_the_engines(
    rescue: Hanging, engine: SimulatedEngine
) -> None:
    folder = rescue.program.home / ".aws"
    folder.mkdir()
    (folder / "config").write_text(
        "".join(
            f"[profile {name}]\naws_access_key_id = {name}\naws_secret_access_key = sandbox\n"
            for name in ("spoke-1", "spoke-2")
        )
    )
    engine.execution()
    profiles = ["--catalog-profile=spoke-1", "--catalog-profile=spoke-2"]
    outcome = rescue(*rescue.all, *profiles, "--apply")
    assert (outcome.code, len(outcome.stdout.splitlines())) == (0, 1)
    asked = [(name, key) for name, _, key in engine.calls]
    searches = [key for name, key in asked if name == "SearchProvisionedProducts"]
    assert searches == ["spoke-1", "spoke-2"]
    assert {key for name, key in asked if name == "DescribeRecord"} <= {"spoke-1", "spoke-2"}
    others = ("SearchProvisionedProducts", "DescribeRecord")
    assert {key for name, key in asked if name not in others} == {"sandbox"}


# --- who is asked ---------------------------------------------------------------------------


def on_terminal(rescue: Hanging, typed: str, *options: str) -> tuple[int, str]:
    """Run it where stdin is a terminal at which somebody has `typed` this."""
    ours, theirs = pty.openpty()
    os.write(ours, typed.encode())
    process = subprocess.run(
        [sys.executable, MAIN, "rescue", *options],
        stdin=theirs,
        capture_output=True,
        text=True,
        env=clean_environment(rescue.program.home, **rescue.engine.environment),
    )
    os.close(ours)
    os.close(theirs)
    return process.returncode, process.stderr


def test_each_order_is_confirmed_on_a_terminal(program: Program) -> None:
    engine = SimulatedEngine("rec-1", "rec-2")
    with engine.served():
        for record in ("rec-1", "rec-2"):
            engine.dead_letter(engine.message(record))
        queue = f"--dead-letter-queue={engine.queue}"
        code, said = on_terminal(Hanging(program, engine), "n\ny\n", queue, "--apply")
    assert code == 75
    assert said == (
        "rec-1: end this update of a-product FAILED? [y/N]: "
        "rec-2: end this update of a-product FAILED? [y/N]: "
        "rec-2: ended FAILED\n2 under change, 1 of them hang, 1 ended FAILED\n"
    )
    assert engine.results() == [("rec-2", "FAILED")]
    assert [json.loads(body)["recordId"] for body in engine.letters.values()] == ["rec-1"]


def test_where_nothing_tells_who_works_on_it_nothing_is_ended_without_a_person(
    rescue: Hanging, engine: SimulatedEngine
) -> None:
    engine.dead_letter()
    open_journal(rescue.program.journal).close()  # which may be anybody's
    outcome = rescue(f"--dead-letter-queue={engine.queue}", "--apply")
    assert outcome.code == 75
    assert outcome.lines == [
        f"rec-demo: left alone: {APPLY} when you say so on a terminal: nothing tells whether "
        "somebody works on it, so name the engine's --state-machine or --journal",
        "1 under change, 1 of them hang",
    ]
    assert engine.results() == []
