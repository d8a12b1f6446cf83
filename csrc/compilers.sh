#!/usr/bin/env bash
# Compiles the CPU sources with every C++ compiler that is found, as setup.py does: older compilers than the one at hand
# must not be forgotten.
#   csrc/compilers.sh [compiler ...]          PYTHON=python3 is the one whose torch gives the headers
set -euo pipefail
cd "$(dirname "$0")"
readarray -t flags < <("${PYTHON:-python3}" - <<'END'
import sysconfig
import pybind11
from torch.utils.cpp_extension import include_paths

for path in [*include_paths(), pybind11.get_include(), sysconfig.get_paths()["include"]]:
    print(f"-isystem{path}")
END
)
flags+=(-std=c++20 -O3 -fPIC -Wall -Wextra -Werror -Wno-unused-parameter -fno-math-errno -fno-trapping-math)
flags+=(-DTORCH_TARGET_VERSION=0x020a000000000000 -DCGCKIT_LIBRARY=cgckit -DCGCKIT_MODULE=_C)
flags+=('-DCGCKIT_VERSION=""' '-DCGCKIT_FLAGS=""' '-DCGCKIT_TORCH_TARGET=""')
if [ $# = 0 ]; then
  set -- g++-{11..15} clang++-{13..21} g++ clang++ aarch64-linux-gnu-g++
fi
objects=$(mktemp -d)
trap 'rm -r "$objects"' EXIT
failed=0
for compiler; do
  command -v "$compiler" >/dev/null || continue
  for source in ./*.cpp cpu/*.cpp; do
    "$compiler" "${flags[@]}" -c "$source" -o "$objects/object.o" || { failed=1 && echo "$compiler: $source FAILED"; }
  done
  echo "$compiler: $("$compiler" --version | head -n 1)"
done
exit $failed
