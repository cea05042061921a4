# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Sourced by setup.sh: numbered steps with elapsed time, their full output in a log, and stamps that make the second call quick.

die() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

# What pip prints about package sources that this machine lacks, hundreds of times.
quiet_log() { grep -v -e 'is ignored: it is neither a file' -e '^\s*$' "$@" || true; }

# fingerprint FILE...: one hash over names and contents; folders count with all that is below them.
fingerprint() {
  { find "$@" -type f ! -name '*.pyc' -print0 2>/dev/null || true; } | sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1
}

is_stamped() { [ "$(cat "$STAMPS/$1" 2>/dev/null)" = "$2" ]; }
stamp() {
  mkdir -p "$STAMPS"
  printf '%s\n' "$2" >"$STAMPS/$1"
}

step_number=0
step_ready() {
  step_number=$((step_number + 1))
  printf '[%d/%d] %s: ready\n' "$step_number" "$STEPS" "$1"
}

# run_step TITLE COMMAND...: runs it with a line every 15 s; the end of its log and its status if it fails.
run_step() {
  local title=$1 log pid status=0 began=$SECONDS told=$SECONDS
  shift
  step_number=$((step_number + 1))
  log="$LOGS/$step_number-${1//[^a-z_]/}.log"
  printf '[%d/%d] %s ...\n' "$step_number" "$STEPS" "$title"
  ("$@") >"$log" 2>&1 9>&- &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2
    if [ $((SECONDS - told)) -ge 15 ]; then
      told=$SECONDS
      printf '      %3d s  %.100s\n' "$((SECONDS - began))" "$(quiet_log "$log" | tail -n 1)"
    fi
  done
  wait "$pid" || status=$?
  if [ "$status" -ne 0 ]; then
    quiet_log "$log" | tail -n 40 >&2
    die "$title failed after $((SECONDS - began)) s (status $status); the whole log: $log"
  fi
  printf '[%d/%d] %s: done in %d s\n' "$step_number" "$STEPS" "$title" "$((SECONDS - began))"
}
