// cgckit._build: what the native extension was built with and what it runs on.
#include <pybind11/pybind11.h>

#include "cpu/capability.h"

namespace {

#if defined(__clang__)
constexpr const char* kCompiler = "clang " __clang_version__;
#elif defined(__GNUC__)
constexpr const char* kCompiler = "gcc " __VERSION__;
#else
constexpr const char* kCompiler = "unknown";
#endif

pybind11::tuple instruction_sets() {
  pybind11::list names;
  for (const cgckit::cpu::Capability each : cgckit::cpu::kCapabilities) names.append(cgckit::cpu::name(each));
  return names;
}

}  // namespace

PYBIND11_MODULE(_build, m) {
  m.doc() = "What the native extension was built with and what it runs on.";
  m.attr("version") = CGCKIT_VERSION;
  m.attr("compiler") = kCompiler;
  m.attr("flags") = CGCKIT_FLAGS;
  m.attr("torch_target_version") = CGCKIT_TORCH_TARGET;
  m.attr("instruction_sets") = instruction_sets();
  m.def(
      "cpu_capability", [] { return cgckit::cpu::name(cgckit::cpu::capability()); },
      "Instruction set that the CPU kernels use in this process: one of `instruction_sets`.");
}
