"""Have the order of the message on stdin wait in the journal: `… make_waiting TABLE`."""

import sys

from workflow_result.engine.message import Message, read
from workflow_result.journal.place import Table, open_journal

if __name__ == "__main__":
    text = sys.stdin.read()
    message = read(text.encode())
    assert isinstance(message, Message)
    journal = open_journal(Table(sys.argv[1]))
    journal.wait(message.result([], "It did not begin."), "sandbox", "us-east-1", text)
    journal.close()
