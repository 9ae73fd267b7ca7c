#include "wire/output_delay.h"

#include <algorithm>

namespace node_mesh {

void OutputDelay::add(std::uint64_t delay_ns) {
  const std::uint64_t delay_us = std::min<std::uint64_t>(delay_ns / 1'000, UINT32_MAX);
  samples_us_[count_ % kept] = static_cast<std::uint32_t>(delay_us);
  ++count_;
}

OutputDelay::Summary OutputDelay::summary() const {
  const std::size_t size = std::min<std::uint64_t>(count_, kept);
  if (size == 0) return {};
  auto sorted = samples_us_;
  std::sort(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(size));
  return {sorted[(size - 1) / 2], sorted[(size - 1) * 99 / 100], count_};
}

}  // namespace node_mesh
