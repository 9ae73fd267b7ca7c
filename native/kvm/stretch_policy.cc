#include "kvm/stretch_policy.h"

#include <algorithm>

namespace node_mesh {
namespace {

// About how long the software CPU takes for an instruction of user code.
constexpr std::uint64_t software_ns_per_instruction = 6;
constexpr std::uint64_t instructions_min = 500, instructions_max = 20'000;

}  // namespace

// What is run in software before the vCPU is tried costs about as much as entering it.
StretchPolicy::StretchPolicy(std::uint64_t round_trip_ns)
    : software_instructions_(std::clamp(round_trip_ns / software_ns_per_instruction,
                                        instructions_min, instructions_max)),
      long_ns_(2 * round_trip_ns) {}

StretchPolicy::Place& StretchPolicy::place(std::uint64_t rip, std::uint64_t rsp) {
  const std::uint64_t key = (rip ^ (rsp << 17)) * 0x9e3779b97f4a7c15u;
  Place& at = places_[key >> 52];
  if (at.key != key) at = {key, 0};
  return at;
}

std::uint64_t StretchPolicy::software_first(std::uint64_t rip, std::uint64_t rsp) {
  current_ = &place(rip, rsp);
  if (current_->score > 0) return 0;
  // A place whose stretches never paid is tried ever later.
  return software_instructions_ << std::min(-current_->score, 3);
}

void StretchPolicy::note_trap(std::uint64_t ns) {
  burst_ = ns > long_ns_ ? std::max(burst_ / 4, burst_min) : std::min(burst_ * 2, burst_max);
}

void StretchPolicy::note_stretch(std::uint64_t ns) {
  if (current_ == nullptr) return;
  const int change = ns > long_ns_ ? 2 : -1;
  current_->score = std::clamp(current_->score + change, score_min, score_max);
  current_ = nullptr;
}

void StretchPolicy::note_forced_stop(std::uint64_t rip, std::uint64_t rsp) {
  place(rip, rsp).score = score_max;
}

}  // namespace node_mesh
