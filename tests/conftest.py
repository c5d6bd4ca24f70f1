"""What the tests share: main.py as a process, and a sandbox where AWS would be."""

import itertools
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import warm
from botocore.config import Config
from hypothesis import settings

from workflow_result import secret

if TYPE_CHECKING:
    from multiprocessing.context import ForkProcess

    from engine_cli import Engine
    from journal_cli import Desk
    from ministack_server import Ministack
    from served_cli import Station

# In the background interrupts are ignored, under nohup hang-ups, and so they would be by what the
# tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# How long an example takes says more of the machine than of the program.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, and most of that time waits; all else is in random order."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


ROOT = Path(__file__).resolve().parent.parent
MAIN = ROOT / "main.py"

UUID_TOKEN = "965d4597-3088-41ae-87dc-3498daf1d69d"

CREDENTIALS = {
    "AWS_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "sandbox",
    "AWS_SECRET_ACCESS_KEY": "sandbox",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def clean_environment(home: Path, **variables: str) -> dict[str, str]:
    """An environment without anything of the person's who runs the tests."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return kept | {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"} | variables


@dataclass
class Outcome:
    """How a run of main.py ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        return self.stderr.splitlines()

    @property
    def json(self) -> dict[str, str]:
        value: dict[str, str] = json.loads(self.stdout)
        return value


class Program:
    """Runs main.py, each time as a process of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.journal = home / ".local" / "state" / "workflow-result" / "journal.sqlite3"

    def __call__(
        self,
        *arguments: str | Path,
        stdin: bytes | str | dict[str, Any] = b"",
        **environment: str,
    ) -> Outcome:
        if isinstance(stdin, dict):
            stdin = json.dumps(stdin)
        given = stdin.encode() if isinstance(stdin, str) else stdin
        variables = clean_environment(self.home, **environment)
        code, stdout, stderr = warm.run(arguments, given, variables, self.home)
        return Outcome(code, stdout.decode(), stderr.decode())


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


@dataclass
class Sandbox:
    """A running `main.py sandbox`."""

    url: str
    log: Path

    @cached_property
    def client(self) -> Any:
        return new_client(self.url)

    @property
    def environment(self) -> dict[str, str]:
        return CREDENTIALS | {"AWS_ENDPOINT_URL_SERVICE_CATALOG": self.url}

    def calls(self) -> list[tuple[str, str, str]]:
        """What it was asked to end: the record, the IdempotencyToken, and how it answered."""
        pattern = r"^Notify\w+ (\S+) (\S+): (.*)$"
        return re.findall(pattern, self.log.read_text(encoding="utf-8"), re.MULTILINE)

    def record(self, record_id: str = "rec-demo") -> dict[str, Any]:
        answer: dict[str, Any] = self.client.describe_record(Id=record_id)
        return answer

    def status(self, record_id: str = "rec-demo") -> str:
        return str(self.record(record_id)["RecordDetail"]["Status"])


def new_client(url: str) -> Any:
    """A boto3 client that asks once, so that a test sees every answer as it came."""
    return boto3.client(
        "servicecatalog",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="sandbox",
        aws_secret_access_key="sandbox",
        config=Config(retries={"total_max_attempts": 1}, inject_host_prefix=False),
    )


def serve_sandbox(options: Sequence[str], log: Path, stdout: int) -> None:
    """Be `main.py sandbox` with these options, which prints its URL to the descriptor `stdout`."""
    from workflow_result.cli.sandbox import sandbox

    forget_all_secrets()
    sys.stdout = os.fdopen(stdout, "w")
    sys.stderr = log.open("a", encoding="utf-8")
    sandbox.main(["--port", "0", *options], standalone_mode=False)


@contextmanager
def sandboxes(home: Path) -> Iterator[Callable[..., Sandbox]]:
    """Start sandboxes with these options; all end with the context.

    Each is a process of its own, forked: Python and boto3 are loaded already. That the real
    command gives the same is what the tests of the pages and of the demo show.
    """
    processes: list[ForkProcess] = []

    def start(*options: str) -> Sandbox:
        log = home / f"sandbox-{len(processes)}.log"
        log.touch()
        url, stdout = os.pipe()
        process = get_context("fork").Process(target=serve_sandbox, args=(options, log, stdout))
        process.start()
        processes.append(process)
        os.close(stdout)
        with os.fdopen(url) as line:
            return Sandbox(line.readline().strip(), log)

    try:
        yield start
    finally:
        for process in processes:
            process.kill()
            process.join()


@pytest.fixture
def start_sandbox(tmp_path: Path) -> Iterator[Callable[..., Sandbox]]:
    with sandboxes(tmp_path) as start:
        yield start


@pytest.fixture
def sandbox(start_sandbox: Callable[..., Sandbox]) -> Sandbox:
    return start_sandbox()


@pytest.fixture
def station(
    tmp_path: Path, ministack: "Ministack", start_sandbox: Callable[..., Sandbox]
) -> Iterator["Station"]:
    """An engine's account, for the tests of served orders; its workers end with the test."""
    from served_cli import Station

    records = [option for n in range(1, 10) for option in ("--record", f"rec-{n}")]
    station = Station(tmp_path, ministack, start_sandbox(*records))
    yield station
    station.close()


@pytest.fixture
def engine(tmp_path: Path, sandbox: Sandbox) -> Iterator["Engine"]:
    """An engine that calls `run`; what it leaves running is ended."""
    from engine_cli import Engine, kill_left_over

    yield Engine(tmp_path, sandbox)
    kill_left_over(tmp_path)


@pytest.fixture(scope="session")
def waiting_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox with records enough for every test to take its own."""
    with sandboxes(tmp_path_factory.mktemp("sandbox")) as start:
        yield start(*(f"--record=rec-{n}" for n in range(2000)))


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Ministack"]:
    """DynamoDB on loopback, where each test makes a table of its own."""
    from ministack_server import ministack_server

    with ministack_server(tmp_path_factory.mktemp("aws")) as server:
        yield server


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program and what it needs in one zip file, as `make package` makes it."""
    from served_package import package_of_this_run

    return package_of_this_run(tmp_path_factory.getbasetemp())


_numbers = itertools.count()


@pytest.fixture
def record() -> str:
    """A record that no other test has."""
    return f"rec-{next(_numbers)}"


@pytest.fixture
def records() -> Callable[[int], list[str]]:
    return lambda count: [f"rec-{next(_numbers)}" for _ in range(count)]


@pytest.fixture
def desk(tmp_path: Path, waiting_sandbox: Sandbox) -> Iterator["Desk"]:
    """A journal, and main.py to work on it; what that leaves running is ended."""
    from engine_cli import kill_left_over
    from journal_cli import Desk

    yield Desk(tmp_path / "desk", waiting_sandbox)
    kill_left_over(tmp_path / "desk")


@pytest.fixture
def shared_desk(
    tmp_path: Path, waiting_sandbox: Sandbox, ministack: "Ministack"
) -> Iterator["Desk"]:
    """The same, where the journal is a table."""
    from engine_cli import kill_left_over
    from journal_cli import Desk
    from tables import new_table

    yield Desk(tmp_path / "desk", waiting_sandbox, shared=new_table(ministack))
    kill_left_over(tmp_path / "desk")


@pytest.fixture
def file_desk(desk: "Desk") -> "Desk":
    """`desk`, for tests that have another one of that name."""
    return desk


@pytest.fixture(params=["file", "table"])
def any_desk(request: pytest.FixtureRequest) -> "Desk":
    """A journal in a file, and one in a table."""
    desk: Desk = request.getfixturevalue("desk" if request.param == "file" else "shared_desk")
    return desk


@pytest.fixture
def new_desk(
    tmp_path: Path, start_sandbox: Callable[..., Sandbox]
) -> Iterator[Callable[..., "Desk"]]:
    """Desks with a sandbox of their own, for one that misbehaves, or to count its calls."""
    from engine_cli import kill_left_over
    from journal_cli import Desk

    yield lambda *options: Desk(tmp_path / "desk", start_sandbox(*options))
    kill_left_over(tmp_path / "desk")


@contextmanager
def endpoint(
    answer: Callable[[Message, bytes], tuple[int, bytes]],
    length: int | None = None,
    request_id: str | None = "x-amzn-RequestId",
) -> Iterator[str]:
    """Serve on loopback what `answer` makes of the headers and the body of a request.

    Yields the URL. For what the sandbox does not do: it stands for AWS, this for anything.
    Each connection has a thread of its own. Where a `length` is announced that the answer does
    not have, it breaks off. `request_id` is the header that AWS's request ID comes in.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body = answer(self.headers, body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            if request_id:
                self.send_header(request_id, "4a8e0d5c")
            self.end_headers()
            self.wfile.write(body)
            self.close_connection |= length is not None

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 128  # as many may connect at the same moment

    with Server(("127.0.0.1", 0), Handler) as server:
        # It looks every so many seconds whether it is to end.
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(autouse=True)
def forget_secrets() -> Iterator[None]:
    """What a test keeps secret in this process, no other has to do without."""
    yield
    forget_all_secrets()


def forget_all_secrets() -> None:
    for secrets in (secret._pieces, secret._whole, secret._cores, secret._crowd, secret._stand_ins):
        secrets.clear()
    secret._patterns = None


def provider_mirror(*providers: str) -> Path:
    """The folder of a filesystem mirror that has these providers; the test is skipped without."""
    folder = os.environ.get("TEST_PROVIDER_MIRROR", "")
    for provider in providers:
        if not folder or not (Path(folder) / "registry.terraform.io" / provider).is_dir():
            pytest.skip(
                f"the provider {provider} is missing: TEST_PROVIDER_MIRROR has to name a folder "
                f"with registry.terraform.io/{provider} in it"
            )
    return Path(folder)
