"""The two that are compared, behind the same few methods: a tree at `a`, its copy at `b`."""
import json, os, socket, subprocess, sys, time

from network import Group, run

KEY = "5a" * 32


class Side:
    """A file system and a control group for each end: the mirror's watch sees what happens in its own, as on two boxes."""

    def __init__(self, work, seed, network):
        self.work, self.network = work, network
        self.home = os.path.join(work, self.name)
        for side in "ab":
            os.makedirs(f"{self.home}/{side}")
            run("mount", "-t", "tmpfs", "tbmr", f"{self.home}/{side}")
            os.mkdir(self.tree(side))
        run("cp", "-a", seed + "/.", self.tree("a"))
        self.group = {side: Group(self.name + side) for side in "ab"}

    def tree(self, side):
        return f"{self.home}/{side}/tree"

    def cpu(self):
        return sum(group.cpu() for group in self.group.values())

    def start(self, side, command, **more):
        return subprocess.Popen(self.group[side].command([*self.network.inside(side), *command]), **more)

    def stop(self):
        for side in "ab":
            run("umount", f"{self.home}/{side}")
            self.group[side].remove()


class Ours(Side):
    """Two mirror processes that are told what to do as the daemon would."""

    name = "twobox"
    exact = True

    def __init__(self, work, seed, network, binary):
        super().__init__(work, seed, network)
        mounted = os.path.join(self.home, "data")
        os.makedirs(mounted)
        settings = {"key": KEY, "port": 0, "bytes_per_second": None, "trees": [{
            "tree": mounted + "/tree", "when": {"every-ms": 10 ** 9}, "exclude": [], "max_delete": {"percent": 100},
            "store": mounted}]}
        self.children = {}
        self.request = 0
        for side in "ba":
            ours, theirs = socket.socketpair()
            script = f'mount --bind "{self.home}/{side}" "{mounted}" && exec "{binary}" mirror-child'
            child = self.start(side, ["unshare", "-m", "sh", "-c", script], stdin=theirs)
            theirs.close()
            self.children[side] = (child, ours, ours.makefile("r"))
            self.order(side, "configure", settings=settings)
        self.role("b", "receive")
        self.wait("b", "settled")
        self.wait("a", "ready")

    def order(self, side, word, **order):
        self.children[side][1].sendall((json.dumps({word: order}) + "\n").encode())

    def role(self, side, role):
        self.order(side, "role", role=role, generation={"term": 1, "boot": 1},
                   links=[{"address": self.network.address["b"] + ":7414"}])

    def wait(self, side, word):
        for line in self.children[side][2]:
            report = json.loads(line)
            said, more = (report, {}) if isinstance(report, str) else next(iter(report.items()))
            if said == word and more.get("request", self.request) == self.request:
                return more
            if said == "refused":
                sys.exit(f"refused: {line}")
        sys.exit("the mirror has gone")

    def copy(self, step):
        if step.afresh:  # a sender begins with a scan, and copies at once
            self.role("a", "send")
        self.request += 1
        self.order("a", "sync", request=self.request, tree=None, confirm_delete=False)
        self.wait("a", "done")

    def resident(self):
        return [self.group[side].resident() for side in "ab"]

    def stop(self):
        for child, connection, _ in self.children.values():
            connection.shutdown(socket.SHUT_RDWR)
            child.wait(20)
        super().stop()


class Rsync(Side):
    """rsync as a daemon at `b`, a client at `a`."""

    name = "rsync"
    exact = False  # its default run does not see a change of nanoseconds

    def __init__(self, work, seed, network):
        super().__init__(work, seed, network)
        config = self.home + "/rsyncd.conf"
        with open(config, "w") as f:
            f.write("uid = 0\ngid = 0\nuse chroot = no\nsocket options = TCP_NODELAY\n"
                    f"[tree]\npath = {self.tree('b')}\nread only = no\n")
        self.daemon = self.start("b", ["rsync", "--daemon", "--no-detach", "--port=8730", "--config", config])
        self.peak = [0, 0]
        for _ in range(500):
            listening = subprocess.check_output([*network.inside("b"), "ss", "-Hltn", "sport = 8730"])
            if listening:
                return
            time.sleep(0.01)
        sys.exit("rsync's daemon does not listen")

    def copy(self, step):
        client = self.start("a", ["rsync", "-aHAXS", "--delete", "--numeric-ids", "--sockopts=TCP_NODELAY",
                                  "--port=8730", *step.rsync, self.tree("a") + "/",
                                  f"rsync://{self.network.address['b']}/tree/"])
        while True:
            try:
                client.wait(0.02)
                break
            except subprocess.TimeoutExpired:
                now = self.group["a"].resident(), self.group["b"].resident(leave_out=[self.daemon.pid])
                self.peak = [max(pair) for pair in zip(self.peak, now)]
        if client.returncode:
            sys.exit(f"rsync: exit {client.returncode}")

    def resident(self):
        return self.peak

    def stop(self):
        self.daemon.terminate()
        self.daemon.wait()
        super().stop()
