"""`cloche completion`: the script that makes a shell ask this program what could come next."""

from __future__ import annotations

import click

from cloche.cli import render

VARIABLE = "_CLOCHE_COMPLETE"
#: the path follows the colon of BOX: without a space
_STAY_AT_COLON = """    [[ ${COMPREPLY-} == *: ]] && compopt -o nospace

    return 0
"""


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> int:
    """Print the script that completes commands, options and sandboxes in a shell.

    \b
    bash   cloche completion bash > ~/.local/share/bash-completion/completions/cloche
    zsh    cloche completion zsh > ~/.zfunc/_cloche    (with ~/.zfunc in fpath)
    fish   cloche completion fish > ~/.config/fish/completions/cloche.fish
    """
    from click.shell_completion import get_completion_class

    from cloche.cli.main import cli

    known = get_completion_class(shell)
    assert known is not None
    script = known(cli, {}, "cloche", VARIABLE)
    # click's own check of the version of bash would run a bash
    source = known.source_template % script.source_vars()
    render.write(source.replace("    return 0\n", _STAY_AT_COLON) if shell == "bash" else source)
    return 0
