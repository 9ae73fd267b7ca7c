#include "verbs/verbs.h"

#include <cpuid.h>

#include <algorithm>
#include <cstdio>

namespace node_mesh {

int fail(const std::string& line, int status) {
  std::string clean = line;
  // Names come from users and files: no control characters reach the terminal.
  std::ranges::replace_if(
      clean, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, '?');
  std::fprintf(stderr, "%s\n", clean.c_str());
  return status;
}

std::string missing_cpu_features() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  std::string missing;
  const bool known = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0;
  const auto need = [&](bool has, const char* name) {
    if (known && has) return;
    if (!missing.empty()) missing += ", ";
    missing += name;
  };
  need((ecx & bit_SSSE3) != 0, "SSSE3");
  need((ecx & bit_SSE4_1) != 0, "SSE4.1");
  need((ecx & bit_SSE4_2) != 0, "SSE4.2");
  need((ecx & bit_POPCNT) != 0, "POPCNT");
  need((ecx & bit_CMPXCHG16B) != 0, "CX16");
  return missing;
}

}  // namespace node_mesh
