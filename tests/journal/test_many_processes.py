"""Many processes on one journal."""

from collections.abc import Callable

from journal_cli import Desk, a_message, a_request, ended


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
