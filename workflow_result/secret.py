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

_LONG = 20_001
"""Characters from which on a secret has no table of its pieces; a WorkflowToken has less."""

_MANY_PIECES = 500_000
"""Pieces that take 60 MB. No tables are made from then on."""

_MANY_LONG = 10
"""Secrets without a table that can be looked for. With more, whatever may be one is hidden."""

# Secrets, and pieces of secrets, each with its stand-in.
_short: dict[str, str] = {}
_pieces: dict[str, str] = {}
_long: dict[str, str] = {}
_characters: set[str] = set()
"""All that pieces are made of."""


def keep_secret(secret: str, stand_in: str = WORKFLOW_TOKEN) -> None:
    """Have `hide` look for this secret from now on."""
    if len(secret) < PIECE:
        if secret:
            _short[secret] = stand_in
        return
    _characters.update(secret)
    if len(secret) >= _LONG or len(_pieces) > _MANY_PIECES:
        _long[secret] = stand_in
    else:
        _pieces.update({secret[i : i + PIECE]: stand_in for i in range(len(secret) - PIECE + 1)})


def hide(text: str) -> str:
    """Return `text` with every piece of a known secret replaced by its stand-in.

    A secret too short to be a real one is replaced only where it stands alone: its
    letters are in every other word.
    """
    for secret, stand_in in list(_short.items()):  # another thread may find more
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", stand_in, text)
    if not _characters:
        return text
    # Most of a log has no run of characters that could be a piece.
    candidates = f"[{re.escape(''.join(sorted(_characters)))}]{{{PIECE},}}"
    return re.sub(candidates, lambda found: _hide_pieces(found[0]), text)


def _hide_pieces(text: str) -> str:
    if len(_long) > _MANY_LONG:
        return next(iter(_long.values()))
    pieces = (text[i : i + PIECE] for i in range(len(text) - PIECE + 1))
    if not _long and _pieces.keys().isdisjoint(pieces):
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
