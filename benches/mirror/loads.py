"""Seeded trees and what happens to them."""
import os, random, shutil
from dataclasses import dataclass, field
from typing import Callable, Optional

MIB = 1 << 20


@dataclass
class Step:
    """A change of the source and the copying that follows."""

    name: str
    change: Optional[Callable[[str], None]] = None
    afresh: bool = False  # the mirror becomes sender again: it scans
    shown: bool = True  # stands in the table
    rsync: list = field(default_factory=list)  # options that help rsync in this step


def write(path, size, seed):
    r = random.Random(seed)
    with open(path, "wb") as f:
        for at in range(0, size, MIB):
            f.write(r.randbytes(min(MIB, size - at)))


class Files:
    """A file of 1 GiB, and a directory of 200 MiB."""

    name = "files"

    def __init__(self, scale):
        self.size = lambda n: max(4096, int(n * scale))
        self.count = lambda n: max(1, int(n * scale))
        self.steps = [
            Step("first copy, 1.28 GB", afresh=True),
            Step("4 KiB inserted into 1 GiB", self.insert),
            Step("1000 pages of 4 KiB overwritten in 1 GiB", self.overwrite),
            Step("directory of 200 MiB renamed", lambda root: os.rename(f"{root}/folder", f"{root}/renamed")),
            Step("200 MiB file copied", self.duplicate, rsync=["--fuzzy"]),
        ]

    def make(self, root):
        write(f"{root}/large", self.size(1024 * MIB), 1)
        os.mkdir(f"{root}/folder")
        write(f"{root}/folder/other", self.size(200 * MIB), 2)

    def insert(self, root):
        with open(f"{root}/large", "rb") as f, open(f"{root}/.new", "wb") as to:
            to.write(f.read(self.size(512 * MIB) + 1))
            to.write(random.Random(3).randbytes(4096))
            shutil.copyfileobj(f, to, MIB)
        os.rename(f"{root}/.new", f"{root}/large")

    def overwrite(self, root):
        r = random.Random(4)
        with open(f"{root}/large", "r+b") as f:
            pages = os.fstat(f.fileno()).st_size // 4096
            for page in r.sample(range(pages), min(pages, self.count(1000))):
                f.seek(page * 4096)
                f.write(r.randbytes(4096))

    def duplicate(self, root):
        shutil.copyfile(f"{root}/renamed/other", f"{root}/renamed/other.1")


class Log:
    """A file of 500 MiB that grows."""

    name = "log"

    def __init__(self, scale):
        self.size = lambda n: max(4096, int(n * scale))
        self.steps = [Step("first copy, 500 MiB", afresh=True, shown=False),
                      Step("1 MiB appended to 500 MiB", self.append)]

    def make(self, root):
        write(f"{root}/log", self.size(500 * MIB), 5)

    def append(self, root):
        with open(f"{root}/log", "ab") as f:
            f.write(random.Random(6).randbytes(MIB))


class Mail:
    """100,000 mails of 4.8 kB on average in 100 folders."""

    name = "mail"

    def __init__(self, scale):
        self.count = lambda n: max(1, int(n * scale))
        self.steps = [
            Step("100,000 mails, first copy", afresh=True),
            Step("500 new, 1000 renamed, 300 deleted mails", self.change),
            Step("nothing changed, 100,000 files"),
            Step("nothing changed, 100,000 files, by scan", afresh=True),
        ]

    def make(self, root):
        r = random.Random(7)
        for n in range(self.count(100_000)):
            folder = f"{root}/{n % 100:02}/cur"
            if n < 100:
                os.makedirs(folder)
            with open(f"{folder}/{1_700_000_000 + n}.M{n}P1.host:2,", "wb") as f:
                f.write(r.randbytes(r.randint(600, 9000)))

    def change(self, root):
        r = random.Random(8)
        names = sorted(os.path.join(d, f) for d, _, files in os.walk(root) for f in files)
        r.shuffle(names)
        renamed, deleted = self.count(1000), self.count(300)
        for path in names[:renamed]:
            os.rename(path, path + "S")
        for path in names[renamed:renamed + deleted]:
            os.unlink(path)
        for n in range(self.count(500)):
            with open(f"{root}/{n % 100:02}/cur/{1_800_000_000 + n}.M{n}P1.host:2,", "wb") as f:
                f.write(r.randbytes(4800))


def all_of(scale):
    return [Files(scale), Log(scale), Mail(scale)]
