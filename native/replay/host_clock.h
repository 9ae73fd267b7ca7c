// The host's monotonic time, by an interface so that recording can be tested on a made-up clock.
#pragma once

#include <cstdint>

namespace node_mesh {

class HostClock {
 public:
  virtual ~HostClock() = default;
  virtual std::uint64_t now_ns() = 0;
};

// CLOCK_MONOTONIC: never the wall clock, which may jump.
class MonotonicClock final : public HostClock {
 public:
  std::uint64_t now_ns() override;
};

}  // namespace node_mesh
