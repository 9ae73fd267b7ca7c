#include "wire/output_delay.h"

#include <doctest/doctest.h>

namespace node_mesh {
namespace {

TEST_CASE("without a sample there is nothing to say") { CHECK(OutputDelay().summary().count == 0); }

TEST_CASE("the median and the worst of the newest samples") {
  OutputDelay delay;
  for (int i = 0; i < 1000; ++i)
    delay.add(90'000'000);
  for (std::uint64_t i = 1; i <= 512; ++i)
    delay.add(i * 1'000);
  const auto summary = delay.summary();
  CHECK(summary.count == 1512);
  CHECK(summary.median_us == 256);
  CHECK(summary.p99_us == 506);
}

TEST_CASE("a delay beyond all measure is kept as the largest number") {
  OutputDelay delay;
  delay.add(UINT64_MAX);
  CHECK(delay.summary().median_us == UINT32_MAX);
}

}  // namespace
}  // namespace node_mesh
