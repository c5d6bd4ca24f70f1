"""No piece of a WorkflowToken in what a person reads."""

import json
import random
import string
import threading

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


@given(text=st.text(string.printable), secrets=st.lists(st.text("äöüßéèñ", min_size=1)))
def test_text_without_a_token_is_left_alone(text: str, secrets: list[str]) -> None:
    for kept in secrets:
        secret.keep_secret(kept)
    assert secret.hide(text) == text


@given(
    secrets=st.lists(st.from_regex(r"[ab1][ab1 (e)-]{0,10}[ab1]|[ab1]", fullmatch=True)),
    text=st.text("ab1-(e) \n", max_size=60),
)
def test_hiding_twice_changes_nothing(secrets: list[str], text: str) -> None:
    for kept in (*secrets, "value", "sensitive value"):
        secret.keep_secret(kept, secret.SENSITIVE_VALUE)
    once = secret.hide(text + secret.WORKFLOW_TOKEN)
    assert secret.hide(once) == once


def test_piece_of_a_secret_is_not_in_what_was_hidden_before() -> None:
    secret.keep_secret("value)", secret.SENSITIVE_VALUE)
    assert secret.hide("(sensitive value)x") == "(sensitive value)x"


def test_pieces_that_overlap_have_one_stand_in() -> None:
    secret.keep_secret("abcdefgh")
    assert secret.hide("-abcdefgh-cdefgh-abcde-") == "-(WorkflowToken)-(WorkflowToken)-abcde-"


@pytest.mark.parametrize("offset", range(7))
def test_piece_is_found_wherever_it_begins(offset: int) -> None:
    secret.keep_secret("abcdef")
    around = "." * offset
    assert secret.hide(f"{around}abcdef") == f"{around}(WorkflowToken)"
    assert secret.hide(f"abcdef{around}") == f"(WorkflowToken){around}"


def test_indentation_of_a_secret_is_left_alone() -> None:
    secret.keep_secret("key:\n" + 8 * " " + "abcdefgh")
    assert secret.hide(8 * " " + "-abcdefgh") == 8 * " " + "-(WorkflowToken)"


def test_short_token_is_hidden_where_it_stands_alone() -> None:
    secret.keep_secret("an")
    assert secret.hide("an error: 'an' in another") == (
        "(WorkflowToken) error: '(WorkflowToken)' in another"
    )


@pytest.mark.parametrize(
    "text",
    [
        "54321",
        "-54321",
        "54321.",
        "54321.0",
        "3-54321",
        "[54321]",
        "x=54321,",
        r"a\n54321\n",
        r"\u003c54321",
    ],
)
def test_short_secret_is_hidden_beside_whatever_is_no_word(text: str) -> None:
    secret.keep_secret("54321")
    assert secret.hide(text) == text.replace("54321", "(WorkflowToken)")


@pytest.mark.parametrize(
    "text", ["154321", "543210", "a54321", "54321a", "é54321", "54321й", "_54321"]
)
def test_short_secret_stays_inside_a_word(text: str) -> None:
    secret.keep_secret("54321")
    assert secret.hide(text) == text


def test_longest_of_the_short_secrets_is_hidden() -> None:
    for kept in ("a", "a-b", "a-", "a-b.c", ""):
        secret.keep_secret(kept)
    assert secret.hide("a-b.c a-b a b") == "(WorkflowToken) (WorkflowToken) (WorkflowToken) b"


@given(
    kept=st.text(string.ascii_letters + string.digits, min_size=1, max_size=5),
    mark=st.sampled_from(" .,:;-=/'\"()[]{}<>\n"),
)
def test_short_secret_is_gone_alone_and_stays_in_words(kept: str, mark: str) -> None:
    secret.keep_secret(kept, "(?)")
    assert secret.hide(f"{mark}{kept}{mark}") == f"{mark}(?){mark}"
    assert secret.hide(f"{mark}{kept}ß{mark}") == f"{mark}{kept}ß{mark}"


def random_text(length: int, characters: str = string.ascii_letters + string.digits) -> str:
    return "".join(random.Random(length).choices(characters, k=length))  # noqa: S311


def test_no_piece_is_left_of_more_secrets_than_have_room() -> None:
    whole = random_text(400_000)
    secret.keep_secret(whole[:200_000])
    secret.keep_secret(whole[200_000:])
    starts = (0, 150_000, 299_990, 300_000, 399_980)
    assert len(secret._pieces) == secret._MANY_PIECES
    for start in starts:
        hidden = secret.hide(f"({whole[start : start + 20]})")
        assert hidden in ("((WorkflowToken))", "((sensitive value))")
    words = ["Error:", "bucket", "not found", "in the region", "eu-central-1"]
    assert [secret.hide(word) for word in words] == words  # one in ten thousand is taken for one


@pytest.mark.parametrize("room", [0, 1, 5, 50, 1_000])
@pytest.mark.parametrize("block", [1, 7, 100])
def test_secret_is_hidden_whatever_the_room(
    room: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret, "_MANY_PIECES", room)
    monkeypatch.setattr(secret, "_BLOCK", block)
    monkeypatch.setattr(secret, "_CROWD", 2**16)
    whole = random_text(200)
    secret.keep_secret(whole[:100])
    secret.keep_secret(whole[100:])
    assert len(secret._pieces) <= room
    for part in (whole[:100], whole[100:]):
        for start in range(100 - secret.PIECE + 1):
            piece = part[start : start + secret.PIECE]
            for before, after in (("", ""), ("-", "--"), ("--", "-"), ("", "---"), ("---", "")):
                shown = secret.hide(before + piece + after)
                assert shown.startswith(f"{before}(")
                assert shown.endswith(f"){after}")
    others = random_text(6_000, "-+/=_.,:")
    other_pieces = [others[i : i + secret.PIECE] for i in range(0, len(others), secret.PIECE)]
    shown_as_they_are = [piece for piece in other_pieces if secret.hide(piece) == piece]
    assert len(shown_as_they_are) > len(other_pieces) * 0.99


@pytest.mark.parametrize(
    ("kept", "text"),
    [
        ("a" * 40, "a" * 2**16),
        ("a" * 5 + "b", "a" * 2**16),
        ("abcdefghij", "abcdefghij" * 25_000),
        ("abcdefghij", "bcdefgabcdefabcdef" * 15_000),
        (random_text(20_000), random_text(20_000) * 12),
        (random_text(20_000), random_text(2**16)),
        ("-----", "-" * 2**16),
        ("a-a-a", "a-" * 2**15),
        ("a" * 5, r"\n" * 2**15),
    ],
)
def test_long_text_takes_no_time_worth_waiting_for(kept: str, text: str) -> None:
    """Were it quadratic in anything, this would not end."""
    secret.keep_secret(kept)
    assert kept not in secret.hide(text)


def test_thousands_of_short_secrets_take_no_time_worth_waiting_for() -> None:
    short = [*map(str, range(10_000, 13_000)), "a", "b-c"]
    secret.keep_secrets(short, [], secret.SENSITIVE_VALUE)
    shown = secret.hide("10000 1 a 0123 12999 13000 b-c xa " * 8_000)
    hidden = secret.SENSITIVE_VALUE
    assert shown == f"{hidden} 1 {hidden} 0123 {hidden} 13000 {hidden} xa " * 8_000


def test_secrets_are_kept_while_another_thread_hides() -> None:
    kept: list[str] = []

    def keep() -> None:
        for number in range(2_000):
            for text in (f"{number}", f"secret-{number:04}"):
                secret.keep_secret(text)
                kept.append(text)

    keeping = threading.Thread(target=keep)
    keeping.start()
    while keeping.is_alive():
        known = kept[-3:]
        shown = secret.hide(" ".join(known))
        assert shown == " ".join(["(WorkflowToken)"] * len(known))
    keeping.join()
    assert secret.hide(" ".join(kept)) == " ".join(["(WorkflowToken)"] * len(kept))


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


def test_tokens_are_forgotten_and_nothing_else() -> None:
    with secret.forgetting_tokens():
        secret.keep_secret("token-of-one")
        secret.keep_secret("shrt")
        secret.keep_secret("password-of-all", secret.SENSITIVE_VALUE)
        assert secret.hide("token-of-one shrt") == "(WorkflowToken) (WorkflowToken)"
    assert secret.hide("token-of-one shrt password-of-all") == "token-of-one shrt (sensitive value)"
