#!/usr/bin/env bash
# Runs the test suite with the oldest Python and packages that pyproject.toml allows. PYTHON is the interpreter.
# WHEEL, if set, is installed instead of a build of this checkout.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
export PATH=$work/venv/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1

python - > "$work/oldest.txt" << 'END'
import sys, tomllib
with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
oldest = project["requires-python"].removeprefix(">=")
assert "%d.%d" % sys.version_info[:2] == oldest, f"this is to run under Python {oldest}"
for requirement in project["dependencies"] + project["optional-dependencies"]["test"]:
    print(requirement.replace(">=", "=="))
print("pyparsing<3.2")  # later versions warn about calls of the oldest matplotlib
END
cat "$work/oldest.txt"
python -m pip install --quiet --constraint "$work/oldest.txt" "${WHEEL:-.}[test]"
cp -r tests examples bench docs README.md CONTRIBUTING.md pyproject.toml "$work"
cd "$work"
python -m fastseqloss info
HYPOTHESIS_PROFILE=quick python -m pytest -q
