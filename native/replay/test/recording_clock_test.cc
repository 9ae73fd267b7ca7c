// Virtual time against real time, for guests that are simulated as steps that take a while: it
// stays close where the guest looks, never goes back, and takes few events.
#include "replay/recording_clock.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "replay/log_schema.h"

namespace node_mesh {
namespace {

class HandClock final : public HostClock {
 public:
  std::uint64_t now_ns() override { return static_cast<std::uint64_t>(now); }
  double now = 5e9;
};

struct Guest {
  explicit Guest(HandClock& clock) : host(clock), recording(clock) {
    recording.start(0, host.now_ns(), {0, 0}, 0);
    setting.ns_per_step = 3ull << 31;
  }

  std::uint64_t guest_ns() const {
    return setting.ns + ((steps - setting_steps) * setting.ns_per_step >> 32);
  }

  void look() {
    const std::uint64_t before = guest_ns();
    if (recording.sync_due(before)) {
      setting = recording.setting({steps, 0}, before);
      setting_steps = steps;
      ++events;
      CHECK(setting.ns >= before);
      CHECK((setting.ns_per_step >> rate_shift << rate_shift) == setting.ns_per_step);
    }
    const auto real = static_cast<std::int64_t>(recording.real_guest_ns());
    const auto drift = static_cast<std::int64_t>(guest_ns()) - real;
    ahead_max = std::max(ahead_max, drift);
    behind_max = std::max(behind_max, -drift);
  }

  // Runs kernel code that looks at the time every `interval` steps.
  void run(double seconds, double ns_per_step, std::uint64_t interval) {
    for (const double end = host.now + seconds * 1e9; host.now < end;) {
      steps += interval;
      host.now += static_cast<double>(interval) * ns_per_step;
      look();
    }
  }

  HandClock& host;
  RecordingClock recording;
  ClockSetting setting;
  std::uint64_t setting_steps = 0;
  std::uint64_t steps = 0;
  std::uint64_t events = 0;
  std::int64_t ahead_max = 0;
  std::int64_t behind_max = 0;
};

TEST_CASE("a steady guest: few events, close time") {
  HandClock host;
  Guest guest(host);
  guest.run(2, 2.5, 2'000);
  CHECK(guest.events < 2'000);
  CHECK(guest.behind_max <= 260'000);
  CHECK(guest.ahead_max <= 260'000);
}

TEST_CASE("a guest that changes its speed tenfold, both ways") {
  HandClock host;
  Guest guest(host);
  for (int i = 0; i < 100; ++i)
    guest.run(0.01, i % 2 == 0 ? 2 : 20, 1'000);
  CHECK(guest.events < 5'000);
  CHECK(guest.behind_max <= 270'000);
  CHECK(guest.ahead_max <= 500'000);
}

TEST_CASE("time that ran ahead is slowed down once and then waited for") {
  HandClock host;
  Guest guest(host);
  guest.run(0.1, 20, 1'000);
  const std::uint64_t before = guest.events;
  guest.steps += 10'000'000;  // 20 times as fast, without a look
  host.now += 10'000'000;
  for (int i = 0; i < 10'000; ++i)
    guest.look();
  CHECK(guest.events <= before + 1);
  guest.run(0.1, 1, 1'000);
  CHECK(guest.events < before + 200);
}

TEST_CASE("sleep says nothing about speed") {
  HandClock host;
  Guest guest(host);
  guest.run(0.1, 2, 1'000);
  for (int i = 0; i < 50; ++i) {
    host.now += 100e6;
    guest.recording.slept(100'000'000);
    guest.run(0.001, 2, 1'000);
  }
  CHECK(guest.setting.ns_per_step <= 2ull << 32);
  CHECK(guest.ahead_max <= 260'000);
}

TEST_CASE("a deadline that passed in real time alone asks for a setting") {
  HandClock host;
  Guest guest(host);
  host.now += 1e6;
  CHECK(guest.recording.sync_due_for_devices(0, 500'000));
  CHECK(!guest.recording.sync_due_for_devices(0, 2'000'000));
  CHECK(!guest.recording.sync_due_for_devices(950'000, 960'000));  // its own steps will get there
}

}  // namespace
}  // namespace node_mesh
