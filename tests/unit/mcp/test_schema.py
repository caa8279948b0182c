"""Tools describe themselves in valid schemas, and arguments are checked by what the schema says."""

import jsonschema
import pytest

from cloche.mcp import answer, schema
from cloche.mcp.settings import Settings
from cloche.mcp.tools.commands import CommandArguments
from cloche.mcp.tools.sandboxes import RemoveArguments
from cloche.mcp.tools.table import BY_NAME, TOOLS
from cloche.model.errors import InvalidError, NotFoundError

CODE_AND_FILES = ("execute_python_code", "install_package", "run_command", "read_file", "write_file", "list_files")
SANDBOXES = ("create_sandbox", "list_sandboxes", "remove_sandbox")


def test_the_tools():
    assert sorted(BY_NAME) == sorted(CODE_AND_FILES + SANDBOXES)
    assert len(TOOLS) == len(BY_NAME)


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_a_tool_tells_all_that_a_client_wants_to_know(tool):
    shown = tool.on_wire(Settings())
    for described in (shown.input_schema, shown.output_schema):
        assert described["type"] == "object"
        jsonschema.Draft202012Validator.check_schema(described)
    assert all("description" in repr(found) for found in shown.input_schema.get("properties", {}).values())
    assert len(shown.description) > 40
    hints = shown.annotations
    assert hints.open_world_hint is False
    assert hints.read_only_hint is (tool.name in ("list_sandboxes", "read_file", "list_files"))
    assert not (hints.read_only_hint and hints.destructive_hint)


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_an_empty_result_and_an_error_fit_the_schema_of_every_tool(tool):
    described = tool.on_wire(Settings()).output_schema
    jsonschema.validate(answer.failure(NotFoundError("gone", remedy="look")).structured_content, described)
    jsonschema.validate(answer.result(answer.Reply(tool.outcome(), "")).structured_content, described)


def test_numbers_may_be_written_as_text():
    assert schema.read({"command": "ls", "timeout": "5"}, CommandArguments).timeout == 5.0


@pytest.mark.parametrize("name", ["id", "sandbox", "sandbox_id"])
def test_a_sandbox_may_be_named_in_three_ways(name):
    assert schema.read({name: "x", "force": "true"}, RemoveArguments) == RemoveArguments(sandbox_id="x", force=True)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, None),
        ({"command": 1}, "command"),
        ({"command": ""}, "command"),
        ({"command": "x" * 100_001}, "command"),
        ({"command": "ls", "timeout": 0}, "timeout"),
        ({"command": "ls", "timeout": 1e9}, "timeout"),
        ({"command": "ls", "timeout": "soon"}, "timeout"),
        ({"command": "ls", "env": {"A": 1}}, "env[...]"),
        ({"command": "ls", "nonsense": 1}, None),
        ({"command": ["ls"]}, "command"),
    ],
)
def test_wrong_arguments_are_named(given, field):
    with pytest.raises(InvalidError) as caught:
        schema.read(given, CommandArguments)
    assert caught.value.details.get("field") == field
    assert "the arguments are command, sandbox_id" in caught.value.remedy
