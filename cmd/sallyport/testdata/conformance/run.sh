#!/usr/bin/env bash
# Runs the MCP client conformance scenarios against a stdio->HTTP proxy.
#
#   run.sh "<proxy command template>"   e.g. run.sh "sallyport --state-dir {cache} {url}"
#   run.sh path/to/profile              one "<scenario|*> <template>" per line
#
# The first run installs the suite from npm into CONFORMANCE_HOME. Needs npm, curl, jq.
#
# Environment:
#   SALLYPORT  the binary that profiles/sallyport starts
#   REVISIONS  default "2025-11-25 2026-07-28 2025-03-26", the last one the back-compat pair
#   ONLY       extended regex on scenario names
#   STDIO_ERA  legacy (default) or auto: how the host opens the stdio side (see adapter.mjs)
#   JOBS       parallel scenarios (default 2)
#   OUT        results folder (default: a fresh one under CONFORMANCE_HOME)
#   CONFORMANCE_HOME  where the suite is installed (default ~/.cache/sallyport-conformance)
#
# One line per scenario: PASS, WARN (only SHOULD-level checks failed), SKIP (the scenario
# exercised nothing) or FAIL, then the failed checks (~ marks a SHOULD). The total counts
# what the revision's frozen requirement set scores ("+"); extensions and later additions
# ("-") are counted apart. Exits 1 when a scored scenario did not pass.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PROXY_CMD=${1:?usage: run.sh "<proxy command template>"}
[ -f "$PROXY_CMD" ] && PROXY_CMD=$(realpath "$PROXY_CMD")
home=${CONFORMANCE_HOME:-$HOME/.cache/sallyport-conformance}
for tool in npm curl jq; do command -v $tool >/dev/null || { echo "run.sh needs $tool" >&2; exit 2; }; done
mkdir -p "$home"
cp "$here/adapter.mjs" "$home/" && cp -RP "$here/bin" "$home/" # beside node_modules, where imports are looked up
if ! cmp -s "$here/package-lock.json" "$home/.installed-lock"; then
  cp "$here/package.json" "$here/package-lock.json" "$home/"
  (cd "$home" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2) || exit 2
  cp "$here/package-lock.json" "$home/.installed-lock"
fi
# Not .bin/node: npm 9 removes that link together with the other processor's package.
case $(uname -m) in aarch64 | arm64) processor=arm64 ;; *) processor=x64 ;; esac
export NODE=$home/node_modules/node-linux-$processor/bin/node # the suite needs 22 or later
export PATH=${NODE%/node}:$home/node_modules/.bin:$PATH
export STDIO_ERA=${STDIO_ERA:-legacy}
export CONFORMANCE="$NODE $home/node_modules/@modelcontextprotocol/conformance/dist/index.js"
export ADAPTER=$home/adapter.mjs
OUT=$(realpath -m "${OUT:-$home/results/$(date +%Y%m%d-%H%M%S)-$STDIO_ERA}")
export OUT
mkdir -p "$OUT"

plan() { # -> "<revision> <scenario> <scored?>"
  for rev in ${REVISIONS:-2025-11-25 2026-07-28 2025-03-26}; do
    if [ "$rev" = 2025-03-26 ]; then
      $CONFORMANCE list --client --spec-version $rev | sed -n 's/^  - \(\S*\).*/\1/p' | sed "s/^/$rev /; s/$/ -/"
      continue
    fi
    $CONFORMANCE list --requirements $rev | awk -v r=$rev '
      /^Client scenarios/ {c=1; next} /^Run and reported/ {c=2} /^[A-Z]/ && !/^Run/ {c=0}
      c==1 && /^  - / {print r, $2, "+"}  c==2 && /\[client\]/ {print r, $2, "-"}'
    [ "$rev" = 2026-07-28 ] && $CONFORMANCE list --client | sed -n "s/^  - \(sep-2640\S*\).*/$rev \1 -/p"
  done | { [ -n "${ONLY:-}" ] && grep -E " ($ONLY) " || cat; }
}

one() {
  local rev=$1 name=$2 scored=$3 dir="$OUT/$1/${2//\//_}" verdict checks
  rm -rf "${dir:?}"; mkdir -p "$dir"
  export FAKE_BROWSER_LOG=$dir/browser.log
  # its own process group, so that nothing a proxy leaves behind outlives the scenario
  setsid timeout 120 $CONFORMANCE client --command "$NODE $ADAPTER" --scenario "$name" \
    --spec-version "$rev" --force --timeout 60000 -o "$dir" >"$dir/log" 2>&1 &
  local pid=$!; wait $pid; local rc=$?
  kill -- -$pid 2>/dev/null
  checks=$(find "$dir" -name checks.json | head -1)
  local bad=""
  [ -n "$checks" ] && bad=$(jq -r '[.[]|select(.status=="FAILURE" or .status=="WARNING")|"\(if .status=="WARNING" then "~" else "" end)\(.id)"]|unique|join(" ")' "$checks")
  if [ $rc -eq 0 ]; then verdict=PASS
    jq -e 'any(.[]; .status=="SUCCESS")' "$checks" >/dev/null || verdict=SKIP   # nothing was exercised
  elif [ -n "$checks" ] && [ -n "$bad" ] && ! grep -q 'CLIENT EXITED\|CLIENT TIMED OUT' "$dir/log" &&
       ! jq -e 'any(.[]; .status=="FAILURE")' "$checks" >/dev/null; then verdict=WARN
  else verdict=FAIL
    grep -q 'CLIENT EXITED' "$dir/log" && bad="$bad (host step failed: $(sed -n 's/^\[adapter\] failed: //p' "$dir/log" | head -1 | cut -c1-140))"
    grep -q 'CLIENT TIMED OUT' "$dir/log" && bad="$bad (adapter timed out)"
  fi
  printf '%s %s %-4s %-45s %s\n' "$rev" "$scored" "$verdict" "$name" "$bad"
}
export -f one

plan >"$OUT/plan"
xargs -P "${JOBS:-2}" -L1 bash -c 'one "$@"' _ <"$OUT/plan" | tee "$OUT/lines"
echo "---- $PROXY_CMD  (host: $STDIO_ERA)"
awk '{n[$1" "$2]++; v[$1" "$2" "$3]++; r[$1]}
  END {for (k in r) {
    s=k" +"; if (n[s]) printf "%s scored:     %d/%d pass (+%d warn)\n", k, v[s" PASS"], n[s], v[s" WARN"]
    s=k" -"; if (n[s]) printf "%s not scored: %d/%d pass (+%d warn)\n", k, v[s" PASS"], n[s], v[s" WARN"]}}' "$OUT/lines" | sort
echo "details: $OUT/<revision>/<scenario>/{log,browser.log,*/checks.json}"
awk '$2=="+" && $3!="PASS" {bad=1} END {exit bad}' "$OUT/lines"
