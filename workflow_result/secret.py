"""Keeps WorkflowTokens out of everything that a person or a log gets to read.

Whoever holds a WorkflowToken can end the order it belongs to, so it is a secret.
AWS quotes values in its error messages ("Value '…' at 'workflowToken' failed to
satisfy constraint"), whole or cut off, so hiding the whole token is not enough.
"""

import re

PIECE = 6
"""Characters in a row that count as a piece of a token."""

STAND_IN = "(WorkflowToken)"

_tokens: set[str] = set()
_pieces: set[str] = set()


def keep_secret(token: str) -> None:
    """Have `hide` look for this token from now on."""
    if len(token) < PIECE:
        _tokens.add(token)
    else:
        _pieces.update(token[i : i + PIECE] for i in range(len(token) - PIECE + 1))


def hide(text: str) -> str:
    """Return `text` with every piece of a known token replaced by "(WorkflowToken)".

    A token too short to be a real one is replaced only where it stands alone: its
    letters are in every other word.
    """
    for token in _tokens:
        if token:
            text = re.sub(rf"(?<!\w){re.escape(token)}(?!\w)", STAND_IN, text)
    if not _pieces:
        return text
    shown: list[str] = []
    end_of_secret = 0
    for i in range(len(text)):
        if text[i : i + PIECE] in _pieces:
            if i >= end_of_secret:
                shown.append(STAND_IN)
            end_of_secret = i + PIECE
        elif i >= end_of_secret:
            shown.append(text[i])
    return "".join(shown)
