"""Help texts are complete and in one style, and failures of the command line are told so that they can be mended."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import click
import pytest

from cloche.cli import failure
from cloche.cli.commands import code, cp
from cloche.cli.main import COMMANDS, cli
from cloche.model.errors import InvalidError


def commands() -> Iterator[tuple[str, click.Command]]:
    for name in COMMANDS:
        command = import_module(f"cloche.cli.commands.{name}").command
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {part}", each) for part, each in command.commands.items())


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=lambda value: value if type(value) is str else "")
def test_every_option_is_told_and_says_what_it_takes(name: str, command: click.Command) -> None:
    context = click.Context(command, info_name=f"cloche {name}")
    assert (command.help or "").splitlines()[0].split(".")[0]
    for option in command.params:
        if isinstance(option, click.Option):
            assert (option.help or "").endswith((".", ".)", "status 124).")), option.opts
            assert option.is_flag or not {"TEXT", "INTEGER", "FLOAT"} & set(option.make_metavar(context).split()), (
                option.opts
            )


@pytest.mark.parametrize("argv", [[], ["node"], ["template"]])
def test_a_group_without_a_command_shows_its_help(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(click.exceptions.NoArgsIsHelpError) as raised:
        cli.main(argv, standalone_mode=False, prog_name="cloche")
    assert failure.report(raised.value) == 125
    told = capsys.readouterr().err
    assert told.startswith("Usage: cloche") and "\nCommands:\n" in told and "\\x0a" not in told


def test_a_missing_argument_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(click.ClickException) as raised:
        cli.main(["completion"], standalone_mode=False, prog_name="cloche")
    failure.report(raised.value)
    first, remedy = capsys.readouterr().err.splitlines()
    assert first.endswith("Choose from: bash, zsh, fish") and remedy == "  try: cloche completion --help"


def test_a_limit_is_told_with_its_flag(capsys: pytest.CaptureFixture[str]) -> None:
    failure.report(InvalidError("limits.pids must be from 4 to 4194304, not 1", field="limits.pids"))
    assert capsys.readouterr().err.endswith("\n  try: --pids 256\n")


@pytest.mark.parametrize(("refused", "last"), [(20, "left out 19:"), (23, "left out 3 more")])
def test_only_some_of_what_a_copy_left_out_is_told(refused: int, last: str, capsys: pytest.CaptureFixture[str]) -> None:
    cp._tell([(str(number), "a device") for number in range(refused)])
    told = capsys.readouterr().err.splitlines()
    assert len(told) == min(refused, 21) and last in told[-1]


@pytest.mark.parametrize("option", [["--memory", "1g"], ["--keep"], ["--image", "x"], ["--template", "t"]])
def test_a_flag_of_a_new_sandbox_is_refused_for_one_that_is_there(option: list[str]) -> None:
    with pytest.raises(InvalidError, match="BOX is there already"):
        code.command.main(["box", "-c", "1", *option], standalone_mode=False)
