"""A process of version 2 of the journal: it owns a run, and goes on with its own statements.

    python older.py JOURNAL

Reads lines of JSON from stdin, `[what, digest, members]`, and answers each with `done`.
The statements, and the order in which they come, are those of that version, word for word.
"""

import fcntl
import json
import os
import sqlite3
import sys
import time
from typing import Any

OWNER = 4711
PADDING = " " * 4096


def insert(database: sqlite3.Connection, state: str, digest: str, members: Any) -> None:
    database.execute(
        "INSERT INTO result (digest, destination, state, operation, record_id, status, "
        "idempotency_token, region, request, owner, since) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (digest) DO UPDATE SET "
        "state = excluded.state, region = excluded.region, request = excluded.request, "
        "owner = excluded.owner",
        [
            digest,
            "sandbox",
            state,
            "terminate",
            members["RecordId"],
            members["Status"],
            members["IdempotencyToken"],
            "us-east-1",
            PADDING + json.dumps(members),
            OWNER,
            time.time(),
        ],
    )


def main() -> None:
    journal = sys.argv[1]
    database = sqlite3.connect(journal, timeout=30, isolation_level=None)
    database.execute("PRAGMA secure_delete = ON")
    database.execute("PRAGMA temp_store = MEMORY")
    database.execute("PRAGMA journal_mode = DELETE")
    database.execute("PRAGMA synchronous = EXTRA")
    database.execute("PRAGMA fullfsync = ON")
    assert database.execute("PRAGMA user_version").fetchone() == (2,)
    lock = os.open(f"{journal}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    run = None
    for line in sys.stdin:
        what, digest, members = json.loads(line)
        database.execute("BEGIN IMMEDIATE")
        if what == "begin":
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, OWNER)
            insert(database, "running", digest, members)
            run = digest
        elif what == "owe":
            database.execute("DELETE FROM result WHERE digest = ? AND state != 'reported'", [run])
            insert(database, "owed", digest, members)
        else:
            database.executemany(
                "UPDATE result SET state = 'reported', request = NULL, region = NULL, "
                "owner = NULL, last_error = NULL, since = ?, tries = tries + 1 WHERE digest = ?",
                [(time.time(), digest)],
            )
        database.execute("COMMIT")
        print("done", flush=True)


if __name__ == "__main__":
    main()
