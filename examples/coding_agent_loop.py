"""A coding agent: a model writes a program, the sandbox runs its tests, the model sees what failed and tries again.

The model here is a script, so that the example runs offline; replace `ScriptedModel` by a call to yours. Nothing that
it writes ever runs outside the sandbox.
"""

from dataclasses import dataclass, field
from typing import Protocol

from cloche import ExecResult, Sandbox

TASK = "Write fizz(n): 'Fizz' for multiples of 3, 'Buzz' of 5, 'FizzBuzz' of both, else the number as text."
TESTS = """
from solution import fizz
assert [fizz(n) for n in (1, 3, 5, 15)] == ["1", "Fizz", "Buzz", "FizzBuzz"], [fizz(n) for n in (1, 3, 5, 15)]
print("all tests passed")
"""


class Model(Protocol):
    def propose(self, task: str, feedback: str | None) -> str:
        """The source of a program; `feedback` is what the last one printed when it failed."""


@dataclass
class ScriptedModel:
    """Stands in for a model: wrong first, right when it is told what went wrong."""

    answers: list[str] = field(
        default_factory=lambda: [
            "def fizz(n):\n    return 'Fizz' if n % 3 == 0 else 'Buzz' if n % 5 == 0 else str(n)\n",
            "def fizz(n):\n    return ('Fizz' * (n % 3 == 0) + 'Buzz' * (n % 5 == 0)) or str(n)\n",
        ]
    )

    def propose(self, task: str, feedback: str | None) -> str:
        return self.answers.pop(0)


def attempt(sandbox: Sandbox, program: str) -> ExecResult:
    sandbox.files.write("work/solution.py", program)
    return sandbox.exec(
        "python3", "test_solution.py", cwd="/home/user/work", timeout_seconds=10, output_limit_bytes=1 << 20
    )


def solve(model: Model, attempts: int = 5) -> str:
    feedback = None
    with Sandbox.create(pids=64, labels={"example": "agent"}, ttl_seconds=600) as sandbox:
        sandbox.files.write("work/test_solution.py", TESTS)
        for number in range(1, attempts + 1):
            program = model.propose(TASK, feedback)
            result = attempt(sandbox, program)
            print(f"attempt {number}: exit code {result.exit_code}, {result.usage.cpu_seconds:.2f} s of CPU")
            if result.ok:
                return program
            feedback = result.stderr or f"stopped by its {result.limit_hit} limit"
    raise SystemExit("no attempt passed")


if __name__ == "__main__":
    print(solve(ScriptedModel()))
