"""Make a journal: `python -m benchmarks.make_journal FILE owed|reported COUNT`."""

import sqlite3
import sys
from pathlib import Path

from workflow_result import request as requests
from workflow_result.journal.place import open_journal


def make(path: Path, state: str, count: int) -> None:
    """Make the journal `path` with `count` results that are owed, or reported long ago."""
    journal = open_journal(path)
    for number in range(count if state == "owed" else 1):
        members = {
            "WorkflowToken": "965d4597-3088-41ae-87dc-3498daf1d69d",
            "RecordId": f"rec-{number}",
            "Status": "SUCCEEDED",
            "Outputs": [{"OutputKey": "url", "OutputValue": "https://www.example.com"}],
        }
        request = requests.check(requests.Draft(members), "provision")
        owed = journal.owe(request, "sandbox", "us-east-1")
    if state == "reported":
        assert owed.own  # nothing was reported before
        journal.settle([owed])
    journal.close()
    if state == "reported":
        _repeat(path, count)


def _repeat(path: Path, count: int) -> None:
    """Repeat the journal's one entry as if of other records: 100,000 reports would take long."""
    varied = {
        "digest": "destination || '-' || lower(hex(randomblob(32)))",
        "record_id": "'rec-' || lower(hex(randomblob(6)))",
        "idempotency_token": "lower(hex(randomblob(32)))",
        "since": "since - 60 * number",
    }
    with sqlite3.connect(path) as database:
        names = [row[1] for row in database.execute("PRAGMA table_info(result)")]
        values = [varied.get(name, name) for name in names]
        database.execute(
            "WITH RECURSIVE copy (number) AS "  # noqa: S608, the names are the table's own
            "(SELECT 2 UNION ALL SELECT number + 1 FROM copy WHERE number < ?) "
            f"INSERT INTO result ({', '.join(names)}) "
            f"SELECT {', '.join(values)} FROM result, copy",
            [count],
        )


if __name__ == "__main__":
    make(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
