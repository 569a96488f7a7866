#!/usr/bin/env bash
# Runs tests with the oldest versions that pyproject.toml allows. PYTHON is the interpreter.
#
#     tools/check_minimum.sh          both of these
#     tools/check_minimum.sh suite    the test suite, with the oldest Python and packages
#     tools/check_minimum.sh jax      the tests of fastseqloss.jax and of its declarations, with the oldest JAX
#
# WHEEL, if set, is installed instead of a build of this checkout.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[ $# -gt 0 ] || set -- suite jax
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
export PATH=$work/venv/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 HYPOTHESIS_PROFILE=quick

python - "$@" > "$work/oldest.txt" << 'END'
import sys, tomllib
with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
oldest = project["requires-python"].removeprefix(">=")
assert "suite" not in sys.argv or "%d.%d" % sys.version_info[:2] == oldest, f"this is to run under Python {oldest}"
extras = project["optional-dependencies"]
for requirement in project["dependencies"] + extras["test"] + extras["jax"]:
    print(requirement.replace(">=", "=="))
print("pyparsing<3.2")  # later versions warn about calls of the oldest matplotlib
END
cat "$work/oldest.txt"
python -m pip install --quiet --constraint "$work/oldest.txt" "${WHEEL:-.}[test]"
cp -r tests examples bench docs README.md CONTRIBUTING.md pyproject.toml "$work"
mkdir -p "$work/src/fastseqloss"
cd "$work"
python -m fastseqloss info
for part in "$@"; do
    case $part in
        suite) python -m pytest -q ;;
        jax)
            cp -r "$OLDPWD/src/fastseqloss/_kernels" src/fastseqloss # the declarations, which a test compiles
            python -m pip install --quiet --constraint "$work/oldest.txt" jax
            python -m pytest -q -m "peers and not thorough" --share 2 tests/jax_adapter tests/kernels/test_ffi.py
            ;;
        *)
            echo "no part is called $part" >&2
            exit 2
            ;;
    esac
done
