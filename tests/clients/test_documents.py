"""The examples of docs/protocol.md, run as they stand: each against a Hearth of its own, and each must print what the document says."""
import os
import pathlib
import re
import subprocess
import sys
import unittest

from hearth import Hearth

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
PATIENCE = 60
# A fence, what it holds, and the fence of what it prints.
EXAMPLE = re.compile(r"^```(sh|python|js page|js node)\n(.*?)^```\n\n^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# How curl says that its own time is over, which an example of a stream asks for.
CURL_TIME_IS_OVER = 28


def examples():
    document = (ROOT / "docs" / "protocol.md").read_text()
    section = document.split("\n## Examples\n")[1].split("\n## ")[0]
    found = EXAMPLE.findall(section)
    fences = len(re.findall(r"^```(?!text)\S", section, re.MULTILINE))
    assert len(found) == fences >= 10, f"{fences} examples, of which {len(found)} have a language that is run, and say what they print"
    return found


def lines(text):
    return [line.strip() for line in text.strip().splitlines()]


def run(kind, code, hearth, count):
    code = code.replace("http://127.0.0.1:8080", hearth.http).replace("127.0.0.1:8080", hearth.http.split("//")[1])
    code = code.replace("127.0.0.1:50051", hearth.grpc)
    node = ["node", "--input-type=module", "-"]
    command, cwd = {
        "sh": (["bash", "-o", "pipefail", "-s"], ROOT),
        "python": ([sys.executable, "-"], ROOT),
        # Packages are found from where it runs; what it reads lies in the repository.
        "js node": (node, HERE),
        "js page": (["node", HERE / "page.mjs", hearth.http, str(count)], HERE),
    }[kind]
    if kind == "js node":
        code = code.replace("`proto/", f"`{ROOT}/proto/")
    grpcurl = os.environ.get("GRPCURL")
    path = os.pathsep.join(filter(None, [grpcurl and os.path.dirname(grpcurl), os.environ["PATH"]]))
    return subprocess.run(
        command, input=code, capture_output=True, text=True, cwd=cwd, timeout=PATIENCE, env=dict(os.environ, PATH=path)
    )


class Documents(unittest.TestCase):
    def test_examples(self):
        """Line by line, where `…` in the document is anything."""
        for kind, code, prints in examples():
            with self.subTest(kind=kind, code=code), Hearth() as hearth:
                expected = lines(prints)
                done = run(kind, code, hearth, len(expected))
                allowed = {0, CURL_TIME_IS_OVER} if "--max-time" in code else {0}
                self.assertIn(done.returncode, allowed, done.stdout + done.stderr)
                self.assertEqual(len(lines(done.stdout)), len(expected), done.stdout)
                for line, pattern in zip(lines(done.stdout), expected):
                    anything = ".*".join(re.escape(part) for part in pattern.split("…"))
                    self.assertRegex(line, f"^{anything}$")


if __name__ == "__main__":
    unittest.main()
