"""The mirror against rsync, step by step, between two namespaces over a veth pair.

    tests/bench mirror [--scale PERCENT] [--rate RATE]... [--runs N] [--binary PATH] [--growth N,N,..] [--only WORD]

Both copy the same seeded trees in tmpfs, in turn, and after every step the copy is compared with its source, exactly.
Printed as tables for docs/performance.md: wall time, CPU of both ends, bytes on the link both ways, largest resident
memory of both ends; medians if there are several runs. Without options it takes less than 15 minutes; `--scale 5` takes
a minute and shows that everything works. Needs root, rsync, tc and 12 GB of memory.
"""
import argparse, os, shutil, statistics, subprocess, sys, tempfile, time

import growth, loads, sides, trees
from network import Network, machine_busy, run

GOALS = {  # seconds at 1 Gbit/s, unlimited; MB on the link. At full scale.
    "first copy, 1.28 GB": (11.0, 2.2, None),
    "4 KiB inserted into 1 GiB": (1.2, 1.2, 0.4),
    "1000 pages of 4 KiB overwritten in 1 GiB": (1.2, 1.2, 7),
    "directory of 200 MiB renamed": (0.1, 0.1, 0.1),
    "200 MiB file copied": (0.3, 0.3, 0.1),
    "1 MiB appended to 500 MiB": (0.2, 0.2, 1.2),
    "100,000 mails, first copy": (4.5, 3.5, None),
    "500 new, 1000 renamed, 300 deleted mails": (0.3, 0.3, 3),
    "nothing changed, 100,000 files": (0.02, 0.02, 0.01),
    "nothing changed, 100,000 files, by scan": (0.4, 0.4, None),
}
RESIDENT = 16  # MiB at either end


def options():
    parser = argparse.ArgumentParser(prog="tests/bench mirror", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--scale", type=float, default=100, help="size of the workloads in percent")
    add("--rate", action="append", help="a rate of tc's, or unlimited; by default 1gbit and unlimited")
    add("--runs", type=int, default=1, help="the whole so many times, medians are printed")
    add("--binary", default="target/x86_64-unknown-linux-musl/release/twobox")
    add("--growth", default="10000,100000,1000000", help="numbers of files of the growth table; empty: none")
    add("--only", default="", help="only loads whose name has this word in it; growth: the growth table")
    chosen = parser.parse_args()
    chosen.rate = chosen.rate or ["1gbit", "unlimited"]
    chosen.binary = os.path.abspath(chosen.binary)
    if not os.path.exists(chosen.binary):
        sys.exit(f"{chosen.binary} is missing: cargo build --release --target x86_64-unknown-linux-musl")
    return chosen


def measure(side, step, network):
    """One step with one of the two: its figures."""
    if step.change:
        if not side.exact:
            time.sleep(1)  # or it takes a file of the same size that changed in the same second for the same
        step.change(side.tree("a"))
    cpu, link, busy, begin = side.cpu(), network.bytes(), machine_busy(), time.monotonic()
    side.copy(step)
    wall = time.monotonic() - begin
    cpu, busy = side.cpu() - cpu, machine_busy() - busy
    difference = trees.difference(side.tree("a"), side.tree("b"), side.exact)
    if difference:
        sys.exit(f"{side.name}: the trees differ after {step.name}: {difference}")
    a, b = side.resident()
    others = max(0.0, busy - cpu) / wall / os.cpu_count()
    return {"wall": wall, "cpu": cpu, "mb": (network.bytes() - link) / 1e6, "a": a, "b": b, "others": others}


def run_load(load, work, network, binary):
    """All steps of one load with both: a list of (step, figures of rsync, figures of ours)."""
    seed = os.path.join(work, "seed")
    os.makedirs(seed)
    load.make(seed)
    both = [sides.Rsync(work, seed, network), sides.Ours(work, seed, network, binary)]
    shutil.rmtree(seed)
    rows = []
    try:
        for step in load.steps:
            figures = [measure(side, step, network) for side in both]
            say(f"{step.name:42}" + "".join(f" {f['wall']:8.3f} s {f['cpu']:7.3f} s CPU {f['mb']:9.3f} MB "
                                            f"{f['a']:5.1f} + {f['b']:5.1f} MiB" for f in figures))
            if step.shown:
                rows.append((step.name, *figures))
    finally:
        for side in both:
            side.stop()
            shutil.rmtree(side.home)
    return rows


def say(text):
    print(text, file=sys.stderr, flush=True)


def median(runs):
    """Rows of several runs to one row each."""
    merged = []
    for rows in zip(*runs):
        both = [{key: statistics.median(row[side][key] for row in rows) for key in rows[0][side]} for side in (1, 2)]
        merged.append((rows[0][0], *both))
    return merged


def misses(name, theirs, ours, rate, full):
    """What of a row misses its goal."""
    wall, unlimited, mb = GOALS.get(name, (None, None, None)) if full else (None, None, None)
    wall = unlimited if rate == "unlimited" else wall
    found = []
    if wall is not None and ours["wall"] > wall:
        found.append(f"wall {wall:g} s")
    if mb is not None and ours["mb"] > mb:
        found.append(f"{mb:g} MB")
    if ours["cpu"] > theirs["cpu"] + 0.005:
        found.append("CPU")
    if max(ours["a"], ours["b"]) > RESIDENT:
        found.append(f"{RESIDENT} MiB")
    return ", ".join(found)


def table(rate, rows, full):
    print(f"\nLink: {rate}. Each cell: rsync / mirror.\n")
    print("| step | wall s | CPU s, both ends | MB on the link | RSS MiB, sender + receiver | times faster | misses |")
    print("|---|---|---|---|---|---|---|")
    for name, theirs, ours in rows:
        cells = [" / ".join(f"{f[key]:.{digits}f}" for f in (theirs, ours))
                 for key, digits in (("wall", 3), ("cpu", 2), ("mb", 2))]
        cells.append(" / ".join(f"{f['a']:.1f} + {f['b']:.1f}" for f in (theirs, ours)))
        cells.append(f"{theirs['wall'] / ours['wall']:.1f}")
        print(f"| {name} | " + " | ".join(cells) + f" | {misses(name, theirs, ours, rate, full)} |", flush=True)


def main():
    chosen = options()
    work = tempfile.mkdtemp(prefix="tbmr-bench-")
    run("mount", "-t", "tmpfs", "tbmr", work)
    others = []
    try:
        load_before = os.getloadavg()[0]
        for rate in chosen.rate:
            say(f"link {rate}")
            with Network(rate) as network:
                wanted = [load for load in loads.all_of(chosen.scale / 100) if chosen.only in load.name]
                runs = [[row for load in wanted for row in run_load(load, work, network, chosen.binary)]
                        for _ in range(chosen.runs)]
            others += [figures["others"] for rows in runs for row in rows for figures in row[1:]]
            table(rate, median(runs), chosen.scale == 100)
        if chosen.growth and chosen.only in "growth":
            counts = [max(100, int(int(n) * chosen.scale / 100)) for n in chosen.growth.split(",")]
            with Network("unlimited") as network:
                growth.table(counts, work, network, chosen.binary)
        version = subprocess.check_output(["rsync", "--version"], text=True).split()[2]
        print(f"\nrsync {version}, scale {chosen.scale:g} %, runs {chosen.runs}; Linux {os.uname().release.split('-')[0]}, "
              f"{os.cpu_count()} cores, load {load_before:.1f} before the start; other work took "
              f"{100 * statistics.mean(others or [0]):.0f} % of the machine during the steps")
    finally:
        subprocess.run(["umount", "--recursive", work])
        os.rmdir(work)


main()
