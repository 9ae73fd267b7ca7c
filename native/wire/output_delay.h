// How long a live guest's output waited, from its first byte until the node said that the log
// before it is committed, and so that it has left: what recording and commit add to output. Keeps
// the newest samples only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace node_mesh {

class OutputDelay {
 public:
  struct Summary {
    std::uint64_t median_us = 0;
    std::uint64_t p99_us = 0;
    std::uint64_t count = 0;  // of all samples, the forgotten ones too
  };
  void add(std::uint64_t delay_ns);
  Summary summary() const;

 private:
  static constexpr std::size_t kept = 512;
  std::array<std::uint32_t, kept> samples_us_{};
  std::uint64_t count_ = 0;
};

}  // namespace node_mesh
