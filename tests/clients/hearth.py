"""A Hearth of the tests' own: the real binary, on any ports, ended by its pid."""
import collections
import os
import pathlib
import subprocess
import threading

START_S = 20
BUILT = [pathlib.Path(__file__).parents[2] / "target" / kind / "hearth" for kind in ("release", "debug")]


def binary():
    """HEARTH_BIN, or what cargo has built. Without one there is nothing to test, and that is a failure."""
    named = os.environ.get("HEARTH_BIN")
    found = next((path for path in ([pathlib.Path(named)] if named else BUILT) if path.exists()), None)
    if found is None:
        raise FileNotFoundError(f"no hearth binary at {named or BUILT}: run `cargo build`, or set HEARTH_BIN")
    return found


class Hearth:
    """A running server; a context manager."""

    def __init__(self, *flags):
        anywhere = ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
        self.said = collections.deque(maxlen=200)
        self.doors = {}
        self.listening = threading.Event()
        self.process = subprocess.Popen(
            [binary(), "serve", *anywhere, *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A developer's own settings are none of these stories'.
            env={name: value for name, value in os.environ.items() if not name.startswith("HEARTH_")},
        )
        threading.Thread(target=self._read, daemon=True).start()
        if not self.listening.wait(START_S) or "grpc" not in self.doors:
            self.kill()
            raise RuntimeError("hearth did not start:\n" + "".join(self.said))
        self.http = "http://" + self.doors["http"]
        self.ws = "ws://" + self.doors["http"]
        self.grpc = self.doors["grpc"]

    def _read(self):
        # To the end, so that it never blocks on a full pipe.
        for line in self.process.stdout:
            self.said.append(line)
            door, heard, address = line.partition(" listening on ")
            if heard:
                self.doors[door] = address.strip().removeprefix("http://")
            if {"http", "grpc"} <= self.doors.keys():
                self.listening.set()
        self.listening.set()

    def terminate(self):
        """Asks it to stop, as whoever runs it would."""
        self.process.terminate()

    def kill(self):
        """Ends it, and takes its exit."""
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.process.stdout.close()
