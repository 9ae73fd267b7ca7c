#include "machine/check.h"

#include <cstdio>
#include <cstdlib>

namespace node_mesh {

void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "vmm: internal check failed: %s (%s:%d)\n", condition, file, line);
  std::abort();
}

}  // namespace node_mesh
