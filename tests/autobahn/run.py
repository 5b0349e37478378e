#!/usr/bin/env python3
"""The Autobahn test suite against the edge's WebSocket code.

    run.py TOOLS ECHO [--some]

TOOLS is the folder where tests/install-tools.sh has put Autobahn, ECHO the program made of
edge-adapter/examples/echo.rs. Without --some all cases run, which takes ten minutes; with it those that are quick, and of the
long families a few. Fails on every case that is not judged OK, NON-STRICT or INFORMATIONAL, but for those that
DECLINED explains, and where cases did not run at all.
"""
import collections
import json
import pathlib
import re
import subprocess
import sys

# Autobahn sends an offer of compression that asks the server for a window of 512 bytes, and has no other to fall back on.
# It is not taken, see docs/protocol.md, so these cases end as unimplemented. All others must run.
DECLINED = re.compile(r"13\.(3|5)\.\d+$")

# Of the long families, what is there to be seen: each size class once, with and without fragments. The rest of 9 is
# speed, the rest of 12 and 13 the same with more messages of other sizes.
LONG = ["9.*", "12.*", "13.*"]
SOME = [
    "9.1.1", "9.2.1", "9.3.5", "9.4.5", "9.5.3", "9.6.3", "9.7.1", "9.8.1",
    "12.1.1", "12.1.11", "12.2.3", "12.5.1", "13.1.3", "13.2.2", "13.3.1", "13.4.1", "13.6.1", "13.7.2",
]
# How many there are in autobahntestsuite 25.10.1: a suite that runs nothing must not pass.
ALL_CASES = 517
# Those without the long families, and those of them above.
SOME_CASES = 265
FINE = {"OK", "NON-STRICT", "INFORMATIONAL"}
# Seconds for one run of Autobahn; all cases take ten minutes.
PATIENCE = 1800


def run(tools, echo, some):
    reports = tools / "autobahn-reports"
    reports.mkdir(parents=True, exist_ok=True)
    server = subprocess.Popen([echo], stdout=subprocess.PIPE, text=True)
    try:
        url = server.stdout.readline().split()[-1].replace("http://", "ws://")
        runs = [(["*"], LONG), (SOME, [])] if some else [(["*"], [])]
        results = {}
        for nth, (cases, excluded) in enumerate(runs):
            spec = reports / f"spec{nth}.json"
            spec.write_text(json.dumps({
                "outdir": str(reports),
                "servers": [{"agent": "hearth", "url": url, "options": {"version": 18}}],
                "cases": cases,
                "exclude-cases": excluded,
                "exclude-agent-cases": {},
            }))
            # Else the one of the run before would be read where there is none.
            (reports / "index.json").unlink(missing_ok=True)
            autobahn(tools, reports, spec)
            if server.poll() is not None:
                sys.exit(f"autobahn: the server ended with {server.returncode}")
            results.update(json.loads((reports / "index.json").read_text())["hearth"])
        return results
    finally:
        server.kill()
        server.wait()


def autobahn(tools, reports, spec):
    log = reports / "autobahn.log"
    python = (tools / "autobahn" / "python").read_text().strip()
    # Not PYTHONPATH: zope.interface is found by a .pth file, which is read in site folders only.
    start = f"import site; site.addsitedir({str(tools / 'autobahn')!r}); from autobahntestsuite.wstest import run; run()"
    command = [python, "-c", start, "-m", "fuzzingclient", "-s", str(spec)]
    with log.open("w") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, cwd=reports, timeout=PATIENCE)
    if done.returncode != 0 or not (reports / "index.json").exists():
        sys.exit(f"autobahn: it broke, see {log}:\n" + log.read_text()[-2000:])


def number(case):
    return [int(part) for part in case.split(".")]


def judge(results, some):
    counts = collections.Counter()
    families = collections.defaultdict(collections.Counter)
    bad = []
    for case in sorted(results, key=number):
        # The way in which the connection is closed is judged on its own.
        verdicts = {results[case]["behavior"], results[case]["behaviorClose"]}
        fine = verdicts <= FINE
        verdict = results[case]["behavior"]
        if verdict == "UNIMPLEMENTED" and DECLINED.match(case):
            verdict = "DECLINED"
        elif not fine:
            bad.append(f"{case}: {results[case]['behavior']}, close {results[case]['behaviorClose']}")
        counts[verdict] += 1
        families[case.split(".")[0]][verdict] += 1
        if verdict in ("NON-STRICT", "INFORMATIONAL"):
            print(f"autobahn: {case} is {verdict}")
    for family, found in families.items():
        print(f"autobahn: {family + '.*':5} " + ", ".join(f"{found[verdict]} {verdict}" for verdict in sorted(found)))
    print(f"autobahn: {len(results)} of {ALL_CASES} cases: " + ", ".join(f"{counts[v]} {v}" for v in sorted(counts)))
    expected = SOME_CASES if some else ALL_CASES
    if len(results) != expected:
        bad.append(f"{len(results)} cases ran, not {expected}")
    return bad


def main():
    tools, echo, some = pathlib.Path(sys.argv[1]), sys.argv[2], "--some" in sys.argv[3:]
    if not (tools / "autobahn" / "python").exists():
        print("autobahn: left out, there is no Python 2.7 to run it (set PYTHON27); tests/tests/it/websocket_cases.rs has the same families")
        return
    bad = judge(run(tools, echo, some), some)
    if bad:
        sys.exit("autobahn: FAILED\n" + "\n".join(bad))


main()
