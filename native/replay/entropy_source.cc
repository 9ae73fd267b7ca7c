#include "replay/entropy_source.h"

#include <sys/random.h>

#include <cerrno>

#include "machine/check.h"

namespace node_mesh {

void HostEntropy::fill(std::span<std::byte> into) {
  while (!into.empty()) {
    const ssize_t got = ::getrandom(into.data(), into.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    NM_CHECK(got > 0);  // the call has no other way to fail on any kernel that we run on
    into = into.subspan(static_cast<std::size_t>(got));
  }
}

}  // namespace node_mesh
