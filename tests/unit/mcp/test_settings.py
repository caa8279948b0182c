"""OMCP's settings go on working, and a file of a stranger says no more than they could."""

import pytest

from cloche.mcp import settings
from cloche.model.errors import InvalidError


def test_the_defaults_are_those_of_omcp():
    found = settings.read({})
    assert (found.sandbox_timeout_seconds, found.max_sandboxes, found.log_level) == (300.0, 10, "INFO")
    assert (found.keep, found.scope, found.notes) == (False, "own", [])


def test_the_environment_wins_over_the_file():
    found = settings.read({"SANDBOX_TIMEOUT": "60"}, "SANDBOX_TIMEOUT=10\nMAX_SANDBOXES=3\n")
    assert (found.sandbox_timeout_seconds, found.max_sandboxes) == (60.0, 3)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=1", "1"),
        ("export A=1", "1"),
        (" A = 1 ", "1"),
        ("A='x # y'", "x # y"),
        ('A="x"', "x"),
        ("A=x # why", "x"),
        ("A=", ""),
        ("A='", "'"),
    ],
)
def test_lines_of_a_file(line, value):
    assert settings.parse_dotenv(f"# A=0\n\n{line}\nnonsense\n") == {"A": value}


def test_a_file_cannot_say_what_omcp_did_not_know():
    found = settings.read({}, "CLOCHE_MCP_SCOPE=all\nCLOCHE_MCP_KEEP=true\nCLOCHE_HOME=/x\n")
    assert (found.scope, found.keep) == ("own", False)


@pytest.mark.parametrize("name", ["SANDBOX_TIMEOUT", "MAX_SANDBOXES"])
@pytest.mark.parametrize("value", ["x", "0", "-1", "nan", "inf", "1e99", "5 minutes"])
def test_a_number_that_is_none_is_refused_by_name(name, value):
    with pytest.raises(InvalidError, match=name):
        settings.read({name: value})


@pytest.mark.parametrize("name", ["CLOCHE_MCP_SCOPE", "CLOCHE_MCP_KEEP"])
def test_words_that_nobody_knows_are_refused_by_name(name):
    with pytest.raises(InvalidError, match=name):
        settings.read({name: "maybe"})


@pytest.mark.parametrize(
    ("given", "level", "notes"),
    [
        ({"DEBUG": "true"}, "DEBUG", 0),
        ({"DEBUG": "app:*"}, "INFO", 0),
        ({"LOG_LEVEL": "warning"}, "WARNING", 0),
        ({"LOG_LEVEL": "chatty"}, "INFO", 1),
        ({"DEBUG": "false", "LOG_LEVEL": "ERROR"}, "ERROR", 0),
    ],
)
def test_log_levels_of_other_programs_do_no_harm(given, level, notes):
    found = settings.read(given)
    assert (found.log_level, len(found.notes)) == (level, notes)


@pytest.mark.parametrize("name", ["DOCKER_IMAGE", "SANDBOX_BASE_URL"])
def test_what_has_no_effect_is_said(name):
    assert name in settings.read({}, f"{name}=x").notes[0]
