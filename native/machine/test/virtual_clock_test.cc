#include "machine/virtual_clock.h"

#include <doctest/doctest.h>

#include <random>

namespace node_mesh {
namespace {

TEST_CASE("virtual clock: the first step of a time is the first, at any rate") {
  std::mt19937_64 random(1);
  for (int round = 0; round < 20'000; ++round) {
    VirtualClock clock(0);
    const std::uint64_t rate = random() >> (random() % 40 + 20);
    const std::uint64_t steps = random() >> 30;
    clock.set({random() >> 20, rate}, steps);
    const std::uint64_t target = clock.base_ns() + (random() >> 34);
    const std::uint64_t first = clock.first_step_at(target);
    if (first == UINT64_MAX) {
      CHECK(rate == 0);
      continue;
    }
    CHECK(clock.ns_at(first) >= target);
    if (first > clock.base_steps()) CHECK(clock.ns_at(first - 1) < target);
  }
}

TEST_CASE("virtual clock: default rate, standing still, no way back") {
  VirtualClock clock(0);
  CHECK(clock.ns_at(1234) == 1234);
  clock.set({100, 0}, 1000);  // 100 is past: it stays 1000
  CHECK(clock.ns_at(1'000'000) == 1000);
  CHECK(clock.first_step_at(1000) == 1000);
  CHECK(clock.first_step_at(1001) == UINT64_MAX);
  clock.set({UINT64_MAX - 5, UINT64_MAX}, 2000);
  CHECK(clock.ns_at(UINT64_MAX) == UINT64_MAX);
  CHECK(clock.first_step_at(UINT64_MAX) == UINT64_MAX);
}

}  // namespace
}  // namespace node_mesh
