"""A Kubo of our own: built from the module proxy, its own repository, loopback only, no bootstrap and no DHT."""

import json
import os
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from interop import build

START_SECONDS = 60


class Kubo:
    """A repository, and the daemon of it while `running` is entered."""

    def __init__(
        self, repository: Path, *, settings: Mapping[str, object] | None = None, prefix: Sequence[str] = ()
    ) -> None:
        """`settings` are set on top of ours; `prefix` is put in front of each command: in which namespace it runs."""
        self.repository = repository
        self._program = [*prefix, str(build.kubo())]
        self.environment = {**os.environ, "IPFS_PATH": str(repository), "IPFS_TELEMETRY": "off"}
        self.address = ""
        self.output = b""
        """What the daemon said until it was ready."""
        self.process: subprocess.Popen[bytes] | None = None
        self.run("init", "--profile", "test", "--algorithm", "ed25519")
        self.run("bootstrap", "rm", "--all")
        for key, value in {
            "AutoConf.Enabled": False,
            "Addresses.Swarm": ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws"],
            "Addresses.API": "/ip4/127.0.0.1/tcp/0",
            "Addresses.Gateway": [],
            "Discovery.MDNS.Enabled": False,
            "Routing.Type": "none",
            "Swarm.DisableNatPortMap": True,
            "Swarm.RelayClient.Enabled": False,
            "Provide.Enabled": False,
            **(settings or {}),
        }.items():
            self.run("config", "--json", key, json.dumps(value))

    def run(self, *arguments: str, timeout: float = 300, data: bytes | None = None) -> bytes:
        """`ipfs ARGUMENTS`, its stdout. Raises CalledProcessError with what it said on stderr."""
        done = subprocess.run(
            [*self._program, *arguments], env=self.environment, capture_output=True, timeout=timeout, input=data
        )
        if done.returncode:
            raise RuntimeError(f"ipfs {' '.join(arguments)}: {done.stderr.decode()[-2000:]}")
        return done.stdout

    @contextmanager
    def running(self) -> Iterator["Kubo"]:
        """The daemon, for as long as the context lasts."""
        with (self.repository / "daemon.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*self._program, "daemon", "--enable-gc=false"],
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
            )
            try:
                assert self.process.stdout is not None
                self.output = b""
                for line in self.process.stdout:
                    self.output += line
                    if b"Daemon is ready" in line:
                        break
                else:
                    raise RuntimeError("Kubo did not start")
                addresses = json.loads(self.run("id", "--enc=json"))["Addresses"]
                self.address = next((one for one in addresses if "/tcp/" in one and "/ws/" not in one), "")
                yield self
            finally:
                self.process.terminate()
                self.process.wait(30)
                if self.process.stdout is not None:
                    self.process.stdout.close()

    def api(self) -> str:
        """Where its RPC is."""
        api = (self.repository / "api").read_text().strip().split("/")
        return f"http://{api[2]}:{api[4]}/api/v0"

    def ask(self, path: str, **arguments: str) -> dict[str, object]:
        """A call of its RPC."""
        url = f"{self.api()}/{path}?{urllib.parse.urlencode(arguments)}"
        with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=60) as answer:
            result: dict[str, object] = json.loads(answer.read())
            return result
