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

_short: dict[str, str] = {}
_pieces: dict[str, str] = {}


def keep_secret(secret: str, stand_in: str = WORKFLOW_TOKEN) -> None:
    """Have `hide` look for this secret from now on."""
    if len(secret) >= PIECE:
        _pieces.update({secret[i : i + PIECE]: stand_in for i in range(len(secret) - PIECE + 1)})
    elif secret:
        _short[secret] = stand_in


def hide(text: str) -> str:
    """Return `text` with every piece of a known secret replaced by its stand-in.

    A secret too short to be a real one is replaced only where it stands alone: its
    letters are in every other word.
    """
    for secret, stand_in in _short.items():
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", stand_in, text)
    if not _pieces:
        return text
    shown: list[str] = []
    end_of_secret = 0
    for i in range(len(text)):
        if piece := _pieces.get(text[i : i + PIECE]):
            if i >= end_of_secret:
                shown.append(piece)
            end_of_secret = i + PIECE
        elif i >= end_of_secret:
            shown.append(text[i])
    return "".join(shown)
