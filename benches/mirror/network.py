"""Two namespaces and the link between them; what the machine spends."""
import json, os, subprocess


def run(*command, **more):
    return subprocess.run(command, check=True, **more)


class Network:
    """A veth pair between two namespaces of our own, its rate limited by tbf at both ends."""

    def __init__(self, rate):
        self.namespace = {side: f"tbmr{side}{os.getpid()}" for side in "ab"}
        self.address = {"a": "10.213.0.1", "b": "10.213.0.2"}
        self.rate = rate

    def inside(self, side):
        return ["ip", "netns", "exec", self.namespace[side]]

    def __enter__(self):
        for side in "ab":
            run("ip", "netns", "add", self.namespace[side])
        run("ip", "link", "add", "x", "netns", self.namespace["a"], "type", "veth", "peer", "name", "x", "netns",
            self.namespace["b"])
        for side in "ab":
            run(*self.inside(side), "ip", "addr", "add", self.address[side] + "/24", "dev", "x")
            run(*self.inside(side), "ip", "link", "set", "x", "up")
            run(*self.inside(side), "ip", "link", "set", "lo", "up")
            if self.rate != "unlimited":
                run(*self.inside(side), "tc", "qdisc", "add", "dev", "x", "root", "tbf", "rate", self.rate, "burst",
                    "256kb", "latency", "50ms")
        return self

    def __exit__(self, *_):
        for side in "ab":
            subprocess.run(["ip", "netns", "del", self.namespace[side]], stderr=subprocess.DEVNULL)

    def bytes(self):
        """What went over the link in both directions so far."""
        total = 0
        for side in "ab":
            text = subprocess.check_output(["ip", "-n", self.namespace[side], "-s", "-j", "link", "show", "x"])
            total += json.loads(text)[0]["stats64"]["tx"]["bytes"]
        return total


def machine_busy():
    """CPU seconds that all processes of the machine have used so far."""
    with open("/proc/stat") as f:
        fields = [int(n) for n in f.readline().split()[1:]]
    return (sum(fields[:3]) + sum(fields[5:7])) / os.sysconf("SC_CLK_TCK")  # user, nice, system, irq, softirq


class Group:
    """A control group: what is started in it is accounted together, children that have ended among it."""

    def __init__(self, name):
        with open("/proc/mounts") as f:
            mounts = [line.split() for line in f]
        self.path = next(m[1] for m in mounts if m[2] == "cgroup2") + f"/tbmr-{os.getpid()}-{name}"
        os.makedirs(self.path, exist_ok=True)

    def command(self, command):
        """The command, joining the group before it starts."""
        return ["sh", "-c", f'echo $$ > {self.path}/cgroup.procs && exec "$@"', "sh", *command]

    def cpu(self):
        """CPU seconds of everything that ever was in it."""
        with open(self.path + "/cpu.stat") as f:
            return int(f.readline().split()[1]) / 1e6

    def resident(self, leave_out=()):
        """Sum of the largest resident memory, in MiB, of the processes that are in it now."""
        total = 0
        with open(self.path + "/cgroup.procs") as f:
            pids = [int(line) for line in f]
        for pid in pids:
            try:
                with open(f"/proc/{pid}/status") as f:
                    if pid not in leave_out:
                        total += sum(int(line.split()[1]) for line in f if line.startswith("VmHWM")) / 1024
            except OSError:
                pass  # it has ended
        return total

    def remove(self):
        try:
            os.rmdir(self.path)
        except OSError:
            pass  # something of it still ends
