// Virtual time as a function of steps: `ns` at `base_steps`, growing by `ns_per_step` a step. All
// arithmetic is exact integers, so each copy computes the same time at the same position.
#pragma once

#include <cstdint>

#include "machine/machine.h"

namespace node_mesh {

class VirtualClock {
 public:
  // One nanosecond a step: a CPU of 1000 million steps a second.
  static constexpr std::uint64_t default_ns_per_step = std::uint64_t{1} << 32;

  explicit VirtualClock(std::uint64_t ns_per_step)
      : ns_per_step_(ns_per_step == 0 ? default_ns_per_step : ns_per_step) {}

  std::uint64_t ns_at(std::uint64_t steps) const {
    const auto grown = (Wide{steps - base_steps_} * ns_per_step_) >> 32;
    const Wide ns = base_ns_ + grown;
    return ns > UINT64_MAX ? UINT64_MAX : static_cast<std::uint64_t>(ns);
  }

  // The first step at which ns_at() is at least `ns`; UINT64_MAX if that never comes.
  std::uint64_t first_step_at(std::uint64_t ns) const {
    if (ns <= base_ns_) return base_steps_;
    if (ns_per_step_ == 0 || ns == UINT64_MAX) return UINT64_MAX;
    const Wide steps = ((Wide{ns - base_ns_} << 32) + ns_per_step_ - 1) / ns_per_step_;
    return steps > UINT64_MAX - base_steps_ ? UINT64_MAX
                                            : base_steps_ + static_cast<std::uint64_t>(steps);
  }

  // Time never runs backwards: an earlier `setting.ns` counts as now.
  void set(ClockSetting setting, std::uint64_t steps) {
    const std::uint64_t now_ns = ns_at(steps);
    base_ns_ = setting.ns > now_ns ? setting.ns : now_ns;
    base_steps_ = steps;
    ns_per_step_ = setting.ns_per_step;
  }

  // As it was saved; `base_steps` may lie before the present.
  void load(ClockSetting base, std::uint64_t base_steps) {
    base_ns_ = base.ns;
    base_steps_ = base_steps;
    ns_per_step_ = base.ns_per_step;
  }

  std::uint64_t base_ns() const { return base_ns_; }
  std::uint64_t base_steps() const { return base_steps_; }
  std::uint64_t ns_per_step() const { return ns_per_step_; }

 private:
  using Wide = unsigned __int128;
  std::uint64_t base_ns_ = 0;
  std::uint64_t base_steps_ = 0;
  std::uint64_t ns_per_step_;
};

}  // namespace node_mesh
