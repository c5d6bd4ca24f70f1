"""A process that does with a journal what it is told, for the tests of the model."""

import os
from multiprocessing.connection import Connection
from pathlib import Path

from workflow_result.journal import Journal
from workflow_result.journal.sqlite import SQLiteStore


def work(path: Path, orders: Connection) -> None:
    """Call the methods of a journal as they come, until there are no more; then die."""
    store = SQLiteStore(path)
    journal = Journal(store)
    store._database.read("PRAGMA synchronous = OFF")  # nobody cuts the power here
    while True:
        try:
            method, arguments = orders.recv()
        except EOFError:
            os._exit(1)
        told = getattr(journal, method)(*arguments)
        orders.send(list(told) if method == "claim" else told)
