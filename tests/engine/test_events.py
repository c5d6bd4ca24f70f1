"""What Terraform prints, taken apart: by the text of a line, without a Terraform."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_result.engine.diagnostics import failure_reason
from workflow_result.engine.events import MAX_ERRORS, MAX_TEXT, Events
from workflow_result.engine.outputs import as_reported
from workflow_result.engine.process import MAX_LINE
from workflow_result.request import MAX_BYTES

TOKEN = "a65d4597-3088-41ae-87dc-3498daf1d69d"

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=10,
)


def event(kind: str, **members: Any) -> bytes:
    return json.dumps({"@level": "info", "@message": kind, "type": kind} | members).encode()


def outputs_event(values: dict[str, Any], **more: Any) -> bytes:
    members = {name: {"sensitive": False, "value": value} for name, value in values.items()}
    return event("outputs", outputs=members | more)


def reported(line: bytes, token: str = "", **descriptions: str) -> dict[str, str]:
    events = Events()
    events.take(line, is_stdout=True)
    outputs = as_reported(events.outputs, descriptions, token)
    return {output["OutputKey"]: output["OutputValue"] for output in outputs}


class TestOutputs:
    @given(values=st.dictionaries(TEXTS, JSON))
    def test_each_is_its_text_or_its_shortest_json(self, values: dict[str, Any]) -> None:
        shown = reported(outputs_event(values))
        assert shown.keys() == values.keys()
        for name, value in values.items():
            if isinstance(value, str):
                assert shown[name] == value
            else:
                shortest = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
                assert shown[name] == shortest

    @pytest.mark.parametrize("levels", [900, 20_000])
    def test_of_any_depth_are_as_they_are(self, levels: int) -> None:
        value = "[" * levels + '"x"' + "]" * levels
        kind = '["list",' * levels + '"string"' + "]" * levels
        line = '{"@message":"Outputs: 1","outputs":{"deep":{"sensitive":false,"type":TYPE,'
        line += '"value":VALUE}},"type":"outputs"}'
        line = line.replace("TYPE", kind).replace("VALUE", value)
        assert reported(line.encode()) == {"deep": value}

    @pytest.mark.parametrize(
        "number", ["1e5000", "1" * 5000, "3.14159265358979323846264338327950288419716", "-0.0"]
    )
    def test_numbers_keep_every_digit(self, number: str) -> None:
        line = outputs_event({"n": "N"}).replace(b'"N"', number.encode())
        assert reported(line) == {"n": number}

    def test_halves_of_characters_are_replaced(self) -> None:
        shown = reported(outputs_event({"half": "a\ud83d", "in": ["\udc00"], "\udc00": "x"}))
        assert shown == {"half": "a?", "in": '["?"]', "?": "x"}

    @pytest.mark.parametrize(
        "outputs",
        ['"none"', "[]", "1", "null", '{"a": 1}', '{"a": []}', '{"a": {}}', '{"a": {"value": }}'],
    )
    def test_of_an_odd_form_are_left_out(self, outputs: str) -> None:
        line = '{"@message": "m", "type": "outputs", "outputs": ' + outputs + "}"
        assert reported(line.encode()) == {}

    def test_sensitive_ones_are_hidden(self) -> None:
        line = outputs_event({"a": "x"}, secret={"sensitive": True, "value": "hunter2"})
        assert reported(line) == {"a": "x", "secret": "(sensitive value)"}

    def test_one_that_shows_the_token_is_hidden(self) -> None:
        values = {"url": f"https://x/{TOKEN}", "list": [TOKEN], "b": 1}
        expected = {"url": "(sensitive value)", "list": "(sensitive value)", "b": "1"}
        assert reported(outputs_event(values), TOKEN) == expected

    def test_token_in_a_name_or_a_description_is_hidden(self) -> None:
        events = Events()
        events.take(outputs_event({TOKEN: "x", "b": "y"}), is_stdout=True)
        assert as_reported(events.outputs, {"b": f"is {TOKEN}"}, TOKEN) == [
            {"OutputKey": "(WorkflowToken)", "OutputValue": "x"},
            {"OutputKey": "b", "OutputValue": "y", "Description": "is (WorkflowToken)"},
        ]

    def test_the_longest_are_left_out_where_a_request_could_not_hold_them(self) -> None:
        values = {"a": "x" * 17_000_000, "b": "y" * 1_000_000, "c": "z" * (MAX_BYTES // 2)}
        shown = reported(outputs_event(values))
        assert shown["a"] == "(17,000,000 characters, too long to be reported)"
        assert (shown["b"], shown["c"]) == (values["b"], values["c"])

    def test_those_of_a_line_that_is_cut_off_are_none(self) -> None:
        assert reported(outputs_event({"a": "x" * 100})[:-50]) == {}


class TestLines:
    @given(line=st.binary() | st.from_regex(rb'\{"@message".*').map(bytes))
    def test_no_line_is_too_odd(self, line: bytes) -> None:
        Events().take(line, is_stdout=True)

    @given(value=JSON)
    def test_no_event_is_too_odd(self, value: Any) -> None:
        for kind in ("diagnostic", "version", "outputs", "change_summary", "planned_change", "x"):
            line = event(kind, outputs=value, diagnostic=value, changes=value, range=value)
            Events().take(line, is_stdout=True)

    @pytest.mark.parametrize("kind", ["outputs", "version"])
    def test_events_count_from_stdout_alone(self, kind: str) -> None:
        line = event(kind, outputs={"a": {"value": 1}}, terraform="9.9")
        events = Events()
        events.take(line, is_stdout=False)
        assert (events.outputs, events.version) == ({}, "")
        events.take(line, is_stdout=True)
        assert events.outputs or events.version

    def test_interrupt_counts_from_stdout_alone(self) -> None:
        line = b'{"@message": "\\nInterrupt received.\\nPlease wait", "type": "log"}'
        events = Events()
        events.take(line, is_stdout=False)
        assert not events.is_interrupted
        events.take(line, is_stdout=True)
        assert events.is_interrupted

    @pytest.mark.parametrize("key", ["terraform", "tofu"])
    def test_version_says_which_program_it_is(self, key: str) -> None:
        events = Events()
        events.take(event("version", **{key: "1.8.2"}), is_stdout=True)
        assert (events.version, events.is_opentofu) == ("1.8.2", key == "tofu")

    def test_long_line_is_told_and_kept_in_part(self) -> None:
        events = Events()
        events.take(b"x" * (MAX_TEXT + 1), is_stdout=False)
        assert events.said == ["x" * MAX_TEXT]


class TestErrors:
    def test_long_one_is_told_whatever_its_length(self) -> None:
        """Its line is longer than what is parsed whole."""
        error = {"severity": "error", "summary": "Too bad", "detail": "x" * 2_000_000}
        events = Events()
        events.take(event("diagnostic", diagnostic=error), is_stdout=True)
        assert failure_reason("It failed", events.errors, []).startswith("It failed:\nToo bad\nxxx")

    def test_thousands_are_counted_and_not_all_kept(self) -> None:
        events = Events()
        for number in range(3 * MAX_ERRORS):
            error = {"severity": "error", "summary": f"Number {number}"}
            events.take(event("diagnostic", diagnostic=error), is_stdout=True)
        assert len(events.errors) == MAX_ERRORS
        reason = failure_reason("Failed", events.errors, [], events.more_errors)
        shown = sum(line.split(".")[0].isdigit() for line in reason.splitlines())
        assert reason.endswith(f"… and {3 * MAX_ERRORS - shown} more errors")

    def test_a_line_that_is_too_long_to_be_read_whole_is_no_event(self) -> None:
        events = Events()
        line = event("diagnostic", diagnostic={"severity": "error", "summary": "x" * MAX_LINE})
        events.take(line[:MAX_LINE], is_stdout=True)
        assert events.errors == []

    @pytest.mark.parametrize(
        "value", ['"' + "\\u003c" * (MAX_LINE // 6), '{"b":"}}},' + "\\u003c" * (MAX_LINE // 6)]
    )
    def test_outputs_before_one_that_is_too_long_are_there(
        self, value: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        events = Events()
        begin = '{"@level":"info","@message":"Outputs: 2","@module":"terraform.ui","outputs":'
        outputs = '{"a":{"sensitive":false,"type":"number","value":1},"b":{"value":'
        events.take((begin + outputs + value).encode()[:MAX_LINE], is_stdout=True)
        assert events.outputs == {"a": {"sensitive": b"false", "type": b'"number"', "value": b"1"}}
        said = "warning: the outputs are too long: those after a are left out\n"
        assert capsys.readouterr().err == said
