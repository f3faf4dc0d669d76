"""How the mirror's cost grows with the number of files."""
import os, shutil, time

import loads, sides, trees

FOLDER = 1000  # files in one folder


def make(root, count):
    for n in range(count):
        if n % FOLDER == 0:
            folder = f"{root}/{n // FOLDER:04}"
            os.mkdir(folder)
        with open(f"{folder}/{n % FOLDER:04}.txt", "wb") as f:
            f.write(b"%08d" % n * 12)


def timed(side, step, network):
    cpu, link, begin = side.cpu(), network.bytes(), time.monotonic()
    side.copy(step)
    wall = time.monotonic() - begin
    return f"{wall:.3f}", f"{side.cpu() - cpu:.3f}", f"{(network.bytes() - link) / 1000:.1f}"


def table(counts, work, network, binary):
    print("\nGrowth: files of 96 bytes in folders of 1000, link unlimited.\n")
    print("| files | first copy: s, CPU s | nothing changed, by events: s, CPU s, kB | by scan: s, CPU s, kB "
          "| RSS MiB, sender + receiver | index MB, sender + receiver |")
    print("|---|---|---|---|---|---|")
    for count in counts:
        seed = os.path.join(work, "seed")
        os.makedirs(seed)
        make(seed, count)
        side = sides.Ours(work, seed, network, binary)
        shutil.rmtree(seed)
        try:
            first = timed(side, loads.Step("first copy", afresh=True), network)
            events = timed(side, loads.Step("by events"), network)
            scan = timed(side, loads.Step("by scan", afresh=True), network)
            if trees.listing(side.tree("a")) != trees.listing(side.tree("b")):
                raise SystemExit(f"the trees of {count} files differ")
            a, b = side.resident()
            index = [size(f"{side.home}/{end}/.twobox") for end in "ab"]
        finally:
            side.stop()
            shutil.rmtree(side.home)
        print(f"| {count:,} | {', '.join(first[:2])} | {', '.join(events)} | {', '.join(scan)} | {a:.1f} + {b:.1f} "
              f"| {index[0]:.1f} + {index[1]:.1f} |", flush=True)


def size(directory):
    """Bytes on disk of everything below, in MB."""
    found = (os.path.join(d, f) for d, _, files in os.walk(directory) for f in files)
    return sum(os.lstat(path).st_blocks * 512 for path in found) / 1e6
