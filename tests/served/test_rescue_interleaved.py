"""A run that is alive is never ended, whenever it begins while `rescue` looks and acts."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from conftest import CREDENTIALS, Program
from journal_worker import work
from simulated_engine import MACHINE, SimulatedEngine
from tables import new_table
from warm import processes

from workflow_result.engine.message import Message, read
from workflow_result.journal.place import Table
from workflow_result.journal.record import Entry, State

Run = Callable[[SimulatedEngine], Entry]


@pytest.fixture(params=["file", "table"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path
) -> tuple[Path | Table, str, dict[str, str]]:
    """A journal: where it is, what it is called, and the environment for it."""
    if request.param == "file":
        return tmp_path / "journal", str(tmp_path / "journal"), {}
    table = new_table(request.getfixturevalue("ministack"))
    return Table(table.name), table.url(), table.environment


@pytest.fixture(params=["goes on", "ends", "waits"])
def run(
    request: pytest.FixtureRequest, place: tuple[Path | Table, str, dict[str, str]]
) -> Iterator[Run]:
    """Have another process begin a run of an engine's order, or try. It stays alive; or is
    reported at once, of which Service Catalog makes nothing yet; or waits for a build."""
    ours, theirs = processes.Pipe()
    arguments = [place[0], CREDENTIALS | place[2], theirs]
    process = processes.Process(target=work, args=arguments, daemon=True)
    process.start()
    theirs.close()
    ours.recv()
    kind = request.param

    def do(method: str, *arguments: Any) -> Any:
        ours.send((method, arguments))
        return ours.recv()

    def run(engine: SimulatedEngine) -> Entry:
        message = read(engine.message(next(iter(engine.statuses))).encode())
        assert isinstance(message, Message)
        request, there = message.result([], "The machine died."), ("sandbox", None)
        if kind == "waits":
            waiting: Entry = do("wait", request, *there, engine.message())
            return waiting
        entry: Entry = do("begin", request, *there)
        if kind == "ends" and is_run(entry):
            do("settle", [do("owe", message.result([], None), *there, entry)])
        return entry

    yield run
    ours.close()
    process.join()


def is_run(entry: Entry) -> bool:
    return entry.own and entry.state in (State.RUNNING, State.WAITING)


def moments(happens: Callable[[SimulatedEngine], Any]) -> Iterator[tuple[SimulatedEngine, Any]]:
    """Yield engines of which each has this happen before another one of its answers, the next
    call each time; and a list that has what came of it by then."""
    for moment in count():
        engine = SimulatedEngine(f"rec-{moment}")
        came: list[Any] = []
        numbers = count()

        def before(_: str) -> None:
            if next(numbers) == moment:  # noqa: B023
                came.append(happens(engine))  # noqa: B023

        engine.before = before
        with engine.served():
            yield engine, came
        if not came:
            return


def test_run_that_begins_stands_against_it_or_does_not_begin(
    program: Program, place: tuple[Path | Table, str, dict[str, str]], run: Run
) -> None:
    stood = ended = 0
    for engine, came in moments(run):
        (record,) = engine.statuses
        engine.dead_letter(engine.message(record))
        options = [f"--state-machine={MACHINE}", f"--dead-letter-queue={engine.queue}"]
        options += ["--apply", f"--journal={place[1]}"]
        program("rescue", *options, **engine.environment | place[2])
        if came and is_run(came[0]):
            stood += 1
            assert engine.results() == []
            assert (len(engine.letters), engine.hidden) == (1, set())
        else:
            ended += 1
            assert engine.results() == [(record, "FAILED")]
            assert engine.letters == {}
    assert stood > 5
    assert ended > 1


def test_execution_that_goes_on_again_is_left_alone_where_that_can_be_known(
    program: Program,
) -> None:
    def redrive(engine: SimulatedEngine) -> int:
        (record,) = engine.statuses
        engine.execution(record, status="RUNNING", stopDate=None)
        return len(engine.calls)

    left_alone = 0
    for engine, came in moments(redrive):
        (record,) = engine.statuses
        engine.execution(record)
        program("rescue", f"--state-machine={MACHINE}", "--apply", **engine.environment)
        later = [name for name, _, _ in engine.calls[came[0] :]] if came else []
        if "DescribeExecution" in later:
            left_alone += 1
            assert engine.results() == []
        else:
            assert engine.results() == [(record, "FAILED")]
            # Nothing was asked between the last look and the report.
            names = [name for name, _, _ in engine.calls]
            assert names[-2:] == ["DescribeExecution", names[-1]]
    assert left_alone > 3
