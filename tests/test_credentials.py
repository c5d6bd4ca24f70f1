"""Where credentials come from: what each source may do, and that none of them is shown."""

import fcntl
import json
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from aws_settings import (
    ASSUMED,
    BROKEN,
    FUTURE,
    SECRET_KEY,
    SESSION_TOKEN,
    Broken,
    Place,
    error,
    key_id,
    log_in,
)
from conftest import MAIN, UUID_TOKEN, Outcome, Program, clean_environment, endpoint
from hypothesis import given
from hypothesis import strategies as st

from workflow_result import account, delivery, secret
from workflow_result import request as requests
from workflow_result.credentials import _keep_secret
from workflow_result.delivery import Delivery
from workflow_result.journal.place import open_journal
from workflow_result.undelivered import NotDelivered

REQUEST = {"WorkflowToken": UUID_TOKEN, "RecordId": "rec-demo", "Status": "SUCCEEDED"}
CHECKED = requests.check(
    requests.decode(json.dumps(REQUEST | {"IdempotencyToken": "i"}).encode(), "provision"),
    "provision",
)
SAVED = "It is saved: `resend` sends it"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def notify(program: Program, place: Place) -> Callable[..., Outcome]:
    def run(url: str, *options: str, **variables: str) -> Outcome:
        environment = place.environment | {"AWS_ENDPOINT_URL_SERVICE_CATALOG": url} | variables
        return program("notify", *options, stdin=REQUEST, **environment)

    return run


class TestFetchedAnew:
    """Terraform may run for longer than credentials are good."""

    @pytest.mark.parametrize(
        "code",
        [
            "ExpiredTokenException",
            "ExpiredToken",
            "UnrecognizedClientException",
            "InvalidClientTokenId",
            "InvalidSignatureException",
        ],
    )
    def test_credentials_file_that_has_changed_is_read_again(
        self, place: Place, notify: Callable[..., Outcome], code: str
    ) -> None:
        calls: list[str] = []

        def answer(headers: Message, _: bytes) -> tuple[int, bytes]:
            calls.append(key_id(headers))
            place.credentials("AKIANEW")
            return (200, b"{}") if calls[-1] == "AKIANEW" else error(code)

        place.credentials("AKIAOLD")
        with endpoint(answer) as url:
            outcome = notify(url)
        assert (outcome.code, outcome.stderr) == (0, "")
        assert calls == ["AKIAOLD", "AKIANEW"]

    def test_credential_process_is_run_again(
        self, place: Place, notify: Callable[..., Outcome]
    ) -> None:
        calls: list[str] = []

        def answer(headers: Message, _: bytes) -> tuple[int, bytes]:
            calls.append(key_id(headers))
            return (200, b"{}") if len(calls) == 2 else error("ExpiredTokenException")

        place.process(
            'echo >>"$HOME/runs"\n'
            f'sed "s/ASIAPROCESS/ASIA$(wc -l <"$HOME/runs" | tr -d " ")/" {place.printed()}'
        )
        with endpoint(answer) as url:
            outcome = notify(url)
        assert (outcome.code, outcome.stderr) == (0, "")
        assert calls == ["ASIA1", "ASIA2"]

    def test_role_is_assumed_again(self, place: Place, notify: Callable[..., Outcome]) -> None:
        assumed: list[bytes] = []
        calls: list[Message] = []

        def assume(_: Message, body: bytes) -> tuple[int, bytes]:
            assumed.append(body)
            token = f"token-{len(assumed)}-of-the-role"
            return 200, ASSUMED.format("AssumeRole", SECRET_KEY, token).encode()

        def answer(headers: Message, _: bytes) -> tuple[int, bytes]:
            calls.append(headers)
            return (200, b"{}") if len(calls) == 2 else error("ExpiredTokenException")

        place.credentials("AKIASOURCE")
        place.config("[profile role]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = default\n")
        with endpoint(assume) as sts, endpoint(answer) as url:
            outcome = notify(url, "--profile", "role", AWS_ENDPOINT_URL_STS=sts)
        assert (outcome.code, outcome.stderr) == (0, "")
        tokens = [headers["X-Amz-Security-Token"] for headers in calls]
        assert tokens == ["token-1-of-the-role", "token-2-of-the-role"]

    def test_one_more_call_is_made_and_not_another(
        self, place: Place, notify: Callable[..., Outcome]
    ) -> None:
        calls: list[str] = []

        def answer(headers: Message, _: bytes) -> tuple[int, bytes]:
            calls.append(key_id(headers))
            place.credentials(f"AKIA{len(calls)}")
            return error("ExpiredTokenException")

        place.credentials("AKIA0")
        with endpoint(answer) as url:
            outcome = notify(url)
        assert outcome.code == 75
        assert outcome.lines == [
            "rec-demo: not reported: ExpiredTokenException: said so; renew the AWS credentials. "
            + SAVED
        ]
        assert calls == ["AKIA0", "AKIA1"]

    @pytest.mark.parametrize("source", ["env", "file"])
    def test_credentials_that_are_the_same_as_before_are_not_tried_again(
        self, place: Place, notify: Callable[..., Outcome], source: str
    ) -> None:
        calls: list[str] = []

        def answer(headers: Message, _: bytes) -> tuple[int, bytes]:
            calls.append(key_id(headers))
            return error("ExpiredTokenException")

        variables = {}
        if source == "env":
            variables = {"AWS_ACCESS_KEY_ID": "AKIASAME", "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        else:
            place.credentials("AKIASAME")
        with endpoint(answer) as url:
            assert notify(url, **variables).code == 75
        assert calls == ["AKIASAME"]

    @pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException"])
    def test_other_errors_say_nothing_of_the_credentials(
        self, place: Place, notify: Callable[..., Outcome], code: str
    ) -> None:
        calls: list[str] = []

        def answer(headers: Message, _: bytes) -> tuple[int, bytes]:
            calls.append(key_id(headers))
            place.credentials("AKIANEW")
            return error(code)

        place.credentials("AKIAOLD")
        with endpoint(answer) as url:
            notify(url)
        assert calls == ["AKIAOLD"]

    def test_source_that_fails_the_second_time_is_told(
        self, place: Place, notify: Callable[..., Outcome]
    ) -> None:
        def answer(*_: Any) -> tuple[int, bytes]:
            place.process("echo the vault is sealed >&2; exit 1")
            return error("ExpiredTokenException")

        place.process(f"cat {place.printed()}")
        with endpoint(answer) as url:
            outcome = notify(url)
        assert outcome.lines == [
            "rec-demo: not reported: Error when retrieving credentials from custom-process: the "
            "vault is sealed; run the profile's credential_process by hand: it has to print "
            "credentials and exit with 0. " + SAVED
        ]

    @pytest.mark.parametrize("change", ["", "sed s/ASIAPROCESS/ASIA$$/"])
    def test_resend_asks_once_for_all_results(
        self, program: Program, place: Place, change: str
    ) -> None:
        """Whether the credentials are others then or not: Service Catalog takes none of them."""
        place.process(f'echo >>"$HOME/runs"\n{change or "cat"} {place.printed()}')
        with endpoint(lambda *_: error("ExpiredTokenException")) as url:
            environment = place.environment | {"AWS_ENDPOINT_URL": url}
            nowhere = environment | {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
            assert program("notify", stdin=REQUEST, **nowhere).code == 75
            with closing(open_journal(program.journal)) as journal:
                for number in range(12):
                    draft = requests.Draft(REQUEST | {"RecordId": f"rec-{number}"})
                    journal.owe(requests.check(draft, "provision"), "sandbox", "us-east-1")
            (place.home / "runs").unlink()
            assert program("resend", **environment).code == 75
        assert (place.home / "runs").read_text() == "\n\n"

    def test_credentials_may_be_rotated_again_and_again(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls: list[str] = []

        def answer(headers: Message, _: bytes) -> tuple[int, bytes]:
            calls.append(key_id(headers))
            if len(calls) % 2:
                return 200, b"{}"
            place.credentials(f"AKIA{len(calls)}")
            return error("ExpiredTokenException")

        place.enter(monkeypatch)
        place.credentials("AKIA0")
        with endpoint(answer) as url:
            sender = Delivery(None, None, url)
            for _ in range(3):
                sender.send(CHECKED)
        assert calls == ["AKIA0", "AKIA0", "AKIA2", "AKIA2", "AKIA4"]


def pieces(text: str) -> set[str]:
    """All of a secret that must not be seen: six characters in a row."""
    return {line[i : i + 6] for line in text.split("\n") for i in range(len(line) - 5)}


def is_hidden(said: str) -> bool:
    return not any(piece in said for piece in pieces(SECRET_KEY) | pieces(SESSION_TOKEN))


@contextmanager
def container(token: str) -> Iterator[str]:
    """An endpoint as ECS and EKS have it."""
    keys = {"AccessKeyId": "ASIACONTAINER", "SecretAccessKey": SECRET_KEY, "Token": token}
    with endpoint(lambda *_: (200, json.dumps(keys | {"Expiration": FUTURE}).encode())) as url:
        yield url


class Source:
    """Each way to get a secret access key and a session token."""

    def __init__(self, place: Place, stack: ExitStack, token: str) -> None:
        self.place = place
        self.stack = stack
        self.token = token

    def process(self) -> dict[str, str]:
        self.place.process(f"cat {self.place.printed(SessionToken=self.token)}")
        return {}

    def process_that_is_refreshed(self) -> dict[str, str]:
        printed = self.place.printed(SessionToken=self.token, Expiration=FUTURE)
        self.place.process(f"cat {printed}")
        return {}

    def container(self) -> dict[str, str]:
        return {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": self.stack.enter_context(container(self.token))
        }

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": "ASIAENV",
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_SESSION_TOKEN": self.token,
        }

    def web_identity(self) -> dict[str, str]:
        (self.place.home / "jwt").write_text("eyJhbGciOiJSUzI1NiJ9.e30.c2lnbmF0dXJl")
        return self._sts("AssumeRoleWithWebIdentity") | {
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(self.place.home / "jwt"),
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/engine",
        }

    def assumed_role(self) -> dict[str, str]:
        self.place.config(
            "[default]\nrole_arn = arn:aws:iam::123456789012:role/engine\nsource_profile = keys\n"
            "[profile keys]\naws_access_key_id = a\naws_secret_access_key = b\n"
        )
        return self._sts("AssumeRole")

    def sso(self) -> dict[str, str]:
        log_in(self.place)
        keys = {"accessKeyId": "ASIASSO", "secretAccessKey": SECRET_KEY}
        role = keys | {"sessionToken": self.token, "expiration": 4102444800000}
        answer = 200, json.dumps({"roleCredentials": role}).encode()
        return {"AWS_ENDPOINT_URL_SSO": self.stack.enter_context(endpoint(lambda *_: answer))}

    def _sts(self, action: str) -> dict[str, str]:
        answer = 200, ASSUMED.format(action, SECRET_KEY, self.token).encode()
        return {"AWS_ENDPOINT_URL_STS": self.stack.enter_context(endpoint(lambda *_: answer))}


SOURCES = [name for name in vars(Source) if not name.startswith("_")]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_settings_that_cannot_be_used_end_in_what_to_do(
    program: Program, place: Place, broken: Broken
) -> None:
    with endpoint(lambda *_: broken.answer) as url:
        environment = broken.set_up(place, url)
        outcome = program("notify", stdin=REQUEST, **environment)
        cause = broken.said(place)
    assert outcome.lines == [f"rec-demo: not reported: {cause}. {SAVED}"]
    assert outcome.code == 75
    with closing(open_journal(program.journal)) as journal:
        assert [entry.state for entry in journal.pending()] == ["owed"]


class TestKeptSecret:
    @pytest.mark.parametrize("source", SOURCES)
    def test_session_token_that_the_http_library_quotes_is_hidden(
        self, program: Program, place: Place, notify: Callable[..., Outcome], source: str
    ) -> None:
        """It does so where the token has a newline in its middle."""
        with ExitStack() as stack:
            variables = getattr(Source(place, stack, SESSION_TOKEN), source)()
            outcome = notify("http://127.0.0.1:1", "--debug", **variables)
        assert outcome.code == 75
        assert "Invalid header value b'(AWS_SESSION_TOKEN)" in outcome.stderr
        assert is_hidden(outcome.stderr)
        listed = program("pending", "--json").stdout
        assert "(AWS_SESSION_TOKEN)" in listed
        assert is_hidden(listed)

    @pytest.mark.parametrize("source", SOURCES)
    def test_what_an_error_of_aws_quotes_is_hidden(
        self, program: Program, place: Place, notify: Callable[..., Outcome], source: str
    ) -> None:
        token = SESSION_TOKEN.replace("\n", "")
        answer = error("AccessDeniedException", f"not {SECRET_KEY}, nor {token[9:40]}")
        with ExitStack() as stack:
            variables = getattr(Source(place, stack, token), source)()
            url = stack.enter_context(endpoint(lambda *_: answer))
            outcome = notify(url, "--debug", **variables)
        assert "not (AWS_SECRET_ACCESS_KEY), nor (AWS_SESSION_TOKEN)" in outcome.stderr
        assert is_hidden(outcome.stderr)
        assert is_hidden(program("pending", "--json").stdout)

    def test_what_is_fetched_anew_is_hidden(
        self, place: Place, notify: Callable[..., Outcome]
    ) -> None:
        def answer(headers: Message, _: bytes) -> tuple[int, bytes]:
            if key_id(headers) == "AKIAOLD":
                place.credentials("AKIANEW", SECRET_KEY)
                return error("ExpiredTokenException")
            return error("AccessDeniedException", f"not {SECRET_KEY}")

        place.credentials("AKIAOLD", "another-secret-access-key")
        with endpoint(answer) as url:
            outcome = notify(url)
        assert "not (AWS_SECRET_ACCESS_KEY)" in outcome.stderr

    @pytest.mark.parametrize("source", ["assume-role", "web-identity", "sso"])
    def test_what_a_source_of_credentials_gets_is_hidden(
        self, place: Place, notify: Callable[..., Outcome], source: str
    ) -> None:
        variables = {}
        said = error("ValidationException", f"not {SECRET_KEY}")
        if source == "assume-role":
            place.credentials("AKIASOURCE")
            place.config("[profile r]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = default")
            variables["AWS_PROFILE"] = "r"
        elif source == "web-identity":
            (place.home / "jwt").write_text(SECRET_KEY)
            variables["AWS_WEB_IDENTITY_TOKEN_FILE"] = str(place.home / "jwt")
            variables["AWS_ROLE_ARN"] = "arn:aws:iam::123456789012:role/engine"
        else:
            log_in(place, token=SECRET_KEY)
        if source != "sso":
            xml = f"<Code>ValidationException</Code><Message>not {SECRET_KEY}</Message>"
            said = 400, f"<ErrorResponse><Error>{xml}</Error></ErrorResponse>".encode()
        with endpoint(lambda *_: said) as url:
            variables |= {"AWS_ENDPOINT_URL_STS": url, "AWS_ENDPOINT_URL_SSO": url}
            outcome = notify("http://127.0.0.1:1", "--debug", **variables)
        assert outcome.code == 75
        assert "ValidationException: not (" in outcome.stderr
        assert is_hidden(outcome.stderr)

    @given(value=st.text(st.characters(max_codepoint=0x2FF), min_size=16, max_size=80))
    def test_no_notation_of_a_secret_shows_a_piece_of_it(self, value: str) -> None:
        """As it is, in one line, and as `repr` has the bytes of a header."""
        _keep_secret(value, "※")
        notations = [value, " ".join(value.split())]
        try:
            notations.append(repr(value.encode("latin-1"))[2:-1])
        except UnicodeEncodeError:
            notations.append(ascii(value)[1:-1])
        for notation in notations:
            if len(notation) >= secret.PIECE and not {"'", '"'} & set(value):
                assert secret.hide(notation) == "※"

    def test_value_too_short_to_be_a_secret_is_left_alone(self) -> None:
        _keep_secret("sandbox", "*")
        assert secret.hide("the sandbox said") == "the sandbox said"


def test_mfa_code_is_not_waited_for_at_a_terminal(place: Place) -> None:
    place.config(
        "[default]\nrole_arn = arn:aws:iam::1:role/engine\nsource_profile = keys\n"
        "mfa_serial = arn:aws:iam::1:mfa/m\n"
        f"[profile keys]\naws_access_key_id = a\naws_secret_access_key = {SECRET_KEY}\n"
    )
    controller, terminal = pty.openpty()
    request = place.home / "request"
    request.write_text(json.dumps(REQUEST))
    process = subprocess.Popen(
        [sys.executable, MAIN, "notify", "--input", request],
        stdin=terminal,
        stdout=terminal,
        stderr=subprocess.PIPE,
        env=clean_environment(place.home, **place.environment),
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # what getpass would open
    )
    stderr = process.communicate()[1].decode()
    os.close(controller)
    os.close(terminal)
    assert process.returncode == 75
    assert "the role wants an MFA code; use credentials that need no MFA code" in stderr


class TestPatience:
    """A source may fail, or never answer; thousands of results may wait for it."""

    @pytest.fixture
    def deliver(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> Callable[[], NotDelivered]:
        """Send a result, in this process, and return why it could not be sent."""
        place.enter(monkeypatch)
        sender = Delivery(None, None, "http://127.0.0.1:1")

        def send() -> NotDelivered:
            with pytest.raises(NotDelivered) as caught:
                sender.send(CHECKED)
            return caught.value

        return send

    def test_source_that_never_answers_leaves_the_result_owed(
        self, place: Place, deliver: Callable[[], NotDelivered], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(account, "PATIENCE", 1.0)
        place.process('while [ -e "$HOME/give" ]; do sleep 0.1; done')
        error = deliver()
        (place.home / "give").unlink()
        assert error.cause.startswith("no AWS credentials from custom-process: no answer in time;")
        assert not error.sent

    def test_source_that_has_failed_just_now_is_not_asked_again(
        self, place: Place, deliver: Callable[[], NotDelivered], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place.process('echo >>"$HOME/runs"; exit 1')
        assert deliver().cause == deliver().cause
        assert (place.home / "runs").read_text() == "\n"
        monkeypatch.setattr(delivery, "FAILED_FOR", 0.0)
        deliver()
        assert (place.home / "runs").read_text() == "\n\n"

    def test_source_that_is_silent_when_its_credentials_end_leaves_the_result_owed(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is botocore that asks anew; while it signs, nobody would end its waiting."""
        soon = datetime.now(UTC) + timedelta(minutes=12)
        printed = place.printed(Expiration=soon.isoformat())
        place.process(
            f'[ -e "$HOME/silent" ] && for _ in $(seq 60); do sleep 0.1; done; cat {printed}'
        )
        place.enter(monkeypatch)
        with endpoint(lambda *_: (200, b"{}")) as url:
            sender = Delivery(None, None, url)
            sender.send(CHECKED)
            (place.home / "silent").touch()
            monkeypatch.setattr(account, "PATIENCE", 1.0)
            with pytest.raises(NotDelivered, match="custom-process: no answer in time"):
                sender.send(CHECKED)
