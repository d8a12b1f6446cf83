#!/usr/bin/env bash
# Fetches NiiVue, the viewer of the report's pages, from the npm registry and puts it, with the licences of what is in its
# bundle, into cgckit/report/assets. The result must have the hashes that are noted there: a new version is a change of
# VERSION here and of SHA256SUMS there. With --axe it fetches axe-core instead, by which tests/report check the pages for
# accessibility; that stays in build/ and is part of no package.
set -euo pipefail
cd "$(dirname "$0")/.."
VERSION=0.69.0 AXE_VERSION=4.14.1
# What `niivue.umd.js` is bundled from, in the versions that VERSION was built with or a later patch of them.
BUNDLED="@lukeed/uuid @lukeed/csprng @ungap/structured-clone array-equal fflate gl-matrix nifti-reader-js zarrita
  @zarrita/storage reference-spec-reader unzipit uzip-module numcodecs"
assets=$PWD/cgckit/report/assets
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

fetch() { (cd "$place" && npm install --silent --no-audit --no-fund --no-save --ignore-scripts --omit=optional "$1"); }

if [ "${1:-}" = --axe ]; then
  fetch "axe-core@$AXE_VERSION"
  mkdir -p build/axe-core
  cp "$place"/node_modules/axe-core/{axe.min.js,LICENSE} build/axe-core/
  echo "build/axe-core/axe.min.js: axe-core $AXE_VERSION"
  exit
fi

fetch "@niivue/niivue@$VERSION"
modules=$place/node_modules
cp "$modules/@niivue/niivue/dist/niivue.umd.js" "$assets/niivue.js"
# NiiVue's own licence is not in its package: it stands in the file as it is in github.com/niivue/niivue.
sed '/^=====/,$d' "$assets/niivue.LICENSE.txt" >"$place/licences"
for name in $BUNDLED; do
  version=$(node -p "require('$modules/$name/package.json').version")
  printf '===== %s %s\n\n' "$name" "$version"
  cat "$modules/$name"/[Ll][Ii][Cc][Ee][Nn][SsCc][Ee]*
  printf '\n'
done >>"$place/licences"
tr -d '\r' <"$place/licences" >"$assets/niivue.LICENSE.txt"
(cd "$assets" && sha256sum --check SHA256SUMS)
