"""Many short programs of strangers, each in a sandbox of its own, at most eight at once."""

import asyncio
import time

from cloche import AsyncSandbox

PROGRAMS = {
    **{f"sum-{number}": f"print(sum(range({number * 1000})))" for number in range(20)},
    "crash": "raise ValueError('of no use')",
    "loop": "while True: pass",
    "greedy": "print('x' * 10_000_000)",
}
AT_ONCE = 8


async def run(name: str, program: str, free: asyncio.Semaphore) -> tuple[str, str]:
    async with free, await AsyncSandbox.create(pids=16, disk="16m", ttl_seconds=60) as sandbox:
        done = await sandbox.exec("python3", "-c", program, timeout_seconds=5, output_limit_bytes=1 << 20)
        if done.limit_hit:
            return name, f"stopped by its {done.limit_hit} limit"
        return name, done.stdout.strip() if done.ok else done.stderr.strip().splitlines()[-1]


async def main() -> None:
    begun, free = time.monotonic(), asyncio.Semaphore(AT_ONCE)
    results = await asyncio.gather(*(run(name, program, free) for name, program in PROGRAMS.items()))
    for name, result in results:
        print(f"{name:8} {result}")
    print(f"{len(results)} programs in {time.monotonic() - begun:.1f} s")


if __name__ == "__main__":
    asyncio.run(main())
