"""What an order's parameters mean, told by the real Terraform."""

import json
import subprocess
import tempfile
import unicodedata
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from conftest import Sandbox, clean_environment
from engine_cli import MESSAGE, ONE_RESOURCE, TERMINATE, Engine
from hcl_texts import TEXTS, VALUES, Written
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from workflow_result.engine import configuration, hcl
from workflow_result.engine.configuration import Configuration, Variable
from workflow_result.engine.parameters import Unsuitable, definitions
from workflow_result.engine.values import Kind, Number

Seen = tuple[Any, Any]
"""The type and the value of a variable, as Terraform has them; numbers as `Decimal`."""


def seen_by_terraform(
    folder: Path, declarations: Mapping[str, str], parameters: Mapping[str, str]
) -> dict[str, Seen]:
    """What the variables declared with these bodies are where these parameters are given."""
    blocks = [f"variable {name} {{\n{body}\n}}\n" for name, body in declarations.items()]
    blocks += [f"output {n} {{\n value = var.{n}\n sensitive = true\n}}\n" for n in declarations]
    (folder / "main.tf").write_text("".join(blocks))
    given = definitions(parameters, configuration.read(folder))
    assert given.text.isascii() or not all(name.isascii() for name in parameters)
    with tempfile.TemporaryFile() as file:
        file.write(given.text.encode())
        file.flush()
        var_file = f"-var-file=/dev/fd/{file.fileno()}"
        for command in (["init"], ["plan", "-out=plan", var_file], ["show", "-json", "plan"]):
            done = subprocess.run(
                ["terraform", *command],
                cwd=folder,
                env=clean_environment(folder, CHECKPOINT_DISABLE="1"),
                capture_output=True,
                text=True,
                pass_fds=[file.fileno()],
            )
            assert done.returncode == 0, done.stdout + done.stderr
    shown = json.loads(done.stdout, parse_int=Decimal, parse_float=Decimal)
    # An output that is null is left out.
    outputs = shown["planned_values"]["outputs"]
    return {
        name: (outputs.get(name, {}).get("type"), outputs.get(name, {}).get("value"))
        for name in declarations
    }


def normalized(value: Any) -> Any:
    match value:
        case Number():
            return Decimal(value)
        case str():
            return unicodedata.normalize("NFC", value)
        case list():
            return [normalized(item) for item in value]
        case dict():
            return {normalized(key): normalized(item) for key, item in value.items()}
    return value


LIST = ["list", "string"]
DIGITS = "12345678901234567890123456789012345678901234567890.12345678901234567890"
LONG = "x" * 100_000

ROWS: list[tuple[str, str, Any, Any]] = [
    # Declared, ordered, then the type and the value that it is.
    ("type = string", "plain", "string", "plain"),
    ("type = string", "", "string", ""),
    ("type = string", "null", "string", "null"),
    ("type = string", "007", "string", "007"),
    ("type = string", '["a"]', "string", '["a"]'),
    ("type = string", '"\\ ${a} $${a} %{if} %%{ \n\r\t é \U0001f600 \x01', "string", None),
    ("type = string", "a$", "string", "a$"),
    ("type = string", "a\0b", "string", "a\0b"),
    ("type = string", "\u0301combining", "string", "\u0301combining"),
    ("type = string", LONG, "string", LONG),
    ("type = string\n nullable = false\n default = 1", "", "string", ""),
    ("type = string\n sensitive = true", "s", "string", "s"),
    (
        'type = string\n validation {\n condition = var.SELF == "$${"\n error_message = "no"\n }',
        "${",
        "string",
        "${",
    ),
    ("type = number", "5", "number", Decimal(5)),
    ("type = number", "-1.50e1", "number", Decimal(-15)),
    ("type = number", DIGITS, "number", Decimal(DIGITS)),
    ("type = bool", "true", "bool", True),
    ("type = bool", "0", "bool", False),
    ("type = list(string)", '["a","b"]', LIST, ["a", "b"]),
    ("type = list(string)", '["${a}", "%{b}", "$${c}"]', LIST, ["${a}", "%{b}", "$${c}"]),
    ("type = list(string)", r'["\/", "\b", "\ud83d\ude00"]', LIST, ["/", "\b", "\U0001f600"]),
    ("type = list(string)", '["a",\n  "b", # two\n]', LIST, ["a", "b"]),
    ("type = list(string)", '["$${a}", "$$${b}"]', LIST, ["$${a}", "$$${b}"]),
    ("type = list(string)", '["$${a}", "\\u0024{b}",]', LIST, ["${a}", "${b}"]),
    ("type = list(string)", "[<<A\n${a\nA\n]".replace("${", "$${"), LIST, ["${a\n"]),
    ("type = list(string)", "[]", LIST, []),
    ("type = list(string)", '[null, "a"]', LIST, [None, "a"]),
    ("type = list(string)", "null", "dynamic", None),
    ("type = number\n default = null", "", "dynamic", None),
    ("type = map(string)\n default = null", "", "dynamic", None),
    ("type = string\n default = null", "", "string", ""),
    ("default = null", "", "string", ""),
    ("default = 10 / 3 * 3", "", "number", Decimal(10)),
    ("type = number\n default = 10 / 3 * 3", "", "number", Decimal(10)),
    ('default = "${"a"}b"', "", "string", "ab"),
    ('type = string\n default = true ? "a" : "b"', "", "string", "a"),
    ('default = true ? ["a"] : []', "", LIST, ["a"]),
    ('type = list(string)\n nullable = false\n default = ["d"]', "null", LIST, ["d"]),
    ("type = list(number)", f"[{DIGITS}, -1]", ["list", "number"], [Decimal(DIGITS), Decimal(-1)]),
    ("type = list", '["a"]', LIST, ["a"]),
    ("type = set(string)", '["a", "a"]', ["set", "string"], ["a"]),
    ("type = tuple([string, bool])", "[1, true]", ["tuple", ["string", "bool"]], ["1", True]),
    ("type = map(number)", '{"a b": 1}', ["map", "number"], {"a b": Decimal(1)}),
    (
        "type = map(string)",
        '{ a = "x", "b" : "y"\n 1.50 = "z" }',
        ["map", "string"],
        {"a": "x", "b": "y", "1.5": "z"},
    ),
    ("type = map(string)", '{"${k}": "v"}', ["map", "string"], {"${k}": "v"}),
    (
        "type = object({ a = string, b = optional(number, 7) })",
        '{"a": "x"}',
        ["object", {"a": "string", "b": "number"}],
        {"a": "x", "b": Decimal(7)},
    ),
    (
        "type = object({ a = optional(string) })",
        '{"a": null}',
        ["object", {"a": "string"}],
        {"a": None},
    ),
    ("type = any", "2024-01-01", "string", "2024-01-01"),
    ("type = any", "007", "string", "007"),
    ("type = any", "7", "string", "7"),
    ("type = any", "true", "string", "true"),
    ("type = any", "null", "string", "null"),
    ("type = any", "plain", "string", "plain"),
    ("type = any", "10.0.0.0/16", "string", "10.0.0.0/16"),
    ("type = any", "", "string", ""),
    ("type = any", '["a", 1]', ["tuple", ["string", "number"]], ["a", Decimal(1)]),
    ("type = any", '{"a": [true]}', ["object", {"a": ["tuple", ["bool"]]}], {"a": [True]}),
    ("type = any", '["a",]', "string", '["a",]'),
    ("type = any\n default = null", "5", "string", "5"),
    ("", '["a"]', ["tuple", ["string"]], ["a"]),
    ("", "5", "string", "5"),
    ('default = ["a"]', '["a","b"]', ["tuple", ["string", "string"]], ["a", "b"]),
    ('default = ["a"]', "plain", "string", "plain"),
    ("default = [for x in [1] : x]", "[2]", ["tuple", ["number"]], [Decimal(2)]),
    ("default = true", "true", "bool", True),
    ("default = true", "maybe", "string", "maybe"),
    ("default = 5", "7", "number", Decimal(7)),
    ("default = 5", "007", "string", "007"),
    ("default = 5", "", "string", ""),
    ("default = {}", '{"a":1}', ["object", {"a": "number"}], {"a": Decimal(1)}),
    ("default = {}", "[]", "string", "[]"),
    ('default = "a"', "5", "string", "5"),
    ('default = "a"', '"quoted"', "string", '"quoted"'),
    ('default = "a"', '["b"]', "string", '["b"]'),
]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    folder = tmp_path_factory.mktemp("rows")
    declared = {f"x{i}": body.replace("SELF", f"x{i}") for i, (body, *_) in enumerate(ROWS)}
    return seen_by_terraform(folder, declared, {f"x{i}": row[1] for i, row in enumerate(ROWS)})


class TestMeaning:
    @pytest.mark.parametrize("number", range(len(ROWS)), ids=lambda n: f"{ROWS[n][:2]}"[:60])
    def test_what_is_ordered_is_what_terraform_gets(
        self, seen: dict[str, Seen], number: int
    ) -> None:
        _, ordered, type_, value = ROWS[number]
        wanted = ordered if value is None and type_ == "string" else value
        assert seen[f"x{number}"] == (type_, normalized(wanted))

    def test_variable_declared_in_an_override_file_or_in_json(self, tmp_path: Path) -> None:
        (tmp_path / "override.tf").write_text("variable a {\n type = list(string)\n}\n")
        (tmp_path / "more.tf.json").write_text('{"variable": {"größe": {"type": "list(number)"}}}')
        (tmp_path / "out.tf").write_text("output größe {\n value = var.größe\n}\n")
        found = seen_by_terraform(tmp_path, {"a": "type = string"}, {"a": '["x"]', "größe": "[1]"})
        assert found == {"a": (LIST, ["x"])}

    @settings(
        max_examples=4,
        deadline=None,
        phases=[Phase.explicit, Phase.reuse, Phase.generate],  # each costs a second: no shrinking
        suppress_health_check=list(HealthCheck),
    )
    @given(
        texts=st.lists(TEXTS | st.text(), min_size=20, max_size=40),
        values=st.lists(VALUES.filter(lambda w: isinstance(w[1], list)), min_size=5, max_size=10),
    )
    def test_any_text_is_the_value_of_its_own_variable_and_of_no_other(
        self, tmp_path: Path, texts: list[str], values: list[Written]
    ) -> None:
        declared, ordered = {"other": 'default = "untouched"'}, {}
        wanted: dict[str, Any] = {"other": "untouched"}
        for i, text in enumerate(texts):
            for name, body in (("s", "type = string"), ("d", 'default = "a"'), ("n", "")):
                declared[f"{name}{i}"], ordered[f"{name}{i}"] = body, text
                wanted[f"{name}{i}"] = normalized(text)
            declared[f"l{i}"], ordered[f"l{i}"] = "type = list(string)", json.dumps([text])
            wanted[f"l{i}"] = [normalized(text)]
            declared[f"m{i}"], ordered[f"m{i}"] = "type = map(string)", json.dumps({text: text})
            wanted[f"m{i}"] = {normalized(text): normalized(text)}
        for i, (text, value) in enumerate(values):
            declared[f"v{i}"], ordered[f"v{i}"] = "type = tuple([])", text
            declared[f"v{i}"] = f"default = [{text}]"  # so that it has the type of its own
            wanted[f"v{i}"] = text if not _is_json(text) else normalized(value)
        found = seen_by_terraform(tmp_path, declared, ordered)
        assert {name: value for name, (_, value) in found.items()} == wanted

    @given(TEXTS | st.text() | VALUES.map(lambda written: written[0]))
    def test_no_text_makes_more_than_one_definition(self, text: str) -> None:
        """Whatever is declared: a line for the one parameter, or an error that names it."""
        for kind in Kind:
            variable = Variable("x", kind, "some type")
            try:
                given = definitions({"x": text}, Configuration(variables={"x": variable}))
            except Unsuitable as error:
                assert str(error).startswith("The parameter x ")
                continue
            assert given.text.startswith("x = ")
            assert given.text.isascii()
            assert given.text.isprintable() is False  # the newline
            assert given.text.count("\n") == 1
            parsed = hcl.parse(given.text.encode())
            assert not parsed.node.has_error
            assert [name for name, _ in hcl.attributes(parsed)] == ["x"]


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=lambda c: 1 / 0)
    except (ValueError, ZeroDivisionError):
        return False
    return True


def declared_as(type_: str, kind: Kind, **more: Any) -> Configuration:
    return Configuration(variables={"size": Variable("size", kind, type_, **more)})


class TestUnsuitable:
    @pytest.mark.parametrize(
        ("type_", "kind", "text", "message"),
        [
            ("number", Kind.NUMBER, "abc", 'declared as number, which "abc" is not'),
            ("number", Kind.NUMBER, "", 'declared as number, which "" is not'),
            ("number", Kind.NUMBER, "Inf", 'declared as number, which "Inf" is not'),
            ("number", Kind.NUMBER, "1 ", 'declared as number, which "1 " is not'),
            ("number", Kind.NUMBER, "0x1F", 'declared as number, which "0x1F" is not'),
            ("bool", Kind.BOOL, "maybe", 'declared as bool, which "maybe" is not'),
            ("bool", Kind.BOOL, "True", 'declared as bool, which "True" is not'),
            (
                "list(string)",
                Kind.SEQUENCE,
                "plain",
                'declared as list(string), which "plain" is not: '
                'a JSON list is needed, as ["a","b"]',
            ),
            *(
                (
                    "list(string)",
                    Kind.SEQUENCE,
                    text,
                    f"declared as list(string), which {json.dumps(text)} is not: "
                    'a JSON list is needed, as ["a","b"]',
                )
                for text in (
                    "",
                    "{}",
                    '"a"',
                    "[NaN]",
                    '["a"]\nadmin = "x"',
                    '["a"] ["b"]',
                    '["${x}",]',
                    "[var.x]",
                    '[file("x")]',
                    "[1 + 1]",
                    "[for x in [] : x]",
                    "[0x1F]",
                    r'["\q",]',
                    r'["\ud83d",]',
                    "[<<A\n${x}\nA\n]",
                )
            ),
            (
                "map(string)",
                Kind.MAPPING,
                '["a"]',
                'declared as map(string), which "[\\"a\\"]" is not: '
                'a JSON object is needed, as {"a":"b"}',
            ),
            (
                "object({ a = string, b = number, c = bool, d = any })",
                Kind.MAPPING,
                "y" * 1000,
                "declared as object({ a = string, b = number, c = bo…, "
                f'which "{"y" * 39}…" is not: '
                'a JSON object is needed, as {"a":"b"}',
            ),
        ],
    )
    def test_value_that_cannot_be_what_is_declared(
        self, type_: str, kind: Kind, text: str, message: str
    ) -> None:
        with pytest.raises(Unsuitable) as raised:
            definitions({"size": text}, declared_as(type_, kind))
        assert str(raised.value) == f"The parameter size is {message}"

    @pytest.mark.parametrize("secret", ["sensitive", "ephemeral"])
    def test_secret_value_is_not_quoted(self, secret: str) -> None:
        with pytest.raises(Unsuitable) as raised:
            definitions({"size": "abc"}, declared_as("number", Kind.NUMBER, **{secret: True}))
        expected = "The parameter size is declared as number, which its value is not"
        assert str(raised.value) == expected

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (r'["\ud83d"]', "holds half a character (a lone surrogate)"),
            ("[" * 800 + "]" * 800, "is nested too deeply"),
            ("[1e99999999999]", "holds a number that is too large"),
        ],
    )
    def test_value_that_cannot_be_written(self, text: str, message: str) -> None:
        for configured in (declared_as("list(any)", Kind.SEQUENCE), declared_as("any", Kind.ANY)):
            with pytest.raises(Unsuitable) as raised:
                definitions({"size": text}, configured)
            assert str(raised.value) == f"The parameter size {message}"

    def test_every_unsuitable_parameter_is_named(self) -> None:
        variables = {name: Variable(name, Kind.BOOL, "bool") for name in "abc"}
        with pytest.raises(Unsuitable) as raised:
            definitions({"a": "x", "b": "true", "c": "y"}, Configuration(variables=variables))
        assert str(raised.value) == (
            'The parameter a is declared as bool, which "x" is not; '
            'the parameter c is declared as bool, which "y" is not'
        )


class TestDefinitions:
    def test_parameters_that_are_not_declared_are_left_out(self) -> None:
        names = ["a b", "1st", "a=b", "other", "", "a\nb", "a"]
        given = definitions(
            dict.fromkeys(names, "x"), Configuration(variables={"a": Variable("a")})
        )
        assert given.text == 'a = "x"\n'
        assert given.undeclared == ("a b", "1st", "a=b", "other", "", "a\nb")

    def test_configuration_not_understood_leaves_it_to_terraform(self) -> None:
        given = definitions({"a": '["x"]', "b c": "y"}, Configuration(complete=False))
        assert given.text == 'a = ["x"]\n'
        assert given.undeclared == ("b c",)

    def test_secrets_are_the_values_of_secret_variables(self) -> None:
        variables = {
            "plain": Variable("plain"),
            "pin": Variable("pin", Kind.SEQUENCE, sensitive=True),
            "once": Variable("once", ephemeral=True),
        }
        ordered = {"plain": "no", "pin": '["1\\u00e9"]', "once": "x"}
        given = definitions(ordered, Configuration(variables=variables))
        assert given.secrets == ('["1\\u00e9"]', ["1é"], "x", "x")
        assert given.ephemeral
        assert not definitions({"pin": "[]"}, Configuration(variables=variables)).ephemeral


@pytest.fixture
def engine(tmp_path: Path, sandbox: Sandbox) -> Engine:
    return Engine(tmp_path, sandbox)


def order(**parameters: str) -> dict[str, Any]:
    return MESSAGE | {"parameters": [{"key": k, "value": v} for k, v in parameters.items()]}


class TestRun:
    def test_order_wins_over_what_the_artifact_brings_along(self, engine: Engine) -> None:
        """Behind a shell that drops variables, too."""
        engine.configure("variable a-b {}\noutput o {\n value = var.a-b\n}\n")
        (engine.directory / "terraform.tfvars").write_text('a-b = "artifact"\n')
        (engine.directory / "z.auto.tfvars").write_text('a-b = "artifact"\n')
        wrapper = Path(engine.wrapper('exec terraform "$@"'))
        wrapper.write_text(wrapper.read_text().replace("/bin/bash", "/bin/sh"))
        outcome = engine.run(
            *("--terraform", str(wrapper)), message=order(**{"a-b": "${ordered}"}), TF_VAR_a="x"
        )
        assert outcome.code == 0, outcome.stderr
        assert engine.outputs() == {"o": "${ordered}"}

    def test_ephemeral_variable_is_given_again_to_apply(self, engine: Engine) -> None:
        engine.configure(
            """
            variable "once" {
              type      = list(string)
              ephemeral = true
            }
            variable "more" {
              default = []
            }
            resource "terraform_data" "a" {
              provisioner "local-exec" {
                command     = "test \\"$ONCE\\" = 'it is'"
                environment = { ONCE = var.once[0] }
              }
            }
            output "more" {
              value = var.more
            }
            """
        )
        outcome = engine.run(message=order(once='["it is"]', more="[1]"))
        assert outcome.code == 0, outcome.stderr
        assert engine.outputs() == {"more": "[1]"}

    def test_parameters_that_are_not_declared_are_named_in_a_warning(self, engine: Engine) -> None:
        engine.configure('variable a {}\noutput "o" {\n value = var.a\n}\n')
        outcome = engine.run(message=order(a="1", b="secret", **{"c d": "x"}))
        assert outcome.code == 0
        warnings = [line for line in outcome.lines if "arning" in line]
        assert warnings == ["warning: no variable is declared for the parameters b, c d"]
        assert "secret" not in outcome.stderr

    def test_value_that_cannot_be_what_is_declared_ends_the_order(self, engine: Engine) -> None:
        engine.configure("variable a {\n type = number\n}\noutput o {\n value = var.a\n}\n")
        assert engine.run(message=order(a="abc")).code == 1
        assert engine.reason() == 'The parameter a is declared as number, which "abc" is not.'

    def test_leaf_of_a_secret_parameter_is_in_no_reason(self, engine: Engine) -> None:
        engine.configure(
            """
            variable "users" {
              type      = map(object({ pin = string }))
              sensitive = true
            }
            resource "terraform_data" "a" {
              provisioner "local-exec" {
                command = "exit 1 # ${var.users.a.pin}"
              }
            }
            """
        )
        outcome = engine.run(message=order(users=r'{"a": {"pin": "correct h\u00f6rse"}}'))
        assert outcome.code == 1
        assert "exit 1 # (sensitive value)" in engine.reason()
        assert "correct" not in engine.reason() + outcome.stderr

    def test_long_text_arrives_whole(self, engine: Engine) -> None:
        """More than one environment variable or argument can hold."""
        engine.configure("variable a {}\noutput o {\n value = length(var.a)\n}\n")
        assert engine.run(message=order(a="é" * 500_000)).code == 0
        assert engine.outputs() == {"o": "500000"}

    @pytest.mark.parametrize("is_opentofu", [True, False])
    def test_files_of_opentofu_count_where_the_program_is_that(
        self, engine: Engine, is_opentofu: bool
    ) -> None:
        """The real Terraform behind another name: it does not know the variable."""
        engine.configure('output "o" {\n value = 1\n}\n')
        (engine.directory / "more.tofu").write_text("variable a {}\n")
        other = '[ "$1" = version ] && echo OpenTofu v1.10.0 && exit\n' if is_opentofu else ""
        program = engine.wrapper(f'{other}exec terraform "$@"')
        outcome = engine.run("--terraform", program, message=order(a="x"))
        assert outcome.code == 0, outcome.stderr
        ours = "warning: no variable is declared for the parameter a" in outcome.lines
        theirs = "Value for undeclared variable" in outcome.stderr
        assert (ours, theirs) == (not is_opentofu, is_opentofu)

    def test_tags_that_the_artifact_sets_too_are_named_in_a_warning(self, engine: Engine) -> None:
        engine.configure(
            "locals {\n tags = { b = 1, a = 2, c = 3 }\n}\n"
            'provider "aws" {\n default_tags {\n  tags = local.tags\n }\n}\n' + ONE_RESOURCE
        )
        tags = [{"key": key, "value": "x"} for key in "bda"]
        program = engine.wrapper("exit 1")  # the AWS provider may not be there
        outcome = engine.run("--terraform", program, message=MESSAGE | {"tags": tags})
        assert "warning: the artifact sets tags of the order itself: a, b" in outcome.lines


class TestNothingToRun:
    """An update would destroy what is there."""

    @pytest.mark.parametrize("operation", ["PROVISION_PRODUCT", "UPDATE_PROVISIONED_PRODUCT"])
    @pytest.mark.parametrize("name", ["backend_override.tf", "variables.tf"])
    def test_settings_alone_are_no_product(self, engine: Engine, operation: str, name: str) -> None:
        (engine.directory / name).write_text("terraform {}\nvariable a {}\n")
        assert engine.run(message=MESSAGE | {"operation": operation}).code == 1
        assert engine.reason() == (
            f"The working directory {engine.directory} has nothing to run of its own."
        )

    def test_settings_alone_are_enough_to_terminate(self, engine: Engine) -> None:
        (engine.directory / "main.tf").write_text("terraform {}\n")
        assert engine.run(message=TERMINATE).code == 0
