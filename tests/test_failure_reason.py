"""FailureReason, made to fit: an order must not hang because its reason is ill-formed."""

import json
from typing import Any

import pytest
from conftest import UUID_TOKEN, Program, Sandbox
from hypothesis import example, given
from hypothesis import strategies as st

from workflow_result.failure_reason import MAX_LENGTH, clean, fit
from workflow_result.request import Draft, check_partial
from workflow_result.secret import keep_secret

FAILED = {"WorkflowToken": UUID_TOKEN, "RecordId": "rec-demo", "Status": "FAILED"}
SENTENCE = "This is a sentence of some length. "

# A reason, what becomes of it, and what is said of that.
FITTED: dict[str, tuple[str, str | None, str]] = {
    "colours": ("\x1b[31mno\x1b[0m", "no", "made to fit: escape sequences removed"),
    "reset by tput": ("\x1b(B\x1b[mno", "no", "made to fit: escape sequences removed"),
    "a link": (
        "\x1b]8;;http://x\x1b\\no\x1b]8;;\x07!",
        "no!",
        "made to fit: escape sequences removed",
    ),
    "a device control string": (
        "\x1bP1$r0m\x1b\\no",
        "no",
        "made to fit: escape sequences removed",
    ),
    "a bell": ("no\a", "no", "made to fit: control characters removed"),
    "delete, and others that AWS would take": (
        "n\x7fo\x9b\x85",
        "no",
        "made to fit: control characters removed",
    ),
    "an emoji": ("no \U0001f600!", "no \ufffd!", "made to fit: what AWS does not allow replaced"),
    "half a character": (
        "no \ud800\udfff!",
        "no \ufffd!",
        "made to fit: what AWS does not allow replaced",
    ),
    "half a character, the other way round": (
        "no \udfff\ud800!",
        "no \ufffd\ufffd!",
        "made to fit: what AWS does not allow replaced",
    ),
    "the last two of the plane": (
        "\ufffd\ufffe\uffff",
        "\ufffd\ufffd\ufffd",
        "made to fit: what AWS does not allow replaced",
    ),
    "the token": (f"no {UUID_TOKEN}!", "no (WorkflowToken)!", "made to fit: secrets masked"),
    "a part of the token": (
        f"no {UUID_TOKEN[9:20]}!",
        "no (WorkflowToken)!",
        "made to fit: secrets masked",
    ),
    "a token with a colour in it": (
        f"no {UUID_TOKEN[:9]}\x1b[1m{UUID_TOKEN[9:]}!",
        "no (WorkflowToken)!",
        "made to fit: escape sequences removed, secrets masked",
    ),
    "sentences": (
        SENTENCE * 100,
        (SENTENCE * 58).strip() + " …",
        "made to fit: shortened from 3,500 to 2,031 characters",
    ),
    "one word": (
        "é" * 5000,
        "é" * 2046 + " …",
        "made to fit: shortened from 5,000 to 2,048 characters",
    ),
    "everything": (
        f"\x1b[31m{UUID_TOKEN}\a\U0001f600" + "é" * 5000,
        "(WorkflowToken)\ufffd" + "é" * 2030 + " …",
        "made to fit: escape sequences removed, control characters removed, what AWS does not "
        "allow replaced, secrets masked, shortened from 5,043 to 2,048 characters",
    ),
    "nothing": ("", None, "left out: there is nothing to read in it"),
    "white space": (" \n\t", None, "left out: there is nothing to read in it"),
    "a reset alone": ("\x1b[0m\n", None, "left out: there is nothing to read in it"),
}


@pytest.mark.parametrize("name", FITTED)
def test_reason_is_made_to_fit_and_a_line_says_so(program: Program, name: str) -> None:
    """And with the fitted one in its place, the result is the same, without the line."""
    reason, fitting, said = FITTED[name]
    outcome = program("validate", stdin=FAILED | {"FailureReason": reason})
    assert (outcome.code, outcome.lines) == (0, [f"FailureReason: {said}"])
    again = program("validate", stdin=FAILED | {"FailureReason": fitting})
    assert (again.code, again.stderr, again.stdout) == (0, "", outcome.stdout)


def test_part_of_a_request_has_its_reason_made_to_fit_too(program: Program) -> None:
    reason, _, said = next(iter(FITTED.values()))
    outcome = program("validate", "--partial", stdin={"FailureReason": reason})
    assert (outcome.code, outcome.lines) == (0, [f"FailureReason: {said}"])


@pytest.mark.parametrize(
    "reason", ["é" * 2048, "a", "a\r\nb\rc\td\n", "  a ", "\ufffd\ue000\ud7ff", " (WorkflowToken)"]
)
def test_reason_that_fits_is_left_as_it_is(program: Program, sandbox: Sandbox, reason: str) -> None:
    outcome = program("notify", stdin=FAILED | {"FailureReason": reason}, **sandbox.environment)
    assert (outcome.code, outcome.stderr) == (0, "")
    errors = sandbox.record()["RecordDetail"]["RecordErrors"]
    assert errors[0]["Description"] == reason


def test_reason_reaches_service_catalog_made_to_fit(program: Program, sandbox: Sandbox) -> None:
    reason = f"\x1b[31mno {UUID_TOKEN} \U0001f600\x1b[0m " + SENTENCE * 100
    outcome = program("notify", stdin=FAILED | {"FailureReason": reason}, **sandbox.environment)
    assert outcome.code == 0
    assert len(outcome.lines) == 1
    told = sandbox.record()["RecordDetail"]["RecordErrors"][0]["Description"]
    assert told.startswith("no (WorkflowToken) \ufffd This is")
    assert told.endswith("some length. …")
    assert len(told) <= MAX_LENGTH


@pytest.mark.parametrize("source", ["member", "environment", "both"])
def test_token_is_masked_wherever_it_comes_from(
    program: Program, sandbox: Sandbox, source: str
) -> None:
    other = UUID_TOKEN[::-1]
    request: dict[str, Any] = FAILED | {"FailureReason": f"{UUID_TOKEN} {other}"}
    environment = dict(sandbox.environment)
    if source == "environment":
        del request["WorkflowToken"]
        environment["WORKFLOW_RESULT_TOKEN"] = UUID_TOKEN
    if source == "both":
        environment["WORKFLOW_RESULT_TOKEN"] = other
    assert program("notify", stdin=request, **environment).code == 0
    told = sandbox.record()["RecordDetail"]["RecordErrors"][0]["Description"]
    second = "(WorkflowToken)" if source == "both" else other
    assert told == f"(WorkflowToken) {second}"


def test_credentials_are_masked(program: Program) -> None:
    request = FAILED | {"FailureReason": "denied to wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
    variables = {"AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
    outcome = program("validate", stdin=request, **variables)
    assert (outcome.code, outcome.lines) == (0, ["FailureReason: made to fit: secrets masked"])


def test_same_text_is_the_same_result(program: Program) -> None:
    """The IdempotencyToken is that of what is sent."""
    reason = json.dumps(FAILED | {"FailureReason": "\x1b[1m" + "a " * 3000})
    assert program("validate", stdin=reason).stdout == program("validate", stdin=reason).stdout


tokens = st.text("0123456789abcdef-+/=", min_size=16, max_size=50)


@given(data=st.data(), token=tokens)
def test_every_text_is_made_to_fit_and_that_twice_changes_nothing(
    data: st.DataObject, token: str
) -> None:
    keep_secret(token)
    parts = ["\x1b[31m", "\x1b]8;;", "\x1b", "\x07", "\ud800", "\U0001f600", " ", "\n", "\r", ". "]
    parts += [token, token[:9], token[4:], "(WorkflowToken)", "word", "é" * 700, "\x9b", "\ufffe"]
    text = "".join(data.draw(st.lists(st.sampled_from(parts) | st.text(max_size=9), max_size=20)))
    fitting, done = fit(text)
    assert bool(done) == (fitting != text or not text)
    assert not any(token[i : i + 6] in fitting for i in range(len(token) - 5))
    if fitting:
        assert fit(fitting) == (fitting, "")
        check_partial(Draft({"FailureReason": fitting}), "provision")


@given(st.text())
@example("a\r\nb\rc \ud800")
def test_cleaning_twice_changes_nothing(text: str) -> None:
    assert clean(clean(text)) == clean(text)
