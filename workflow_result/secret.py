"""Keeps secrets out of everything that a person or a log gets to read.

Whoever holds a WorkflowToken can end the order it belongs to, so it is a secret.
AWS quotes values in its error messages ("Value '…' at 'workflowToken' failed to
satisfy constraint"), whole or cut off, so hiding the whole token is not enough.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

PIECE = 6
"""Characters in a row that count as a piece of a secret."""

WORKFLOW_TOKEN = "(WorkflowToken)"
SENSITIVE_VALUE = "(sensitive value)"

REAL_LENGTH = 16
"""Characters that a WorkflowToken has at the least, outside of tests."""

_CORE = 4
_STRIDE = PIECE - _CORE + 1
"""Every piece has four characters that begin at one of a text's places 0, 3, 6, …: only there
`hide` has to look, and most texts have nothing there that any secret has."""

_MANY_PIECES = 300_000
"""Pieces that take 60 MB. What is kept from then on goes into `_crowd`."""

_BLOCK = 2**16
"""Of a long secret, pieces that are taken at once."""

_CROWD = 2**25
"""Bytes of `_crowd`. With a million pieces in it, it takes one in 1,500 others for a piece."""

# Each with its stand-in: pieces, and what is hidden as a whole, where it stands alone.
_pieces: dict[str, str] = {}
_whole: dict[str, str] = {}
_cores: set[str] = set()
_crowd = bytearray()
"""A Bloom filter, once there are more pieces: it hides too much rather than too little."""

_stand_ins: set[str] = set()
_patterns: tuple[re.Pattern[str], re.Pattern[str]] | None = None
"""What finds stand-ins, and what is hidden as a whole; None where new ones have come."""

_changing = threading.Lock()
"""Held by whoever changes one of these: another thread may hide meanwhile."""


def keep_secret(secret: str, stand_in: str = WORKFLOW_TOKEN) -> None:
    """Have `hide` look for this secret from now on: for every piece of it, or for the whole where
    it is shorter than a piece."""
    keep_secrets([secret], [], stand_in)


def keep_secrets(secrets: Iterable[str], whole: Iterable[str], stand_in: str) -> None:
    """The same for many `secrets`, and for texts of which only the `whole` is one."""
    global _patterns
    with _changing:
        _stand_ins.add(stand_in)
        for secret in secrets:
            if len(secret) < PIECE:
                if secret.strip():
                    _whole[secret] = stand_in
                continue
            for block in range(0, len(secret) - PIECE + 1, _BLOCK):
                starts = range(block, min(block + _BLOCK, len(secret) - PIECE + 1))
                for piece in {secret[i : i + PIECE] for i in starts}.difference(_pieces):
                    if not piece.isspace():  # an indentation tells nothing
                        _keep_piece(piece, stand_in)
        _whole.update(dict.fromkeys(whole, stand_in))
        _patterns = None


def _keep_piece(piece: str, stand_in: str) -> None:
    if len(_pieces) < _MANY_PIECES:
        _pieces[piece] = stand_in
        _cores.update((piece[:_CORE], piece[1 : _CORE + 1], piece[2:]))
        return
    if not _crowd:
        _stand_ins.add(SENSITIVE_VALUE)
        crowd = bytearray(_CROWD)
        for kept in _pieces:
            crowd[hash(kept) % _CROWD] = 1
        _crowd.extend(crowd)
    for slot in _slots(piece):
        _crowd[slot] = 1


def _slots(piece: str) -> tuple[int, int, int]:
    number = hash(piece)
    return number % _CROWD, (number >> 19) % _CROWD, (number >> 38) % _CROWD


@contextmanager
def forgetting_tokens() -> Iterator[None]:
    """Forget in the end the WorkflowTokens that were kept by then: what comes next is of other
    orders, whose reasons may have a piece of one by chance."""
    global _patterns
    try:
        yield
    finally:
        with _changing:
            for kept in (_pieces, _whole):
                for text in [text for text, name in kept.items() if name == WORKFLOW_TOKEN]:
                    del kept[text]
            _patterns = None


def hide(text: str) -> str:
    """Return `text` with every piece of a known secret replaced by its stand-in.

    A secret too short to be a real one is replaced only where it stands alone: its
    letters are in every other word. What was hidden before stays as it is.
    """
    if not _stand_ins:
        return text
    stand_in, whole = _patterns or _compile()
    if _pieces or _crowd:
        text = _between(stand_in, _hide_pieces, text)
    if _whole:
        text = _between(stand_in, lambda part: whole.sub(lambda m: _whole[m[0]], part), text)
    return text


def _between(stand_in: re.Pattern[str], change: Callable[[str], str], text: str) -> str:
    """Return `text` with all that is between stand-ins changed."""
    parts = stand_in.split(text)
    parts[::2] = map(change, parts[::2])
    return "".join(parts)


def _hide_pieces(text: str) -> str:
    shown: list[str] = []
    end = 0
    for start, stand_in in _found(text):
        if start >= end:
            shown += text[end:start], stand_in
        end = start + PIECE
    return "".join((*shown, text[end:]))


def _found(text: str) -> Iterator[tuple[int, str]]:
    """Yield where each piece in `text` begins, and its stand-in."""
    if _crowd:
        starts = range(len(text) - PIECE + 1)
        for start in (i for i in starts if _crowd[hash(text[i : i + PIECE]) % _CROWD]):
            piece = text[start : start + PIECE]
            if piece in _pieces:
                yield start, _pieces[piece]
            elif all(_crowd[slot] for slot in _slots(piece)):
                yield start, SENSITIVE_VALUE
        return
    places = range(0, len(text) - _CORE + 1, _STRIDE)
    for place in (place for place in places if text[place : place + _CORE] in _cores):
        for start in range(max(place - _STRIDE + 1, 0), place + 1):
            if stand_in := _pieces.get(text[start : start + PIECE]):
                yield start, stand_in


def _compile() -> tuple[re.Pattern[str], re.Pattern[str]]:
    global _patterns
    with _changing:
        stand_ins = sorted(map(re.escape, _stand_ins), reverse=True)  # the longer ones first
        # A letter that belongs to an escape, as in "\n54321", is not one of a word.
        alone = rf"(?:(?<!\w)|(?<=\\[abefnrtv])|(?<=\\u[0-9a-f]{{4}}))(?:{_any_of(_whole)})(?!\w)"
        _patterns = re.compile(f"({'|'.join(stand_ins)})"), re.compile(alone)
        return _patterns


def _any_of(texts: Iterable[str], depth: int = PIECE) -> str:
    """Return a pattern for these texts, the longest that fits, as a tree of their first characters:
    of thousands of alternatives only a few are tried at each place."""
    if not depth:
        return "|".join(map(re.escape, sorted(texts, reverse=True)))
    rests: dict[str, list[str]] = {}
    for text in sorted(texts, reverse=True):  # what a text begins with comes behind it
        rests.setdefault(text[:1], []).append(text[1:])
    branches = (
        f"{re.escape(first)}(?:{_any_of(rest, depth - 1)})" if first else ""
        for first, rest in rests.items()
    )
    return "|".join(branches) if rests else "(?!)"  # which finds nothing
