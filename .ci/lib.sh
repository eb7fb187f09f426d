# Sourced by run and long: steps with timings, counts of tests, and the tools they need.
set -euo pipefail
export GOFLAGS="-mod=readonly" GOTOOLCHAIN=local LC_ALL=C.UTF-8

STATICCHECK=honnef.co/go/tools/cmd/staticcheck@v0.8.2
PYTHON_PACKAGES="pyarrow==26.0.1 duckdb==2.0.0 numpy==2.4.6 prometheus-client==0.26.0 datasets==5.2.0 pillow==13.0.0"
MODEL_PACKAGES="onnx==1.23.2 onnxruntime==1.32.0 pillow==13.0.0"

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
bin=$work/bin
mkdir "$bin"

passed=0 failed=0 skipped=0 began=$SECONDS step_began=$SECONDS step_name=

# step NAME: the heading of what follows; the time of what came before.
step() {
	finish_step
	step_name=$1
	step_began=$SECONDS
	echo "== $1 =="
}

finish_step() {
	if [ -n "$step_name" ]; then
		echo "-- $step_name: $((SECONDS - step_began)) s"
		echo
	fi
	step_name=
}

# count LOG: add up the top-level tests of a verbose log.
count() {
	local p f s
	p=$(grep -c '^--- PASS' "$1" || true)
	f=$(grep -c '^--- FAIL' "$1" || true)
	s=$(grep -c '^--- SKIP' "$1" || true)
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	grep -B1 '^--- SKIP' "$1" || true
	echo "$p passed, $f failed, $s skipped here"
}

# tests ARG...: go test, its tests counted, its output shown where it matters.
tests() {
	local log=$work/test.log status=0
	go test -v -timeout 40m "$@" >"$log" 2>&1 || status=$?
	if [ "$status" -ne 0 ]; then
		grep -v -E '^(=== (RUN|PAUSE|CONT|NAME)|[[:space:]]*--- PASS)' "$log" | tail -n 400
	else
		grep -E '^(ok|\?)[[:space:]]' "$log" || true
	fi
	count "$log"
	return "$status"
}

# need COMMAND PACKAGE...: install Debian packages where the command is lacking.
need() {
	command -v "$1" >/dev/null || install "${@:2}"
}

# install PACKAGE...: Debian packages.
install() {
	echo "installing $*"
	[ -e "$work/apt" ] || apt-get update -qq
	touch "$work/apt"
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >"$work/apt.log" 2>&1 ||
		{ cat "$work/apt.log"; return 1; }
}

# fuzz DURATION: every fuzz target for that long.
fuzz() {
	local pkg target n=0
	for pkg in $(go list ./...); do
		for target in $(go test -list '^Fuzz' "$pkg" | grep '^Fuzz' || true); do
			echo "$pkg $target"
			go test -run '^$' -fuzz "^$target\$" -fuzztime "$1" -fuzzminimizetime 1x "$pkg" >"$work/fuzz.log" 2>&1 || { cat "$work/fuzz.log"; return 1; }
			grep '^fuzz: elapsed' "$work/fuzz.log" | tail -n 1
			n=$((n + 1))
		done
	done
	echo "$n fuzz targets"
	[ "$n" -gt 0 ]
}

# arm64 PACKAGE REGEXP: the tests of that name, under emulation.
arm64() {
	local test=$work/arm64.test log=$work/arm64.log
	GOOS=linux GOARCH=arm64 CGO_ENABLED=0 go test -c -o "$test" "$1"
	(cd "$1" && qemu-aarch64-static "$test" -test.short -test.v -test.timeout 20m -test.run "$2") >"$log" 2>&1 ||
		{ tail -n 100 "$log"; return 1; }
	echo "$1 on arm64:"
	count "$log"
	grep -q '^--- PASS' "$log" || { echo "no test of $1 matches $2"; return 1; }
}

# python_env: make $python an interpreter that has PYTHON_PACKAGES.
python_env() {
	need python3 python3
	if ! python3 -m venv "$work/venv" >/dev/null 2>&1; then
		install python3-venv
		rm -rf "$work/venv"
		python3 -m venv "$work/venv"
	fi
	python=$work/venv/bin/python
	# shellcheck disable=SC2086 # a list of words
	"$python" -m pip install -q --disable-pip-version-check --only-binary :all: $PYTHON_PACKAGES
}

# readme_command: the first block of shell in README.md, which is its main command.
readme_command() {
	local text
	text=$(awk '/^```sh$/ && !done { on = 1; next } /^```$/ && on { on = 0; done = 1 } on' README.md)
	[ -n "$text" ] || { echo "README.md has no block of shell" >&2; return 1; }
	printf '%s\n' "$text"
}

# summary: the tests of all steps.
summary() {
	finish_step
	echo "all steps: $((SECONDS - began)) s"
	if [ "$passed" -gt 0 ]; then
		echo "$passed passed, $failed failed, $skipped skipped"
	fi
}
