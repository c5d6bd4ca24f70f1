"""A process that does with a journal what it is told, for the tests of the model."""

import os
from multiprocessing.connection import Connection
from pathlib import Path

from workflow_result.journal import Journal
from workflow_result.journal.dynamodb import DynamoDBStore
from workflow_result.journal.place import Table, open_journal
from workflow_result.journal.sqlite import SQLiteStore


def work(place: Path | Table, environment: dict[str, str], orders: Connection) -> None:
    """Call the methods of a journal as they come, until there are no more; then die.

    Before all, tell who owns what this process works on, in a table.
    """
    os.environ.update(environment)
    owner = None
    if isinstance(place, Path):
        store = SQLiteStore(place)
        store._database.read("PRAGMA synchronous = OFF")  # nobody cuts the power here
        journal = Journal(store)
    else:
        journal = open_journal(place)
        assert isinstance(journal._store, DynamoDBStore)
        owner = journal._store._owner
    # Time does not go by here: it always has to ask.
    journal._store.is_sure_of = lambda key: False  # type: ignore[method-assign]
    orders.send(owner)
    while True:
        try:
            method, arguments = orders.recv()
        except EOFError:
            os._exit(1)
        told = getattr(journal, method)(*arguments)
        orders.send(list(told) if method == "claim" else told)
