"""A cluster of real processes: a namenode, datanodes and a gateway, each to be killed on its own."""

import pathlib
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

READY_SECONDS = 60
# Short, so that a test need not wait long for a dead datanode; longer than a busy machine holds up a heartbeat.
TIMEOUTS = ["--heartbeat-interval-ms", "500", "--stale-after-ms", "3000", "--dead-after-ms", "9000"]


class Role:
    """One process, with the address it listens on."""

    def __init__(self, binary, log, arguments):
        self.log = log
        with open(log, "ab") as errors:
            self.process = subprocess.Popen(
                [binary, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        line = self.process.stdout.readline()
        found = re.search(r"listening on (?:http://)?(\S+)", line)
        if not found:
            self.kill()
            raise RuntimeError(f"{arguments[0]} did not start: {line!r}\n{pathlib.Path(log).read_text()[-2000:]}")
        self.address = found.group(1)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Cluster:
    """Used as a context; what it made is gone afterwards."""

    def __init__(self, binary, datanodes=4, flags=()):
        self.binary = str(binary)
        self.count = datanodes
        self.flags = list(flags)
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="richardstore-console-"))
        self.roles = {}

    def __enter__(self):
        try:
            self.start_namenode("127.0.0.1:0")
            for number in range(1, self.count + 1):
                self.start_datanode(number)
            self.start_gateway("127.0.0.1:0")
            self.wait_until_running()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for role in self.roles.values():
            role.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def start_namenode(self, listen):
        directory = str(self.dir / "namenode")
        arguments = ["--dir", directory, "--listen", listen, *TIMEOUTS, *self.flags]
        self.roles["namenode"] = self._start("namenode", "namenode", arguments)
        self.namenode = self.roles["namenode"].address

    def start_datanode(self, number):
        name = f"datanode-{number}"
        arguments = ["--dir", str(self.dir / name), "--listen", "127.0.0.1:0", "--namenode", self.namenode]
        arguments += ["--name", name, "--rack", f"rack-{'ab'[number % 2]}", "--headroom", "16MiB"]
        self.roles[name] = self._start("datanode", name, arguments)

    def start_gateway(self, listen):
        self.roles["gateway"] = self._start("gateway", "gateway", ["--listen", listen, "--namenode", self.namenode])
        self.gateway = self.roles["gateway"].address
        self.url = f"http://{self.gateway}"

    def kill(self, name):
        self.roles.pop(name).kill()

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=30) as response:
            return response.read()

    def put(self, content):
        request = urllib.request.Request(self.url + "/files", data=content, method="POST")
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.read()

    def delete(self, digest):
        request = urllib.request.Request(f"{self.url}/files/{digest}", method="DELETE")
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.read()

    def _start(self, role, name, arguments):
        return Role(self.binary, self.dir / f"{name}.log", [role, *arguments])

    def wait_until_running(self):
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            try:
                if f'"live":{self.count}'.encode() in self.get("/info") and b'"status":"running"' in self.get("/info"):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                pass
            time.sleep(0.1)
        raise RuntimeError(f"not all datanodes came up: {self.get('/info')}")
