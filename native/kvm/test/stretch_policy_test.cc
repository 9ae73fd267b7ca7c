// The policy learns by place, and its choices stay within their bounds.
#include "kvm/stretch_policy.h"

#include <doctest/doctest.h>

namespace node_mesh {

TEST_CASE("a place with long stretches goes to the vCPU at once, one with short ones later") {
  StretchPolicy policy(30'000);
  const std::uint64_t first = policy.software_first(0x401000, 0x7ffe0000);
  CHECK(first == 5000);
  policy.note_stretch(10'000'000);
  CHECK(policy.software_first(0x401000, 0x7ffe0000) == 0);
  CHECK(policy.software_first(0x402000, 0x7ffe0000) == first);
  policy.note_stretch(1'000);
  CHECK(policy.software_first(0x402000, 0x7ffe0000) > first);
  for (int n = 0; n < 100; ++n) {
    policy.software_first(0x402000, 0x7ffe0000);
    policy.note_stretch(1'000);
  }
  CHECK(policy.software_first(0x402000, 0x7ffe0000) == 8 * first);
}

TEST_CASE("where user code was stopped by force it goes on in the vCPU") {
  StretchPolicy policy(30'000);
  policy.note_forced_stop(0x403000, 0x7ffe1000);
  CHECK(policy.software_first(0x403000, 0x7ffe1000) == 0);
}

TEST_CASE("bursts after traps grow while the vCPU gets nowhere and stay bounded") {
  StretchPolicy policy(30'000);
  const std::uint64_t before = policy.software_after_trap();
  for (int n = 0; n < 50; ++n)
    policy.note_trap(30'000);
  const std::uint64_t longest = policy.software_after_trap();
  CHECK(longest > before);
  CHECK(longest <= 64'000);
  for (int n = 0; n < 50; ++n)
    policy.note_trap(1'000'000);
  CHECK(policy.software_after_trap() == before);
}

}  // namespace node_mesh
