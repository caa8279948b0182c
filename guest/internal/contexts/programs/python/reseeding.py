"""New seeds after a restore: every copy of this process's memory has the generators as they were.

Only what the modules keep for everybody. Generators that the code has made itself (random.Random(), numpy's
default_rng(), other libraries') are its own. Nothing is imported that the code did not import."""


def reseed(number=None, frame=None):
    """The guest's SIGURG: it comes between two steps of code that runs, or while this program waits."""
    state.shield += 1
    try:
        for name, step in RESEEDING:
            module = sys.modules.get(name)
            if module is not None:
                try:
                    step(module)
                except Exception:  # the code has changed the module: what it put there is its own
                    pass
    finally:
        state.shield -= 1
    release()


def reseed_tempfile(module):
    module._name_sequence = None  # made anew when the next name is wanted


def reseed_uuid(module):
    module._generate_time_safe = None  # libuuid keeps a node and a clock sequence that nothing can change
    module._node = int.from_bytes(os.urandom(6), "big") | 1 << 40  # of a random node, as RFC 4122 marks it
    module._last_timestamp = None


def reseed_multiprocessing(module):
    if not module._children:  # those know the old key
        module.current_process().authkey = os.urandom(32)


RESEEDING = (
    ("random", lambda module: module.seed()),
    ("numpy.random", lambda module: module.seed()),
    ("_ssl", lambda module: module.RAND_add(os.urandom(64), 64.0)),
    ("tempfile", reseed_tempfile),
    ("uuid", reseed_uuid),
    ("multiprocessing.process", reseed_multiprocessing),
)
