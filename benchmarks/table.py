"""A Markdown table of the benchmark's JSON lines, as gpu.sh leaves them in a folder.

    python benchmarks/table.py FOLDER > table.md

A file is called TYPE-SET-RUNG.jsonl, and RUNG is "chosen" where none was fixed.
Beside each lies what the program said; a line of it names the machine and burn's version.
"""

import json
import statistics
import sys
from pathlib import Path

ORDER = ["f32", "f16", "bf16", "chosen", "stepwise", "persistent", "standard", "published"]


def place(path):
    """Where a file comes in the table: by type, rung and set, the unknown last."""
    dtype, which, rung = path.stem.split("-", 2)
    known = [ORDER.index(word) if word in ORDER else len(ORDER) for word in (dtype, rung, which)]
    return known, path.name


def read(folder):
    """All rows, each with the rung that was asked for, and the machines' lines."""
    rows, machines = [], []
    for path in sorted(folder.glob("*-*-*.jsonl"), key=place):
        asked = path.stem.split("-", 2)[-1]
        rows += [{**json.loads(line), "asked": asked} for line in path.read_text().splitlines()]
        log = path.with_suffix(".log")
        said = log.read_text().splitlines() if log.exists() else []
        # Drivers may say something before; a run that ended early, nothing but its error.
        machines += [line for line in said if "; burn " in line][:1]
    return rows, list(dict.fromkeys(machines))


def table(head, rows):
    """Lines of a Markdown table, numbers to the right."""
    lines = [head, ["---:"] * len(head), *rows]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]


def groups(rows, *names):
    """Rows by the values of some fields, in the order in which they come first."""
    found = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    return found


def ours(rows):
    """Our milliseconds: each peer's pairs have timed us."""
    return f"{statistics.median(row['our_ms'] for row in rows):.3f}" if rows else "-"


def against(row):
    """A peer's milliseconds, and their ratio to ours with its interval."""
    return f"{row['peer_ms']:.3f} ({row['ratio']:.2f}, {row['low']:.2f} to {row['high']:.2f})"


def chosen(timed):
    """For each type: us and every peer, size by size."""
    lines = []
    for (dtype,), rows in groups(timed, "dtype").items():
        peers = list(groups(rows, "peer"))
        head = ["B", "T", "D", "H", "mode", "rung", "our ms", "% matmul", *(f"{peer} ms" for (peer,) in peers)]
        body = []
        for key, same in groups(rows, *"btdh", "mode").items():
            by_peer = {row["peer"]: against(row) for row in same}
            shares = [row["percent_of_matmul"] for row in same if row["percent_of_matmul"] is not None]
            share = f"{statistics.median(shares):.1f}" if shares else "-"
            cells = [by_peer.get(peer, "-") for (peer,) in peers]
            body.append([*key, same[0].get("rung", "-"), ours(same), share, *cells])
        lines += ["", f"## {dtype}", "", *table(head, body)]
    return lines


def rungs(timed):
    """Our milliseconds with each rung fixed, where any was."""
    asked = [name for (name,) in groups(timed, "asked") if name != "chosen"]
    if not asked:
        return []
    body = []
    for key, same in groups(timed, "dtype", *"btdh", "mode").items():
        by_rung = {name: ours(rows) for (name,), rows in groups(same, "asked").items()}
        took = next((row.get("rung", "-") for row in same if row["asked"] == "chosen"), "-")
        body.append([*key, took, by_rung.get("chosen", "-"), *(by_rung.get(name, "-") for name in asked)])
    head = ["type", "B", "T", "D", "H", "mode", "chosen", "chosen ms", *(f"{name} ms" for name in asked)]
    return ["", "## Rungs", "", *table(head, body)]


def means(rows):
    """Geometric means of the ratios over the sizes."""
    body = [
        [row["dtype"], row["mode"], row["peer"], row["sizes"], f"{row['ratio']:.2f}"]
        for row in rows
        if "summary" in row and row["asked"] == "chosen"
    ]
    head = ["type", "mode", "peer", "sizes", "ratio"]
    return ["", "## Geometric means", "", *table(head, body)] if body else []


def products(rows):
    """What each library reaches with large matrices, the median of the runs."""
    measured = [row for row in rows if "matmul" in row]
    body = [
        [*key, f"{statistics.median(row['gflops'] for row in same):.0f}"]
        for key, same in groups(measured, "dtype", "matmul", "width").items()
    ]
    return ["", "## Large products", "", *table(["type", "library", "width", "GFLOP/s"], body)] if body else []


def published(rows):
    """What others have published, each once."""
    others = groups((row for row in rows if "published" in row), "published")
    body = [
        [row["published"], row["dtype"], f"{row['forward_ms']:.1f}", f"{row['train_ms']:.1f}"]
        for row, *_ in others.values()
    ]
    if not body:
        return []
    first = next(iter(others.values()))[0]
    size = ",".join(str(first[axis]) for axis in "btdh")
    title = f"Published for {size} on an {first['device']}, for orientation"
    return ["", f"## {title}", "", *table(["", "type", "forward ms", "train ms"], body)]


def document(rows, machines):
    """The whole text."""
    timed = [row for row in rows if "our_ms" in row]
    places = groups((row for row in rows if "backend" in row), "backend", "device")
    devices = [f"{device} ({backend})" for backend, device in places] or ["no device: nothing was measured"]
    lines = [f"# LSTM on {', '.join(devices)}", ""]
    lines += [f"- {machine}" for machine in machines]
    lines += ["", "In brackets: the peer's time over ours (above 1 ours is faster), and an interval for it."]
    lines += chosen([row for row in timed if row["asked"] == "chosen"])
    lines += rungs(timed) + means(rows) + products(rows) + published(rows)
    return "\n".join(lines)


def main():
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit(f"expected one folder, found {sys.argv[1:]}")
    print(document(*read(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
