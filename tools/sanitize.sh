#!/usr/bin/env bash
# Runs tests in an instrumented build, which is kept in build/sanitize/KIND, so that a second run compiles less:
#
#   tools/sanitize.sh address [PYTEST...]    the suite, then the fuzzer, under AddressSanitizer and UndefinedBehaviorSanitizer
#   tools/sanitize.sh thread [PYTEST...]     parallel calls under ThreadSanitizer
#   tools/sanitize.sh valgrind [PYTEST...]   every kernel, on small batches, under memcheck
#   tools/sanitize.sh build KIND             the build only
#   tools/sanitize.sh                        all three
#
# PYTEST... replaces the usual tests. Requirements: gcc with its libraries, and valgrind. PYTHON is an interpreter with the
# dependencies of build and tests; by default the script makes one in build/sanitize/venv. FUZZ_CALLS is the number of
# calls of the fuzzer, 0 for none; FASTSEQLOSS_LEVELS selects the levels to compile.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly root=$PWD
unset PYTHONPATH FASTSEQLOSS_ISA FASTSEQLOSS_DEBUG
python=${PYTHON:-$root/build/sanitize/venv/bin/python}
readonly regions=$root/build/sanitize/libregions.so # in place of GNU's OpenMP runtime, for ThreadSanitizer

requirements() { # prints the requirements of build and tests in pyproject.toml
    python3 -c "if True:
        import tomllib
        known = tomllib.load(open('pyproject.toml', 'rb'))
        project = known['project']
        print(*known['build-system']['requires'], *project['dependencies'], *project['optional-dependencies']['test'])" |
        tr ' ' '\n'
}

environment() { # makes the virtual environment, unless PYTHON is set
    [ -z "${PYTHON:-}" ] || return 0
    [ -x "$python" ] || python3 -m venv build/sanitize/venv
    requirements > build/sanitize/requirements.txt
    "$python" -m pip install --quiet --disable-pip-version-check --requirement build/sanitize/requirements.txt
}

build() { # build KIND [NAME=VALUE...]: compiles a copy of this working tree with these variables
    local tree=$root/build/sanitize/$1
    shift
    mkdir -p "$tree"
    git -c safe.directory='*' ls-files --cached --others --exclude-standard -z |
        tar --create --null --files-from=- --ignore-failed-read 2> /dev/null | tar --extract --directory="$tree"
    if ! (cd "$tree" && env FASTSEQLOSS_DEBUG=1 "$@" "$python" setup.py build_ext --inplace ${JOBS:+-j"$JOBS"} > build.log 2>&1); then
        tail -n 30 "$tree/build.log"
        return 1
    fi
}

build_kind() {
    local flags="-fno-omit-frame-pointer"
    case $1 in
        address)
            flags+=" -fsanitize=address,undefined -fno-sanitize-recover=all"
            build address CC="gcc $flags" LDSHARED="gcc -shared $flags"
            ;;
        thread) # one level: threads run the same code in all
            flags+=" -fsanitize=thread"
            build thread $(one_level) FASTSEQLOSS_OPENMP=1 CC="gcc $flags" LDSHARED="gcc -shared $flags"
            gcc $flags -g -O1 -shared -fPIC -pthread tools/regions.c -o "$regions"
            ;;
        valgrind) build valgrind $(one_level) ;;
        *) echo "no build $1" && return 2 ;;
    esac
}

one_level() { # the highest level that valgrind supports
    if [ "$(uname -m)" = x86_64 ]; then echo FASTSEQLOSS_LEVELS=x86_64_v3; fi
}

watched() { # watched KIND [NAME=VALUE...] COMMAND...: runs in the tree of that build with these variables
    local tree=$root/build/sanitize/$1
    shift
    (cd "$tree" && env PYTHONPATH="$tree/src" PYTHONMALLOC=malloc HYPOTHESIS_PROFILE=quick PYTHONFAULTHANDLER=1 "$@")
}

address() {
    local libraries
    libraries="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
    # Python and imported packages do not free all memory at exit.
    local settings=(
        LD_PRELOAD="$libraries" UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
        ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:strict_string_checks=1
    )
    build_kind address
    watched address "${settings[@]}" "$python" -m pytest -q "${@:-tests}"
    [ $# -gt 0 ] || [ "${FUZZ_CALLS:-20000}" = 0 ] ||
        watched address "${settings[@]}" "$python" tests/fuzz.py --calls "${FUZZ_CALLS:-20000}" --patience 300
}

thread() {
    build_kind thread
    # ThreadSanitizer needs fixed address ranges: no randomisation.
    local settings=(
        OMP_NUM_THREADS=4 TSAN_OPTIONS=halt_on_error=1:ignore_noninstrumented_modules=1 $(level_in_use)
        setarch "$(uname -m)" -R env LD_PRELOAD="$(gcc -print-file-name=libtsan.so) $regions"
    )
    watched thread "${settings[@]}" "$python" tests/races.py
    [ $# -eq 0 ] || watched thread "${settings[@]}" "$python" -m pytest -q "$@"
}

level_in_use() {
    if [ "$(uname -m)" = x86_64 ]; then echo FASTSEQLOSS_ISA=x86_64_v3; fi
}

memcheck() {
    build_kind valgrind
    local command=("$python" tests/races.py --rounds 3)
    [ $# -eq 0 ] || command=("$python" -m pytest -q -p no:faulthandler "$@")
    watched valgrind PYTHONFAULTHANDLER= $(level_in_use) OMP_NUM_THREADS=2 valgrind --quiet --error-exitcode=9 \
        --leak-check=no --num-callers=30 --suppressions="$root/tools/valgrind.supp" "${command[@]}"
}

case ${1:-all} in
    address | thread) environment && "$@" ;;
    valgrind) environment && shift && memcheck "$@" ;;
    build) environment && build_kind "$2" ;;
    all)
        environment
        address
        thread
        if command -v valgrind > /dev/null; then memcheck; else echo "valgrind is missing: skipped"; fi
        ;;
    *) sed -n '2,/^set/{/^#/p}' "${BASH_SOURCE[0]}" | cut -c3- && exit 2 ;;
esac
