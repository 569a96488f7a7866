#!/usr/bin/env bash
# Runs tests in a build that is watched while it runs, kept in build/sanitize/KIND, so that a second run compiles little:
#
#   tools/sanitize.sh address [PYTEST...]    the suite, then the fuzzer, under AddressSanitizer and UndefinedBehaviorSanitizer
#   tools/sanitize.sh thread [PYTEST...]     parallel calls under ThreadSanitizer, with an OpenMP runtime that it understands
#   tools/sanitize.sh valgrind [PYTEST...]   every kernel, on small batches, under memcheck
#   tools/sanitize.sh build KIND             only the build
#
# PYTEST... instead of the tests that are run otherwise. PYTHON names an interpreter with the extra `test`, setuptools
# and Cython. `address` needs gcc, `thread` clang with its libomp (Debian: clang-14 libclang-rt-14-dev libomp-14-dev;
# CLANG names another one), `valgrind` valgrind. FUZZ_CALLS is how many calls the fuzzer makes, 0 for none.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly root=$PWD
readonly python=${PYTHON:-python3}
clang=${CLANG:-}
for name in clang clang-19 clang-18 clang-17 clang-16 clang-15 clang-14; do
    [ -n "$clang" ] || clang=$(command -v "$name" || true)
done
unset PYTHONPATH FASTSEQLOSS_ISA FASTSEQLOSS_DEBUG

build() { # build KIND [NAME=VALUE...]: this working tree, compiled with that in the environment
    local tree=$root/build/sanitize/$1
    shift
    mkdir -p "$tree"
    git -c safe.directory='*' ls-files --cached --others --exclude-standard -z |
        tar --create --null --files-from=- --ignore-failed-read 2> /dev/null | tar --extract --directory="$tree"
    if ! (cd "$tree" && env FASTSEQLOSS_DEBUG=1 "$@" "$python" setup.py build_ext --inplace ${JOBS:+-j"$JOBS"} > build.log 2>&1); then
        tail -n 30 "$tree/build.log"
        return 1
    fi
    if grep "has no OpenMP" "$tree/build.log"; then return 1; fi
}

build_kind() {
    local flags="-fno-omit-frame-pointer"
    case $1 in
        address)
            flags+=" -fsanitize=address,undefined -fno-sanitize-recover=all"
            build address CC="gcc $flags" LDSHARED="gcc -shared $flags"
            ;;
        thread) # one level: the threads are the same in all
            [ -n "$clang" ] || { echo "clang is missing"; return 1; }
            flags+=" -fsanitize=thread -w"
            build thread $(one_level) CC="$clang $flags" LDSHARED="$clang -shared $flags"
            ;;
        valgrind) build valgrind $(one_level) ;;
        *) echo "no build $1" && return 2 ;;
    esac
}

one_level() { # the highest that valgrind knows
    if [ "$(uname -m)" = x86_64 ]; then echo FASTSEQLOSS_LEVELS=x86_64_v3; fi
}

watched() { # watched KIND [NAME=VALUE...] COMMAND...: with that in the environment, in the tree of that build
    local tree=$root/build/sanitize/$1
    shift
    (cd "$tree" && env PYTHONPATH="$tree/src" PYTHONMALLOC=malloc HYPOTHESIS_PROFILE=quick PYTHONFAULTHANDLER=1 "$@")
}

address() {
    local libraries
    libraries="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
    # Python itself and what it imports leak at the end of the process.
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
    # clang's own runtime cannot be loaded into an interpreter that was built without it; that of gcc can.
    local runtime archer
    runtime=$(gcc -print-file-name=libtsan.so)
    archer=$("$clang" -print-file-name=libarcher.so)
    [ -f "$archer" ] || archer=$(dirname "$(readlink -f "$(command -v "$clang")")")/../lib/libarcher.so
    for file in "$runtime" "$archer"; do
        [ -f "$file" ] || { echo "$file is missing"; return 1; }
    done
    # Archer tells ThreadSanitizer what waits for what in OpenMP. Some addresses must be free: none at random.
    local settings=(
        OMP_TOOL_LIBRARIES="$archer" OMP_NUM_THREADS=4 TSAN_OPTIONS=halt_on_error=1:ignore_noninstrumented_modules=1
        $(level_in_use) setarch "$(uname -m)" -R env LD_PRELOAD="$runtime"
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

case ${1:-} in
    address | thread) "$@" ;;
    valgrind) shift && memcheck "$@" ;;
    build) build_kind "$2" ;;
    *) sed -n '2,/^set/{/^#/p}' "${BASH_SOURCE[0]}" | cut -c3- && exit 2 ;;
esac
