// NM_CHECK: an invariant of our own code, checked in release builds too. Never for what a guest, a
// peer, a file or the host can cause: those are operating errors and are returned as such.
#pragma once

namespace node_mesh {

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace node_mesh

#define NM_CHECK(condition)                          \
  (__builtin_expect(static_cast<bool>(condition), 1) \
       ? static_cast<void>(0)                        \
       : ::node_mesh::check_failed(#condition, __FILE__, __LINE__))
