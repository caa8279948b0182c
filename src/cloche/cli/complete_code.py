"""Whether what was typed so far is a whole piece of code, judged by the rules of its language. No I/O but bash's own
parser, which executes nothing."""

from __future__ import annotations

import codeop
import subprocess
import warnings

_OPENING = {"(": ")", "[": "]", "{": "}"}
_QUOTES = "'\"`"
#: a parser that does not come back has not understood
BASH_SECONDS = 2.0


def is_whole(language: str, code: str) -> bool:
    """False: another line belongs to it. What is wrong is whole: the interpreter says what is wrong with it."""
    if not code.strip():
        return True
    judge = {"python": _python, "javascript": _javascript, "bash": _bash}.get(language)
    return judge is None or judge(code)


def _python(code: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return codeop.compile_command(code, symbol="single") is not None
    except (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError):
        return True


def _javascript(code: str) -> bool:
    """Every bracket, string and comment that was opened is closed. (A pattern with a lone bracket misleads it.)"""
    waiting: list[str] = []
    quote, position = "", 0
    while position < len(code):
        letter = code[position]
        pair = code[position : position + 2]
        if quote in ("*/", "\n"):
            if code.startswith(quote, position):
                position += len(quote) - 1
                quote = ""
        elif letter == "\\":
            position += 1
        elif quote:
            quote = "" if letter == quote or (letter == "\n" and quote != "`") else quote
        elif pair in ("/*", "//"):
            quote = "*/" if pair == "/*" else "\n"
            position += 1
        elif letter in _QUOTES:
            quote = letter
        elif letter in _OPENING:
            waiting.append(_OPENING[letter])
        elif waiting and letter == waiting[-1]:
            waiting.pop()
        position += 1
    return not waiting and quote not in ("`", "*/")


def _bash(code: str) -> bool:
    if code.endswith("\\"):
        return False
    try:
        judged = subprocess.run(
            ["bash", "-n"], input=code.encode("utf-8", "surrogateescape") + b"\n", capture_output=True,
            timeout=BASH_SECONDS, check=False, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return True
    said = judged.stderr
    return b"unexpected EOF" not in said and b"unexpected end of file" not in said and b"here-document" not in said
