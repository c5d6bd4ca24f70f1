"""Keeps secrets out of everything that a person or a log gets to read.

Whoever holds a WorkflowToken can end the order it belongs to, so it is a secret.
AWS quotes values in its error messages ("Value '…' at 'workflowToken' failed to
satisfy constraint"), whole or cut off, so hiding the whole token is not enough.
"""

import re

PIECE = 6
"""Characters in a row that count as a piece of a secret."""

WORKFLOW_TOKEN = "(WorkflowToken)"
SENSITIVE_VALUE = "(sensitive value)"

REAL_LENGTH = 16
"""Characters that a WorkflowToken has at the least, outside of tests."""

_LONG = 1000
"""Characters from which on a table of a secret's pieces takes too much memory."""

# Secrets, and pieces of secrets, each with its stand-in.
_short: dict[str, str] = {}
_pieces: dict[str, str] = {}
_long: dict[str, str] = {}


def keep_secret(secret: str, stand_in: str = WORKFLOW_TOKEN) -> None:
    """Have `hide` look for this secret from now on."""
    if len(secret) >= _LONG:
        _long[secret] = stand_in
    elif len(secret) >= PIECE:
        _pieces.update({secret[i : i + PIECE]: stand_in for i in range(len(secret) - PIECE + 1)})
    elif secret:
        _short[secret] = stand_in


def hide(text: str) -> str:
    """Return `text` with every piece of a known secret replaced by its stand-in.

    A secret too short to be a real one is replaced only where it stands alone: its
    letters are in every other word.
    """
    for secret, short_for in _short.items():
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", short_for, text)
    if not _pieces and not _long:
        return text
    shown: list[str] = []
    end_of_secret = 0
    for i in range(len(text)):
        if stand_in := _stand_in(text[i : i + PIECE]):
            if i >= end_of_secret:
                shown.append(stand_in)
            end_of_secret = i + PIECE
        elif i >= end_of_secret:
            shown.append(text[i])
    return "".join(shown)


def _stand_in(piece: str) -> str | None:
    if len(piece) < PIECE:
        return None
    in_long = (stand_in for secret, stand_in in _long.items() if piece in secret)
    return _pieces.get(piece) or next(in_long, None)
