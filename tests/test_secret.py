"""No piece of a WorkflowToken in what a person reads."""

import json
import string

import pytest
from conftest import CREDENTIALS, UUID_TOKEN, Program, endpoint
from hypothesis import given
from hypothesis import strategies as st

from workflow_result import secret

tokens = st.text(string.ascii_letters + string.digits + "+/=-", min_size=secret.PIECE, max_size=80)


@given(token=tokens, before=st.text(), after=st.text(), data=st.data())
def test_no_piece_of_a_token_is_left(
    token: str, before: str, after: str, data: st.DataObject
) -> None:
    secret.keep_secret(token)
    start = data.draw(st.integers(0, len(token) - secret.PIECE))
    end = data.draw(st.integers(start + secret.PIECE, len(token)))
    shown = secret.hide(before + token[start:end] + after)
    rest = shown.split(secret.WORKFLOW_TOKEN)
    for i in range(len(token) - secret.PIECE + 1):
        assert not any(token[i : i + secret.PIECE] in text for text in rest)


@given(text=st.text())
def test_text_without_a_token_is_left_alone(text: str) -> None:
    secret._pieces.clear()
    secret.keep_secret("\x00" * secret.PIECE)
    if "\x00" not in text:
        assert secret.hide(text) == text


def test_short_token_is_hidden_where_it_stands_alone() -> None:
    secret.keep_secret("an")
    assert secret.hide("an error: 'an' in another") == (
        "(WorkflowToken) error: '(WorkflowToken)' in another"
    )


def test_no_piece_is_left_of_more_secrets_than_can_be_looked_for() -> None:
    tokens = [f"token-{number:02}-" * 2_500 for number in range(12)]
    for token in tokens:
        secret.keep_secret(token)
    assert [secret.hide(f"({token[7:17]})") for token in tokens] == ["((WorkflowToken))"] * 12


LONG_TOKEN = "".join(chr(65 + (i * i + 7 * i) % 26) for i in range(25_000))


@pytest.mark.parametrize("token", [UUID_TOKEN, LONG_TOKEN[:2_000], LONG_TOKEN])
@pytest.mark.parametrize(
    "request_text",
    [
        '{"WorkflowToken": "TOKEN", "TOKEN": 1}',
        '{"workflow_token": "TOKEN", "TOKEN": 1}',
        '{"WorkflowToken": "TOKEN", "WorkflowToken": "TOKEN"}',
        '{"WorkflowToken": "TOKEN~", "Status": "TOKEN", "FailureReason": "TOKEN\\u0000"}',
        '{"WorkflowToken": ["TOKEN"], "Outputs": "TOKEN"}',
        '{"WorkflowToken": "TOKEN',
        '{"WorkflowToken": "TOKEN", "TOKEN": TOKEN}',
        '{"WorkflowToken": "TOKEN", "Outputs": [{"TOKEN": "TOKEN"}]}',
        '{"WorkflowToken": "TOKEN", "RecordId": "TOKEN", "Status": "FAILED"}',
    ],
)
def test_refusal_never_quotes_the_token(program: Program, request_text: str, token: str) -> None:
    outcome = program("validate", "--debug", stdin=request_text.replace("TOKEN", token))
    assert outcome.code == 65
    said = outcome.stdout + outcome.stderr
    assert not any(token[i : i + 6] in said for i in range(len(token) - 5))


def test_aws_secret_access_key_that_an_error_quotes_is_hidden(program: Program) -> None:
    key = "wJalrXUtnFEMI/K7MDENG"
    error = {"__type": "AccessDeniedException", "message": f"not with {key}"}
    with endpoint(lambda *_: (400, json.dumps(error).encode())) as url:
        environment = CREDENTIALS | {"AWS_ENDPOINT_URL": url, "AWS_SECRET_ACCESS_KEY": key}
        request = {"WorkflowToken": UUID_TOKEN, "RecordId": "rec-1", "Status": "FAILED"}
        outcome = program("notify", stdin=request, **environment)
    assert "AccessDeniedException: not with (AWS_SECRET_ACCESS_KEY)" in outcome.stderr
    assert key[:6] not in outcome.stderr


@pytest.mark.parametrize("token", [UUID_TOKEN, "dGhpcyBpcyBhIHRva2VuIGZvciBhIHRlc3Q="])
def test_token_for_a_key_is_not_quoted(program: Program, token: str) -> None:
    outcome = program("validate", stdin={token: "WorkflowToken"})
    assert outcome.code == 65
    assert token[:6] not in outcome.stderr


def test_message_of_service_catalog_that_is_none_of_ours_is_not_quoted(program: Program) -> None:
    """The message from the queue, given instead of a request."""
    message = {"token": UUID_TOKEN, "operation": "PROVISION_PRODUCT", "recordId": "rec-1"}
    outcome = program("validate", stdin=json.dumps(message))
    assert outcome.code == 65
    assert UUID_TOKEN[:6] not in outcome.stderr
