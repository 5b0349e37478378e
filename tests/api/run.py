"""Holds the API to its description: schemathesis reads /openapi.json and asks real servers whatever it allows, and what it does not.

One server is well: nothing may break there, no answer may be another than is described, what is allowed is taken and what is not is refused. The
others are full, in no mood or without a core: there it is looked at what a client is told.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import openapi_spec_validator

HERE = pathlib.Path(__file__).parent
START = 20  # seconds
EXAMPLES = 120  # of each operation, beside those that cover its edges
LONGEST = 400  # seconds of one run
SEED = "20261124"
TOLD = ",".join(
    [
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "allow_header_conformance",
    ]
)


class Hearth:
    """A server of our own: on free ports, ended by its pid."""

    def __init__(self, role, *flags):
        binary = os.environ["HEARTH_BIN"]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HEARTH_")}
        self.log = tempfile.TemporaryFile("w+")
        doors = ["--http", "127.0.0.1:0", *(["--grpc", "127.0.0.1:0"] if role == "serve" else [])]
        command = [binary, role, *doors, *flags]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env=clean)
        try:
            self.address = self.wait()
        except BaseException:
            self.end()
            raise
        self.url = "http://%s:%d" % self.address

    def wait(self):
        until = time.monotonic() + START
        while time.monotonic() < until and self.process.poll() is None:
            for line in self.said().splitlines():
                if line.startswith("http listening on http://"):
                    host, _, port = line.removeprefix("http listening on http://").partition(":")
                    return host, int(port)
            time.sleep(0.02)
        sys.exit(f"hearth did not start:\n{self.said()}")

    def said(self):
        # Read by position: the process writes on at the end of the same file.
        return os.pread(self.log.fileno(), 1 << 20, 0).decode(errors="replace")

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        return status

    def __enter__(self):
        return self

    def __exit__(self, failed, *_):
        status = self.end()
        if failed is None and status != 0:
            sys.exit(f"hearth ended with {status}:\n{self.said()[-4000:]}")


def ask(description, url, checks, examples, *options, streams_end=False):
    """One run of schemathesis; what it finds fails this script."""
    tool = pathlib.Path(sys.executable).with_name("schemathesis")
    command = [tool, "run", description, "--url", url, "--seed", SEED, "--max-examples", str(examples)]
    command += ["--phases", "examples,coverage,fuzzing", "--checks", checks, "--request-timeout", "15", "--continue-on-failure"]
    command += ["--generation-database", "none", "--warnings", "off", "--no-color", *options]
    environment = os.environ | {
        "SCHEMATHESIS_HOOKS": str(HERE / "hooks.py"),
        "API_STREAMS_END": "1" if streams_end else "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        run = subprocess.Popen(command, cwd=tempfile.gettempdir(), env=environment, stdout=output, stderr=output)
        try:
            status = run.wait(LONGEST)
        except subprocess.TimeoutExpired:
            run.kill()
            status = f"no end within {LONGEST} s"
        output.seek(0)
        told = output.read()
    lines = told.splitlines()
    cases = next((line.strip() for line in lines if " generated, " in line), "nothing was generated")
    print(f"api:   {cases} in {time.monotonic() - start:.0f} s", flush=True)
    if status != 0:
        sys.exit(f"{told}\nschemathesis: {status}")


def main():
    with tempfile.TemporaryDirectory() as folder:
        description = pathlib.Path(folder) / "openapi.json"
        with Hearth("serve") as hearth:
            with urllib.request.urlopen(f"{hearth.url}/openapi.json") as answer:
                text = answer.read()
            description.write_bytes(text)
            openapi = json.loads(text)
            openapi_spec_validator.validate(openapi)
            operations = sum(len(path) for path in openapi["paths"].values())
            print(f"api: OpenAPI {openapi['openapi']} with {operations} operations; a server that is well:", flush=True)
            ask(description, hearth.url, "all", EXAMPLES)
            if hearth.process.poll() is not None:
                sys.exit(f"hearth has ended:\n{hearth.said()[-4000:]}")
        print("api: one that is full:", flush=True)
        with Hearth("serve", "--max-connections", "1") as hearth, socket.create_connection(hearth.address) as only:
            only.sendall(b"GET /events/kept HTTP/1.1\r\nHost: hearth\r\n\r\n")
            only.recv(1)
            ask(description, hearth.url, TOLD, 5, streams_end=True)
        print("api: one that takes a request every other second:", flush=True)
        with Hearth("serve", "--rate-limit", "1", "--rate-burst", "1") as hearth:
            ask(description, hearth.url, TOLD, 5)
        print("api: one without a core:", flush=True)
        with Hearth("edge", "--core", "http://127.0.0.1:9") as hearth:
            # What is asked of rooms waits ten seconds for a core to come back: the end-to-end tests do that.
            ask(description, hearth.url, TOLD, 5, "--include-tag", "pages")


if __name__ == "__main__":
    main()
