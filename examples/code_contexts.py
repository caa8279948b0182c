"""An analyst's session: state from cell to cell, values, an error that is shown to who wrote it, and a loop that is
stopped. The code could come from anybody: it runs in a sandbox."""

from cloche import Execution, Sandbox

CELLS = [
    "sales = {'north': [12, 18, 25], 'south': [9, 14]}",
    "for region, numbers in sales.items():\n    print(region, sum(numbers))",
    "import statistics\nstatistics.mean(n for numbers in sales.values() for n in numbers)",
    "sales['west'][0]",
    "while True: pass",
    "sorted(sales)",
]


def show(number: int, cell: Execution) -> None:
    print(f"[{number}] {cell.status}, {cell.wall_seconds:.3f} s")
    for part in (cell.stdout, cell.text, cell.error and cell.error.traceback):
        if part:
            print("    " + part.rstrip("\n").replace("\n", "\n    "))


if __name__ == "__main__":
    with Sandbox.create(ttl_seconds=600) as sandbox:
        for number, code in enumerate(CELLS, 1):
            show(number, sandbox.run_code(code, timeout_seconds=1))
