#include "replay/recording_clock.h"

#include <algorithm>
#include <ctime>

#include "replay/log_schema.h"

namespace node_mesh {
namespace {

// A guest that reads time rarely gets it exact to the lower bound; one that would need an event
// at every read gets fewer and coarser ones.
constexpr std::uint64_t drift_ns_low = 100'000;
constexpr std::uint64_t drift_ns_high = 250'000;
constexpr std::uint64_t dense_interval_ns = 2'000'000;
constexpr std::uint64_t measured_steps_min = 2'000;  // fewer say little about speed
constexpr std::uint64_t rate_unit = 1ull << rate_shift;
constexpr std::uint64_t rate_default = 3ull << 31;  // 1.5 ns a step
constexpr std::uint64_t rate_min = 1ull << 29;      // 1/8 ns a step
constexpr std::uint64_t rate_max = 64ull << 32;

std::uint64_t whole_units(std::uint64_t rate) {
  return std::clamp(rate, rate_min, rate_max) / rate_unit * rate_unit;
}

}  // namespace

std::uint64_t MonotonicClock::now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(now.tv_nsec);
}

void RecordingClock::start(std::uint64_t guest_ns, std::uint64_t host_ns, Position at,
                           std::uint64_t rate) {
  host_ns_at_zero_ = host_ns - guest_ns;
  drift_ns_max_ = drift_ns_low;
  rate_ = whole_units(rate == 0 ? rate_default : rate);
  fastest_rate_ = rate_;
  last_real_ns_ = guest_ns;
  last_steps_ = at.steps;
  slept_ns_ = 0;
  crawling_ = false;
}

bool RecordingClock::sync_due(std::uint64_t guest_ns) {
  const std::uint64_t real_ns = real_guest_ns();
  if (guest_ns > real_ns) return ran_ahead(guest_ns - real_ns);
  return real_ns - guest_ns > drift_ns_max_;
}

// Time that ran ahead is slowed down once; until real time has caught up there is no more to do.
bool RecordingClock::ran_ahead(std::uint64_t by_ns) const {
  return by_ns > drift_ns_low && !crawling_;
}

bool RecordingClock::sync_due_for_devices(std::uint64_t guest_ns, std::uint64_t next_deadline_ns) {
  const std::uint64_t real_ns = real_guest_ns();
  if (guest_ns > real_ns) return ran_ahead(guest_ns - real_ns);
  return real_ns >= next_deadline_ns && real_ns - guest_ns > drift_ns_low;
}

void RecordingClock::measure(Position at, std::uint64_t real_ns) {
  const std::uint64_t steps = at.steps - last_steps_;
  if (steps < measured_steps_min) return;
  const std::uint64_t passed_ns = real_ns - last_real_ns_;
  const std::uint64_t busy_ns = passed_ns - std::min(slept_ns_, passed_ns);
  const std::uint64_t per_step = (std::min<std::uint64_t>(busy_ns, UINT32_MAX) << 32) / steps;
  const std::uint64_t target = per_step - per_step / 16;
  fastest_rate_ = std::min(target, fastest_rate_ + fastest_rate_ / 32);
  fastest_rate_ = std::max(fastest_rate_, rate_min);
  // Falls at once and rises slowly: user code takes time but no steps, so a long stretch of it
  // would make the kernel code after it look far too slow.
  rate_ = std::min({target, rate_ + rate_ / 4, 2 * fastest_rate_});
}

ClockSetting RecordingClock::setting(Position at, std::uint64_t guest_ns) {
  const std::uint64_t real_ns = std::max(real_guest_ns(), last_real_ns_);
  const bool dense = real_ns - last_real_ns_ < dense_interval_ns;
  measure(at, real_ns);
  rate_ = whole_units(rate_);
  crawling_ = guest_ns > real_ns + drift_ns_low;
  drift_ns_max_ = dense ? std::min(drift_ns_max_ + drift_ns_max_ / 8, drift_ns_high)
                        : std::max(drift_ns_max_ - drift_ns_max_ / 4, drift_ns_low);
  last_real_ns_ = real_ns;
  last_steps_ = at.steps;
  slept_ns_ = 0;
  return {std::max(real_ns, guest_ns), crawling_ ? rate_min : rate_};
}

}  // namespace node_mesh
