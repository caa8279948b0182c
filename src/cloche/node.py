"""The node process, and the only file that chooses implementations: `python -m cloche.node`.

Its life in order: settings, directory, lock, log, store, recovery, socket, ready - and backwards when it leaves.
Sandboxes outlive it."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import resource
import signal
import socket
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import uvloop

from cloche.api.app import create_app
from cloche.api.server import Listener
from cloche.egress.node_side.door_client import DoorClient
from cloche.egress.node_side.door_process import DoorSettings
from cloche.model.errors import AlreadyExistsError, ClocheError
from cloche.model.place import SOCKET_NAME
from cloche.noderun.control import Control
from cloche.noderun.engines import NodeEngines
from cloche.noderun.home import Home, why
from cloche.noderun.idle import Idleness
from cloche.noderun.log import NodeLog, start_log, stop_log
from cloche.noderun.ready import EXIT_ALREADY_RUNNING, EXIT_FAILED, EXIT_OK, Starter, detach
from cloche.noderun.second_socket import second_socket
from cloche.noderun.settings import Settings, read_settings
from cloche.noderun.watched_log import show_log
from cloche.service.pool import PoolSettings
from cloche.service.services import Services
from cloche.store.sqlite import SqliteStore

#: how long requests may take to finish when the node leaves
GRACE_SECONDS = 10.0
#: a client that connected just before the socket went away still gets its answer
LINGER_SECONDS = 0.05
DATABASE_NAME = "cloche.db"
log = logging.getLogger("cloche.node")


def main(arguments: list[str] | None = None) -> int:
    """Run until told to leave or idle. Exit status 3: another node serves the directory; 1: it could not start."""
    try:
        settings = read_settings(sys.argv[1:] if arguments is None else arguments, os.environ)
    except ClocheError as error:
        return _failed(Starter(None), error)
    starter = Starter(settings.ready_fd)
    if settings.detach:
        detach()
    try:
        return _run(settings, starter)
    except ClocheError as error:
        return _failed(starter, error)
    except OSError as error:
        return _failed(starter, why(error, settings.home))
    except Exception as error:
        return _failed(starter, ClocheError(f"the node crashed: {type(error).__name__}: {error}"))


def _run(settings: Settings, starter: Starter) -> int:
    os.umask(0o022)
    os.chdir("/")
    with Home(settings.home) as home:
        home.lock()
        _raise_open_files()
        _leave_no_core()
        faulthandler.enable()
        node_log = start_log(settings.home, settings.log_level, owns_stderr=settings.detach)
        if settings.foreground:
            show_log()
        try:
            return uvloop.run(_serve(settings, home, node_log, starter))
        except ClocheError as error:
            log.critical("failed", extra={"fields": {"code": error.code, "message": error.message}})
            raise
        except Exception as error:
            log.critical("crashed", exc_info=error)
            raise
        finally:
            home.remove_socket()
            stop_log(node_log)


async def _serve(settings: Settings, home: Home, node_log: NodeLog, starter: Starter) -> int:
    _watch_loop(settings.slow_callback_seconds)
    directory = Path(settings.home)
    engines = NodeEngines(directory, settings.engine)
    pool = PoolSettings(size=settings.pool_size, memory_mib=settings.pool_memory_mib)
    store = await SqliteStore.open(directory / DATABASE_NAME)
    services = Services(directory, store, engines, pool=pool, door=DoorClient(_door_settings(settings)))
    control = Control(settings.home, home.identity(), services, engines, node_log)
    _leave_on_signals(control, stop_sandboxes=settings.stop_sandboxes)
    try:
        for done in await services.recover():
            log.info("recovered", extra={"fields": {"what": done}})
        await _answer(settings, home, services, control, starter)
    finally:
        await services.close()
        await engines.close()
        log.info("left")
    return EXIT_OK


def _door_settings(settings: Settings) -> DoorSettings:
    return DoorSettings(home=settings.home, resolver=settings.resolver, upstream_ca=settings.upstream_ca,
                        ingress_port=settings.ingress_port)  # fmt: skip


async def _answer(settings: Settings, home: Home, services: Services, control: Control, starter: Starter) -> None:
    with second_socket(settings.also_listen) if settings.also_listen else nullcontext() as second:
        listening = [home.listen(), *([second] if second else [])]
        await _answer_at(listening, settings, home, services, control, starter)


async def _answer_at(
    listening: list[socket.socket], settings: Settings, home: Home, services: Services, control: Control,
    starter: Starter,
) -> None:  # fmt: skip
    idleness = Idleness(settings.idle_seconds, services.reaper.living)
    listener = Listener(create_app(services, control, idleness))
    for each in listening:
        await listener.start(each)
    starter.ready(f"{settings.home}/{SOCKET_NAME}")
    log.info("ready", extra={"fields": {"pid": os.getpid(), "engine": settings.engine}})
    # the first create finds the engines probed, or being probed
    probing = asyncio.ensure_future(control.health())
    filling = asyncio.ensure_future(services.pool.start())
    await _until_over(control, idleness)
    home.remove_socket()
    # half a probe would leave its box behind
    await asyncio.wait([probing, filling], timeout=GRACE_SECONDS)
    await asyncio.sleep(LINGER_SECONDS)
    if control.stop_sandboxes:
        await control.stop_all()
    await listener.stop(GRACE_SECONDS)


async def _until_over(control: Control, idleness: Idleness) -> None:
    idle = asyncio.ensure_future(idleness.until_idle())
    told = asyncio.ensure_future(control.closing())
    await asyncio.wait([idle, told], return_when=asyncio.FIRST_COMPLETED)
    log.info("leaving", extra={"fields": {"why": "told" if told.done() else "idle"}})
    for task in (idle, told):
        task.cancel()
    control.leave()


def _leave_on_signals(control: Control, *, stop_sandboxes: bool) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, partial(control.leave, stop_sandboxes=stop_sandboxes))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _watch_loop(slow_seconds: float | None) -> None:
    """Debugging: say which callbacks keep the loop from everybody else."""
    if slow_seconds is None:
        return
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = slow_seconds


def _raise_open_files() -> None:
    """Every stream costs two descriptors, and the usual soft limit is 1024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _leave_no_core() -> None:
    """Values of secrets are in its memory."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    # 1 is too little for a file and, unlike 0, keeps a core_pattern that pipes from getting all of it
    resource.setrlimit(resource.RLIMIT_CORE, (0 if most == 0 else 1, most))


def _failed(starter: Starter, error: ClocheError) -> int:
    starter.failed(error)
    remedy = f"  try: {error.remedy}\n" if error.remedy else ""
    sys.stderr.write(f"cloche node: {error.message}\n{remedy}")
    return EXIT_ALREADY_RUNNING if isinstance(error, AlreadyExistsError) else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
