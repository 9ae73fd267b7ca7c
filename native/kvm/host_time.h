// The host's monotonic clock, for the engine's policy and slices only.
#pragma once

#include <cstdint>
#include <ctime>

namespace node_mesh {

inline std::uint64_t host_now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace node_mesh
