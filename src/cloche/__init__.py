"""Cloche runs code that nobody has reviewed, under glass.

The public names of the SDK, imported on first use: `import cloche` itself costs next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers know the name; importing `typing` would be most of the cost

if TYPE_CHECKING:
    from cloche._version import __version__ as __version__
    from cloche.model.code import CodeEnded as CodeEnded
    from cloche.model.code import CodeError as CodeError
    from cloche.model.code import CodeGap as CodeGap
    from cloche.model.code import CodeOutput as CodeOutput
    from cloche.model.code import CodeResult as CodeResult
    from cloche.model.code import ContextInfo as ContextInfo
    from cloche.model.egress import AcceptRule as AcceptRule
    from cloche.model.egress import Ask as Ask
    from cloche.model.egress import AuditLine as AuditLine
    from cloche.model.egress import EgressBudget as EgressBudget
    from cloche.model.egress import EgressPolicy as EgressPolicy
    from cloche.model.egress import EgressRule as EgressRule
    from cloche.model.egress import Publication as Publication
    from cloche.model.egress import Secret as Secret
    from cloche.model.egress import SecretSource as SecretSource
    from cloche.model.errors import AlreadyExistsError as AlreadyExistsError
    from cloche.model.errors import ClocheError as ClocheError
    from cloche.model.errors import EngineError as EngineError
    from cloche.model.errors import GuestError as GuestError
    from cloche.model.errors import InterpreterMissingError as InterpreterMissingError
    from cloche.model.errors import InvalidError as InvalidError
    from cloche.model.errors import LimitHitError as LimitHitError
    from cloche.model.errors import LimitUnenforceableError as LimitUnenforceableError
    from cloche.model.errors import NeedsSubuidError as NeedsSubuidError
    from cloche.model.errors import NodeUnreachableError as NodeUnreachableError
    from cloche.model.errors import NoSpaceError as NoSpaceError
    from cloche.model.errors import NotFoundError as NotFoundError
    from cloche.model.errors import PermissionDeniedError as PermissionDeniedError
    from cloche.model.errors import SandboxDeadError as SandboxDeadError
    from cloche.model.errors import TimedOutError as TimedOutError
    from cloche.model.errors import UnavailableError as UnavailableError
    from cloche.model.errors import VersionMismatchError as VersionMismatchError
    from cloche.model.errors import WrongStateError as WrongStateError
    from cloche.model.events import Event as Event
    from cloche.model.events import SandboxStats as SandboxStats
    from cloche.model.file import FileInfo as FileInfo
    from cloche.model.file import WatchEvent as WatchEvent
    from cloche.model.pool import PoolInfo as PoolInfo
    from cloche.model.pool import PoolReport as PoolReport
    from cloche.model.process import ProcessInfo as ProcessInfo
    from cloche.model.process import PtySize as PtySize
    from cloche.model.process import Usage as Usage
    from cloche.model.sandbox import Mount as Mount
    from cloche.sdk._async.contexts import AsyncContext as AsyncContext
    from cloche.sdk._async.executions import AsyncCodeStream as AsyncCodeStream
    from cloche.sdk._async.forwarding import AsyncForward as AsyncForward
    from cloche.sdk._async.node import AsyncNode as AsyncNode
    from cloche.sdk._async.process import AsyncProcess as AsyncProcess
    from cloche.sdk._async.sandbox import AsyncSandbox as AsyncSandbox
    from cloche.sdk._async.tunnel import AsyncTunnel as AsyncTunnel
    from cloche.sdk._sync.contexts import Context as Context
    from cloche.sdk._sync.executions import CodeStream as CodeStream
    from cloche.sdk._sync.forwarding import Forward as Forward
    from cloche.sdk._sync.node import Node as Node
    from cloche.sdk._sync.process import Process as Process
    from cloche.sdk._sync.sandbox import Sandbox as Sandbox
    from cloche.sdk._sync.tunnel import Tunnel as Tunnel
    from cloche.sdk.code import CodeFailedError as CodeFailedError
    from cloche.sdk.code import CodeFailure as CodeFailure
    from cloche.sdk.code import Execution as Execution
    from cloche.sdk.code import Result as Result
    from cloche.sdk.egress_values import EgressInfo as EgressInfo
    from cloche.sdk.egress_values import SuggestionInfo as SuggestionInfo
    from cloche.sdk.values import CommandFailedError as CommandFailedError
    from cloche.sdk.values import CopyReport as CopyReport
    from cloche.sdk.values import ExecResult as ExecResult
    from cloche.sdk.values import Exited as Exited
    from cloche.sdk.values import Gap as Gap
    from cloche.sdk.values import NodeUse as NodeUse
    from cloche.sdk.values import Output as Output
    from cloche.sdk.values import SandboxInfo as SandboxInfo
    from cloche.sdk.values import SnapshotInfo as SnapshotInfo
    from cloche.sdk.values import TemplateInfo as TemplateInfo

_ERRORS = (
    "AlreadyExistsError",
    "ClocheError",
    "EngineError",
    "GuestError",
    "InterpreterMissingError",
    "InvalidError",
    "LimitHitError",
    "LimitUnenforceableError",
    "NeedsSubuidError",
    "NoSpaceError",
    "NodeUnreachableError",
    "NotFoundError",
    "PermissionDeniedError",
    "SandboxDeadError",
    "TimedOutError",
    "UnavailableError",
    "VersionMismatchError",
    "WrongStateError",
)
_HOMES: dict[str, str] = {
    **dict.fromkeys(_ERRORS, "cloche.model.errors"),
    **dict.fromkeys(
        ("CommandFailedError", "CopyReport", "ExecResult", "Exited", "Gap", "Output", "SandboxInfo", "SnapshotInfo"),
        "cloche.sdk.values",
    ),
    **dict.fromkeys(("CodeFailedError", "CodeFailure", "Execution", "Result"), "cloche.sdk.code"),
    **dict.fromkeys(
        ("CodeEnded", "CodeError", "CodeGap", "CodeOutput", "CodeResult", "ContextInfo"), "cloche.model.code"
    ),
    **dict.fromkeys(
        (
            "AcceptRule",
            "Ask",
            "AuditLine",
            "EgressBudget",
            "EgressPolicy",
            "EgressRule",
            "Publication",
            "Secret",
            "SecretSource",
        ),
        "cloche.model.egress",
    ),
    **dict.fromkeys(("EgressInfo", "SuggestionInfo"), "cloche.sdk.egress_values"),
    **dict.fromkeys(("PoolInfo", "PoolReport"), "cloche.model.pool"),
    "TemplateInfo": "cloche.sdk.values",
    **dict.fromkeys(("ProcessInfo", "PtySize", "Usage"), "cloche.model.process"),
    **dict.fromkeys(("FileInfo", "WatchEvent"), "cloche.model.file"),
    **dict.fromkeys(("Event", "SandboxStats"), "cloche.model.events"),
    "NodeUse": "cloche.sdk.values",
    "Mount": "cloche.model.sandbox",
    "AsyncCodeStream": "cloche.sdk._async.executions",
    "AsyncContext": "cloche.sdk._async.contexts",
    "AsyncForward": "cloche.sdk._async.forwarding",
    "AsyncNode": "cloche.sdk._async.node",
    "AsyncProcess": "cloche.sdk._async.process",
    "AsyncSandbox": "cloche.sdk._async.sandbox",
    "AsyncTunnel": "cloche.sdk._async.tunnel",
    "CodeStream": "cloche.sdk._sync.executions",
    "Context": "cloche.sdk._sync.contexts",
    "Forward": "cloche.sdk._sync.forwarding",
    "Node": "cloche.sdk._sync.node",
    "Process": "cloche.sdk._sync.process",
    "Sandbox": "cloche.sdk._sync.sandbox",
    "Tunnel": "cloche.sdk._sync.tunnel",
    "__version__": "cloche._version",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'cloche' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
