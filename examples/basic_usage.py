"""The first five minutes: run code, keep files, follow a process, hit a limit."""

from cloche import Exited, Output, Sandbox


def main() -> None:
    with Sandbox.create(labels={"example": "basic"}, ttl_seconds=600) as sandbox:
        done = sandbox.exec("python3", "-c", "print(6 * 7)")
        print("exit code", done.exit_code, "output", done.stdout.strip(), "wall", f"{done.usage.wall_seconds:.3f} s")

        sandbox.files.write("notes/a.txt", "one\ntwo\n")
        print("lines:", sandbox.exec("wc", "-l", "notes/a.txt").stdout.strip())
        for info in sandbox.files.list("notes"):
            print(info.type, info.name, info.size)

        process = sandbox.spawn("sh", "-c", "for n in 1 2 3; do echo step $n; done")
        for event in process.output():
            if isinstance(event, Output):
                print(event.data.decode(), end="")
            elif isinstance(event, Exited):
                print("ended with", event.info.exit_code)

        slow = sandbox.exec("sleep", "60", timeout_seconds=0.5)
        print("timeout:", slow.exit_code, slow.limit_hit)

        missing = sandbox.exec("no-such-program")
        print("missing:", missing.exit_code, missing.error)


if __name__ == "__main__":
    main()
