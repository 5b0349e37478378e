#!/usr/bin/env bash
# Fuzzes each target for FUZZ_SECONDS (20 unless set), FUZZ_TARGETS alone where that is set. Installs cargo-fuzz beside the other tools
# where it is missing. What is found anew goes below target/, so that the corpus in the tree stays as small as people made it; an
# input that breaks a check is shown, kept in target/fuzz/artifacts, and fails the run: mend what it shows and add it to the corpus.
set -euo pipefail
cd "$(dirname "$0")"
tools=$1
root=$(cd .. && pwd)
fuzz=$tools/cargo/bin/cargo-fuzz
[ -x "$fuzz" ] || cargo install --locked --root "$tools/cargo" cargo-fuzz

# libFuzzer's coverage needs flags that a stable compiler takes only when told that it may.
export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$root/target/fuzz
read -ra targets <<<"${FUZZ_TARGETS:-$(ls corpus | tr '\n' ' ')}"
"$fuzz" fuzz build --fuzz-dir .
for target in "${targets[@]}"; do
  found=$root/target/fuzz/corpus/$target
  artifacts=$root/target/fuzz/artifacts/$target
  mkdir -p "$found" "$artifacts"
  echo "fuzz: $target, ${FUZZ_SECONDS:-20} s"
  "$fuzz" fuzz run --fuzz-dir . "$target" "$found" "corpus/$target" -- -max_total_time="${FUZZ_SECONDS:-20}" -timeout=10 \
    -rss_limit_mb=1024 -max_len=4096 -print_final_stats=1 -artifact_prefix="$artifacts/" 2>&1 |
    grep -vE '^#[0-9]+\s+(REDUCE|NEW|RELOAD)' || { echo "fuzz: $target has a finding in $artifacts" >&2; exit 1; }
done
