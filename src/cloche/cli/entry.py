"""Where the program begins. Only `signal` is imported: until somebody handles Ctrl-C in order, it ends silently."""

import signal


def main() -> None:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from cloche.cli import main as program

    program.main()
