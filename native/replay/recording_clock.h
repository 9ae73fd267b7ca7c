// Keeps a recorded guest's virtual time close to real time with few clock events. It decides when
// the guest could notice a difference and what the clock is then set to; it never sets it itself.
//
// Between two settings virtual time grows with the guest's steps. The rate is measured anew at each
// setting and kept a little low: time that lags is corrected by one event, time that ran ahead can
// only wait, because virtual time never goes back.
#pragma once

#include <cstdint>

#include "machine/machine.h"
#include "replay/host_clock.h"

namespace node_mesh {

class RecordingClock final : public ClockSource {
 public:
  explicit RecordingClock(HostClock& host) : host_(host) {}

  // Real guest time is `guest_ns` at host time `host_ns`; `rate` is the one in force, or 0.
  void start(std::uint64_t guest_ns, std::uint64_t host_ns, Position at, std::uint64_t rate);

  bool sync_due(std::uint64_t guest_ns) override;
  // At a look from outside: should the clock be set so that a device acts or that time slows down?
  bool sync_due_for_devices(std::uint64_t guest_ns, std::uint64_t next_deadline_ns);
  // The setting for the current position; `guest_ns` is virtual time there.
  ClockSetting setting(Position at, std::uint64_t guest_ns);
  // The guest slept, or was not allowed to run, for so long: says nothing about its speed.
  void slept(std::uint64_t ns) { slept_ns_ += ns; }

  std::uint64_t real_guest_ns() { return host_.now_ns() - host_ns_at_zero_; }
  // The host time at which real guest time will be `guest_ns`.
  std::uint64_t host_ns_at(std::uint64_t guest_ns) const { return guest_ns + host_ns_at_zero_; }

 private:
  bool ran_ahead(std::uint64_t by_ns) const;
  void measure(Position at, std::uint64_t real_ns);

  HostClock& host_;
  std::uint64_t host_ns_at_zero_ = 0;  // mod 2^64
  std::uint64_t drift_ns_max_ = 0;
  std::uint64_t rate_ = 0;          // 32.32 ns a step, as measured
  bool crawling_ = false;           // the slowest rate is set, for real time to catch up
  std::uint64_t fastest_rate_ = 0;  // of late
  std::uint64_t last_real_ns_ = 0;
  std::uint64_t last_steps_ = 0;
  std::uint64_t slept_ns_ = 0;
};

}  // namespace node_mesh
