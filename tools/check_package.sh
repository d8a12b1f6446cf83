#!/usr/bin/env bash
# Makes an sdist and a wheel in dist/, and tries each: the sdist is built in an environment of its own, where
# `cgckit info`, a refinement of two simulated subjects and the report run; the wheel holds what the sdist's build holds.
# PYTHON: an interpreter that has `build`, torch and what else the build needs (`make package` gives that of .venv).
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(realpath -s "${PYTHON:-.venv/bin/python}")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

# A copy of what git knows: what lies about in the working tree must not be what makes it work.
mkdir "$place/tree"
git ls-files --cached --others --exclude-standard | grep -vxFf <(git ls-files --deleted) | tar -cT - | tar -xC "$place/tree"
rm -rf dist && mkdir dist
(cd "$place/tree" && "$python" -m build --sdist --no-isolation --outdir "$OLDPWD/dist" .) >"$place/sdist.log" 2>&1 ||
  { tail -n 20 "$place/sdist.log"; exit 1; }
sdist=$(ls dist/*.tar.gz)

missing=$(comm -23 <(git ls-files csrc cgckit | sort) <(tar -tzf "$sdist" | sed 's|^[^/]*/||' | sort))
[ -z "$missing" ] || { echo "not in $sdist: $missing"; exit 1; }
echo "$sdist: $(tar -tzf "$sdist" | grep -cE 'csrc/.*\.(h|cuh)$') headers, $(tar -tzf "$sdist" | grep -cE 'csrc/.*\.(cpp|cu)$') sources"

mkdir "$place/unpacked"
tar -xzf "$sdist" -C "$place/unpacked" --strip-components=1
"$python" -m venv "$place/venv"
"$place/venv/bin/python" -m pip install --quiet "torch>=2.10,<2.14" "setuptools>=77" "pybind11>=2.13" ninja numpy wheel build
(cd "$place/unpacked" && "$place/venv/bin/python" -m build --wheel --no-isolation --outdir "$OLDPWD/dist" .) \
  >"$place/wheel.log" 2>&1 || { tail -n 20 "$place/wheel.log"; exit 1; }
wheel=$(ls dist/*.whl)
contents=$("$python" -m zipfile -l "$wheel")
for part in cgckit/_C cgckit/_build cgckit/py.typed cgckit/report/templates/group.html.j2 cgckit/report/assets/niivue.js; do
  [[ $contents == *"$part"* ]] || { echo "$wheel: holds no $part"; exit 1; }
done
"$place/venv/bin/python" -m pip install --quiet "$wheel"

mkdir "$place/run" && cd "$place/run" # not where the sources are
cgckit=$place/venv/bin/cgckit
"$cgckit" info
"$cgckit" phantom scans --subjects 2
"$cgckit" refine scans/images --out refined --quiet --set steps=5
"$cgckit" evaluate refined scans/references --quiet
"$cgckit" report refined --quiet
echo "sdist and wheel work: $(basename "$sdist"), $(basename "$wheel")"
