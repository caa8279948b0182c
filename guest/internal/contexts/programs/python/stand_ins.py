"""What the code finds in place of what cannot work here: a keyboard, windows with figures."""


def no_getpass(prompt="Password: ", stream=None, **rest):
    no_input(prompt)


def adapt_getpass(module):
    module.getpass = no_getpass


def no_input(prompt="", *rest):
    """Replaces input()."""
    raise EOFError("input() is not available here: code in a context has no keyboard. Put the value into the code.")


ADAPTED = {"matplotlib.pyplot": adapt_pyplot, "getpass": adapt_getpass}


class Watcher:
    """Sees a module being imported for the first time, and adapts it."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in ADAPTED:
            return None
        for finder in sys.meta_path:
            if finder is Watcher or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                wrap(spec.loader, ADAPTED[name])
                return spec
        return None


def wrap(loader, adapt):
    original = loader.exec_module

    def exec_module(module):
        original(module)
        adapt(module)

    try:
        loader.exec_module = exec_module
    except AttributeError:
        pass
