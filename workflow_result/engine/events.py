"""What Terraform says while it runs: its machine-readable UI, and whatever it prints beside it.

https://developer.hashicorp.com/terraform/internals/machine-readable-ui
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from workflow_result.engine.diagnostics import TerraformError
from workflow_result.engine.progress import Progress
from workflow_result.problem import Event, Style, say

ENDS = 10
"""Of what is printed beside the events, how many lines from each end are kept."""

MAX_TEXT = 64 * 1024
"""Characters of a line that are told and kept."""

MAX_ERRORS = 200
"""Errors that are kept: more than a FailureReason can name."""

_LONG = 1024 * 1024
"""Bytes from which on only what is needed of an event is parsed: the rest may take much memory."""

_LOG = re.compile(r'\S+ \[(TRACE|DEBUG|INFO|WARN)\]|\{"@level"')  # TF_LOG's lines

_CUT = re.compile(rb'\{"@level":"info","@message":"Outputs: \d+",[^{]{,200}"outputs":(?=\{)')
"""How the event with the outputs begins."""

_JSON_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)


class Events:
    """Takes what Terraform prints line by line, tells it, and keeps what the result is made of.

    `errors` are its diagnostics, at most `MAX_ERRORS`, `more_errors` is the number of further
    ones; `said` holds the first and the last lines of the step that are no events. `outputs` has,
    of each root output, its members as JSON text. `removes` is the number of objects that the plan
    destroys, where it says so. `has_begun` says whether the change of anything has.
    """

    def __init__(self) -> None:
        self.errors: list[TerraformError] = []
        self.more_errors = 0
        self.said: list[str] = []
        self.outputs: dict[str, dict[str, bytes]] = {}
        self.removes: str | None = None
        self.has_begun = False
        self.version = ""
        self.is_opentofu = False
        self.is_interrupted = False
        self._progress = Progress()

    def begin(self) -> None:
        """A step begins: what an earlier one printed is of no interest any more."""
        self.said.clear()

    def take(self, line: bytes, *, is_stdout: bool, quiet: bool = False) -> None:
        """Take in one line, and tell it; of what was told before, where `quiet`, only the errors.

        Events count from stdout alone: a provider or a provisioner can write to stderr.
        """
        event = _event(line) if is_stdout else None
        if event is None and is_stdout and (begin := _CUT.match(line)):  # too long to be kept
            self.outputs = dict(_outputs_in(line[begin.end() :]))
            known = f"those after {list(self.outputs)[-1]}" if self.outputs else "they"
            say(f"warning: the outputs are too long: {known} are left out", Style.YELLOW)
            return
        if event is None:
            self._take_text(line[: 4 * MAX_TEXT].decode("utf-8", "replace")[:MAX_TEXT].rstrip("\r"))
            return
        match event["type"]:
            case "diagnostic":
                diagnostic = event.get("diagnostic")
                self._take_diagnostic(diagnostic if isinstance(diagnostic, dict) else event)
                return
            case "version":
                self.is_opentofu = "tofu" in event
                self.version = str(event.get("tofu") or event.get("terraform") or "")
                return
            case "outputs":
                self.outputs = dict(_outputs(line))
            case "change_summary":
                changes = event.get("changes")
                self.removes = changes.get("remove") if isinstance(changes, dict) else None
                self._progress.plan(changes)
            case "planned_change" if quiet:
                return
        if event.get("message_code") == "output_init_success_cli_message":
            return
        self.has_begun |= event["type"] in ("apply_start", "provision_start", "action_start")
        message = event["@message"]
        if message.lstrip().startswith("Interrupt received"):
            self.is_interrupted = True
        if not self._progress.take(event):
            for text in message[:MAX_TEXT].splitlines():
                say(f"  {text}", event=Event.TERRAFORM)
        self._progress.show()

    def _take_text(self, text: str) -> None:
        if not _LOG.match(text):
            self.said.append(text)
            if len(self.said) > 2 * ENDS:  # of a panic, the first lines matter most
                del self.said[ENDS]
        say(f"  {text}", event=Event.TERRAFORM)

    def _take_diagnostic(self, diagnostic: dict[str, Any]) -> None:
        error = TerraformError.from_diagnostic(diagnostic)
        if diagnostic.get("severity") == "error":
            if len(self.errors) < MAX_ERRORS:
                self.errors.append(error)
            else:
                self.more_errors += 1
            say(f"  Error: {error.head()}", Style.RED, event=Event.TERRAFORM)
        else:
            say(f"  Warning: {error.head()}", Style.YELLOW, event=Event.TERRAFORM)
        for line in error.rest.splitlines():
            say(f"    {line}", event=Event.TERRAFORM)


def compact(text: bytes) -> str:
    """Return a JSON text at its shortest, every digit of its numbers kept."""

    def shortest(token: re.Match[bytes]) -> str:
        if not token[0].startswith(b'"'):
            return token[0].decode()
        return json.dumps(string(token[0]), ensure_ascii=False)

    return "".join(map(shortest, _JSON_TOKEN.finditer(text)))


def string(text: bytes) -> str:
    """Return the string in a JSON text, without halves of characters. Raises ValueError."""
    value = json.loads(text)
    if not isinstance(value, str):
        raise ValueError("not a JSON string")
    return value.encode("utf-8", "replace").decode("utf-8")


def _event(line: bytes) -> dict[str, Any] | None:
    """The event in a line, or None where the line is none."""
    if not line.startswith(b"{"):
        return None
    try:
        event = _parse(line) if len(line) < _LONG else _strings(line)
    except ValueError:
        return None
    if not isinstance(event, dict):
        return None
    return event if all(isinstance(event.get(key), str) for key in ("@message", "type")) else None


def _parse(line: bytes) -> Any:
    try:
        # As text, since a number may have more digits than Python reads.
        return json.loads(line, parse_int=str, parse_float=str)
    except RecursionError:
        return _strings(line)


def _strings(text: bytes) -> dict[str, Any]:
    """Of a JSON object of any depth and size, the members that are strings, and `diagnostic`."""
    members = _members(text)
    found: dict[str, Any] = {n: string(v) for n, v in members.items() if v.startswith(b'"')}
    if "diagnostic" in members:
        found["diagnostic"] = _strings(members["diagnostic"])
    return found


def _outputs(line: bytes) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield name and members of each output in an event. What has another form is left out."""
    yield from _outputs_in(_members_or_none(line).get("outputs", b""))


def _outputs_in(text: bytes) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the same of the outputs in an object, as far as that is there."""
    for name, output in _members_or_none(text, is_cut=True).items():
        yield name, _members_or_none(output)


def _members_or_none(text: bytes, *, is_cut: bool = False) -> dict[str, bytes]:
    try:
        return _members(text, is_cut=is_cut)
    except ValueError:
        return {}


def _members(text: bytes, *, is_cut: bool = False) -> dict[str, bytes]:
    """Return each member of a JSON object as it is written; of one that `is_cut` off, the whole
    ones.

    Python's parser gives up some hundred levels down, and a type of Terraform's nests twice as
    deep as its value. Raises ValueError where there is no object.
    """
    members: dict[str, bytes] = {}
    key: str | None = None
    depth = begin = end = 0
    for token in _JSON_TOKEN.finditer(text):
        mark = token[0]
        if text.find(b'"', end, token.start()) >= 0:  # a string without an end
            break
        end = token.end()
        if depth == 1:
            if mark in b",}":
                if key is not None and begin:
                    members[key] = text[begin : token.start()].strip()
                elif mark == b"," or key is not None:
                    break
                key, begin = None, 0
            elif key is None:
                key = string(mark)
            elif not begin:
                if mark != b":":
                    break
                begin = token.end()
        depth += (mark in b"{[") - (mark in b"}]")
        if depth == 0:
            if mark != b"}" or text[token.end() :].strip():
                break
            return members
    if is_cut and depth > 0:
        return members
    raise ValueError("not a JSON object")
