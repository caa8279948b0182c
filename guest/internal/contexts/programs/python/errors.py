"""Exceptions as the guest is told of them: without a line of this program."""


def message_of(error):
    try:
        if isinstance(error, SystemExit) and error.code is None:
            return ""
        return str(error)
    except Exception as other:
        return "<its message cannot be made: %s>" % name_of(type(other))


def own_lines(traceback):
    """The traceback from the code's first line on; None when it has none."""
    while traceback is not None and not traceback.tb_frame.f_code.co_filename.startswith("<cell "):
        traceback = traceback.tb_next
    return traceback


def own_part(traceback):
    """The same without what belongs to this program; what never was in the code keeps the rest."""
    start = own_lines(traceback)
    if start is None:
        start = traceback
        while start is not None and start.tb_frame.f_code.co_filename == "<cloche>":
            start = start.tb_next
    part = start
    while part is not None:
        while part.tb_next is not None and part.tb_next.tb_frame.f_code.co_filename == "<cloche>":
            part.tb_next = part.tb_next.tb_next
        part = part.tb_next
    return start


def trim(error):
    """Cut this program out of an exception and of all that it names."""
    seen, left = set(), [error]
    while left:
        error = left.pop()
        if not isinstance(error, BaseException) or id(error) in seen:
            continue
        seen.add(id(error))
        error.__traceback__ = own_part(error.__traceback__)
        left += (error.__cause__, error.__context__)
        inner = getattr(error, "exceptions", None)  # of a group
        if isinstance(inner, tuple):
            left += inner


def format_error(error):
    try:
        trim(error)
        return "".join(tracing.format_exception(type(error), error, error.__traceback__))
    except BaseException:
        return "%s: %s\n(its traceback cannot be made)\n" % (name_of(type(error)), message_of(error))


def problem(error):
    """The frame of an exception. Making it runs its own methods, which may raise, loop or print."""
    made = []

    def make():
        made.append(name_of(type(error)))
        made.append(message_of(error))
        made.append(format_error(error))

    guarded(make)
    made += [""] * (3 - len(made))
    limits = (1 << 10, 1 << 20, 2 << 20)
    return frame(b"x", fields([clipped(raw(text), most) for text, most in zip(made, limits)]))


def clipped(data, most):
    return data if len(data) <= most else data[: most // 2] + b" ... " + data[-most // 2 :]
