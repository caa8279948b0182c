"""Where the program begins. Only `signal` and `gc` are imported: until somebody handles Ctrl-C in order, it ends
silently."""

import gc
import signal


def main() -> None:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # what a short command imports is no garbage: looking for some in it costs a twentieth of `cloche run`
    gc.set_threshold(50_000, 20, 50)
    from cloche.cli import main as program

    program.main()
