#!/usr/bin/env bash
# Builds the distributions and checks their contents, the build of the sdist by itself, and the repaired wheel, which runs
# every test, with a third of its parameter sets, in a new environment without a compiler, outside this checkout.
#
#     tools/check_wheel.sh [DIRECTORY]
#
# With DIRECTORY, sdist and wheel are copied there. PYTHON is the interpreter for build and tests, by default the newest
# one that is installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly limit=3000000 # maximum size of a wheel, in bytes
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1
unset PYTHONPATH FASTSEQLOSS_ISA FASTSEQLOSS_DEBUG
export FASTSEQLOSS_LEVELS=all

newest() {
    local version path
    for version in 3.14 3.13 3.12 3.11 3; do
        for path in "$(command -v "python$version" || true)" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python3; do
            if [ -x "$path" ] && "$path" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2> "$work/errors"; then
                echo "$path"
                return
            fi
        done
    done
    echo "no Python 3.11 or later" >&2
    return 1
}

say() { printf '\n--- %s (%d s)\n' "$1" "$SECONDS"; }

python=${PYTHON:-$(newest)}

say "tools, for $("$python" --version)"
"$python" -m venv "$work/tools"
tools=$work/tools/bin
"$tools/python" -m pip install --quiet --upgrade "pip>=25.1"
"$tools/python" -m pip install --quiet --group release
export PATH=$tools:$PATH

say "the project's description"
validate-pyproject pyproject.toml
sp-repo-review . > "$work/review" || { cat "$work/review"; exit 1; }

say "what cibuildwheel would build"
for machine in "linux x86_64" "linux aarch64" "macos arm64" "macos x86_64" "windows AMD64"; do
    cibuildwheel --platform "${machine% *}" --archs "${machine#* }" --print-build-identifiers .
done | sort > "$work/identifiers"
for version in cp311 cp312 cp313 cp314 cp314t; do
    for platform in {many,musl}linux_{x86_64,aarch64} macosx_{arm64,x86_64} win_amd64; do
        echo "$version-$platform"
    done
done | sort | diff - "$work/identifiers"
echo "$(wc -l < "$work/identifiers") wheels"

say "sdist, and a wheel from the sdist alone"
git -c safe.directory='*' ls-files --cached --others --exclude-standard -z > "$work/files" 2> "$work/errors" ||
    find . -type f -not -path './build/*' -not -name '*.so' -print0 > "$work/files"
mkdir "$work/clone"
tar --create --null --files-from="$work/files" | tar --extract --directory="$work/clone"
FASTSEQLOSS_OPENMP=1 python -m build --outdir "$work/built" "$work/clone" > "$work/log" 2>&1 ||
    { tail -50 "$work/log"; exit 1; }

say "libraries of others taken into the wheel"
auditwheel repair --strip -z 9 --wheel-dir "$work/dist" "$work"/built/*.whl > "$work/log" 2>&1 ||
    { cat "$work/log"; exit 1; }
cp "$work"/built/*.tar.gz "$work/dist"
wheel=$(echo "$work"/dist/*.whl)
auditwheel show "$wheel"

say "contents"
check-wheel-contents "$wheel"
twine check --strict "$work"/dist/*
ls -l "$work/dist"
test "$(stat --format=%s "$wheel")" -lt "$limit" || { echo "the wheel has more than $limit bytes"; exit 1; }

say "the tests on the wheel, in a fresh environment"
"$python" -m venv "$work/fresh"
"$work/fresh/bin/python" -m pip install --quiet --only-binary=:all: "${wheel}[test]"
mkdir "$work/away"
cp -r tests examples bench docs README.md CONTRIBUTING.md pyproject.toml "$work/away"
(
    cd "$work/away"
    export PATH=$work/fresh/bin
    for compiler in cc gcc clang c99; do
        if command -v "$compiler"; then
            echo "there is a compiler" >&2
            exit 1
        fi
    done
    python - << 'END'
import io, re, sys, fastseqloss
assert fastseqloss.__file__.startswith(sys.prefix), fastseqloss.__file__
file = io.StringIO()
fastseqloss.show_config(file)
shown = file.getvalue()
print(shown)
assert re.search(r"OpenMP +\d+ \(libgomp-[0-9a-f]+\.so\S*, libgomp\S* \d+\.\d+", shown), "the runtime's version is not known"
END
    HYPOTHESIS_PROFILE=quick python -m pytest -q --share 3
)

if [ $# -gt 0 ]; then
    mkdir -p "$1"
    cp "$work"/dist/* "$1"
fi
say "done"
