"""Many processes on one journal."""

from collections.abc import Callable

from conftest import ROOT
from journal_cli import Desk, a_message, a_request, ended

from workflow_result.journal.files import Locks
from workflow_result.journal.place import open_journal


class TestSixteenProcesses:
    def test_each_delivers_its_result_once(self, new_desk: Callable[..., Desk]) -> None:
        records = [f"rec-{n}" for n in range(16)]
        desk = new_desk(*(f"--record={record}" for record in records))
        processes = [desk.start("notify", stdin=a_request(record)) for record in records]
        assert [(o.code, o.stderr) for o in map(ended, processes)] == [(0, "")] * 16
        assert sorted(record for record, _, _ in desk.sandbox.calls()) == sorted(records)
        assert desk.leftovers() == []

    def test_the_same_result_has_one_idempotency_token(self, new_desk: Callable[..., Desk]) -> None:
        desk = new_desk()
        processes = [desk.start("notify", stdin=a_request("rec-demo")) for _ in range(16)]
        outcomes = [ended(process) for process in processes]
        assert {(o.code, o.stdout) for o in outcomes} == {(0, outcomes[0].stdout)}
        late = "rec-demo: reported before, says the journal; not sent again\n"
        assert {o.stderr for o in outcomes} <= {"", late}
        assert desk.tokens("rec-demo") == {outcomes[0].json["idempotency_token"]}

    def test_all_kinds_together(self, new_desk: Callable[..., Desk]) -> None:
        owed = [f"rec-{n}" for n in range(30)]
        desk = new_desk(*(f"--record={record}" for record in owed))
        desk.owe(*owed[:20])
        processes = [desk.start("resend") for _ in range(6)]
        processes += [desk.start("notify", stdin=a_request(r)) for r in owed[20:25]]
        processes += [desk.start(*desk.run_options, stdin=a_message(r)) for r in owed[25:]]
        assert {ended(process).code for process in processes} <= {0, 75}
        assert desk.main("resend").code == 0
        assert sorted(record for record, _, _ in desk.sandbox.calls()) == sorted(owed)
        assert desk.leftovers() == []


def test_none_loses_the_journal_for_being_many(new_desk: Callable[..., Desk]) -> None:
    """On a disk so slow that they take twice as long together as one of them waits for nobody."""
    script = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        "from workflow_result import main\n"
        "from workflow_result.journal import database, sqlite\n"
        "enter = sqlite.SQLiteStore._enter\n"
        "def slowly(*arguments):\n"
        "    time.sleep(0.5)\n"
        "    return enter(*arguments)\n"
        "sqlite.SQLiteStore._enter = slowly\n"
        "database.BUSY_SECONDS = 3\n"
        "main()\n"
    )
    records = [f"rec-{n}" for n in range(12)]
    desk = new_desk(*(f"--record={record}" for record in records))
    open_journal(desk.journal).close()
    processes = [
        desk.start("notify", stdin=a_request(record), through=["-c", script]) for record in records
    ]
    assert [(o.code, o.stderr) for o in map(ended, processes)] == [(0, "")] * len(records)
    with desk.table() as table:
        counted = table.execute("SELECT state, count(*) FROM result GROUP BY state").fetchall()
    assert counted == [("reported", len(records))]


def test_turn_that_is_not_given_back_is_not_waited_for_for_ever(desk: Desk, record: str) -> None:
    desk.owe("rec-x")
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
        "from workflow_result import main; from workflow_result.journal import database; "
        "database.BUSY_SECONDS = 0.2; main()"
    )
    locks = Locks(desk.journal)
    with locks.turn(1):
        outcome = desk.notify(record, through=["-c", script])
        resent = desk.main("resend", through=["-c", script])
    locks.close()
    line = f"the journal {desk.journal} cannot be used: another process does not let go of it"
    assert outcome.code == 0
    assert outcome.lines == [f"warning: {line}; going on without it"]
    assert desk.sandbox.status(record) == "SUCCEEDED"
    assert (resent.code, resent.lines) == (78, [line])
