#include "devices/pit/pit.h"

#include "devices/test/bench.h"

namespace node_mesh {
namespace {

struct PitBench {
  RecordedLines lines;
  Pit pit{lines};
  std::uint64_t now = 0;
  void out(std::uint16_t port, std::uint8_t value) { pit.write(port, 1, value, now); }
  unsigned in(std::uint16_t port) { return pit.read(port, 1, now); }
  unsigned in16(std::uint16_t port) {
    const unsigned low = in(port);
    return low | in(port) << 8;
  }
  void go_to(std::uint64_t ns) {  // as the machine does: stop at each deadline
    while (pit.deadline_ns() <= ns) {
      now = pit.deadline_ns();
      pit.advance(now);
    }
    now = ns;
  }
};

constexpr std::uint64_t ms = 1'000'000;

TEST_CASE("pit: mode 2 interrupts at its rate") {
  PitBench bench;
  bench.out(0x43, 0x34);
  bench.out(0x40, 0x9c);
  bench.out(0x40, 0x2e);  // 11932 ticks: 100 Hz
  bench.go_to(1000 * ms);
  CHECK(bench.lines.edges[0] == 99);  // the hundredth tick comes 15 us later
  bench.go_to(1001 * ms);
  CHECK(bench.lines.edges[0] == 100);
}

TEST_CASE("pit: edges that pass in one jump of time are one") {
  PitBench bench;
  bench.out(0x43, 0x34);
  bench.out(0x40, 0x9c);
  bench.out(0x40, 0x2e);
  bench.now = 5000 * ms;
  bench.pit.advance(bench.now);
  CHECK(bench.lines.edges[0] == 1);
  CHECK(bench.pit.deadline_ns() > bench.now);
  CHECK(bench.pit.deadline_ns() < bench.now + 10 * ms);
}

TEST_CASE("pit: one-shot modes fire once for each count") {
  for (const unsigned control : {0x30u, 0x38u}) {  // modes 0 and 4
    PitBench bench;
    bench.out(0x43, static_cast<std::uint8_t>(control));
    bench.out(0x40, 0x00);
    bench.out(0x40, 0x10);
    const std::uint64_t due = bench.pit.deadline_ns();
    CHECK(due >= 4096 * 838ull);
    CHECK(due <= 4098 * 839ull);
    bench.go_to(due - 1);
    CHECK(bench.lines.edges[0] == 0);
    bench.go_to(due);
    CHECK(bench.lines.edges[0] == 1);
    CHECK(bench.pit.deadline_ns() == no_deadline);
    bench.out(0x40, 0x00);
    bench.out(0x40, 0x10);
    bench.go_to(bench.now + due + 10'000);
    CHECK(bench.lines.edges[0] == 2);
  }
}

TEST_CASE("pit: a control word without a count stops the channel") {
  PitBench bench;
  bench.out(0x43, 0x34);
  bench.out(0x40, 0);
  bench.out(0x40, 0x10);
  bench.out(0x43, 0x30);
  CHECK(bench.pit.deadline_ns() == no_deadline);
}

TEST_CASE("pit: latch, read back and BCD") {
  PitBench bench;
  bench.out(0x43, 0x34);
  bench.out(0x40, 0x00);
  bench.out(0x40, 0x80);
  bench.now = 1 * ms;  // 1193 ticks
  bench.out(0x43, 0x00);
  bench.now = 2 * ms;
  CHECK(bench.in16(0x40) == 0x8000 - 1193);
  CHECK(bench.in16(0x40) == 0x8000 - 2386);
  bench.out(0x43, 0xc2);  // count and status of channel 0
  CHECK(bench.in(0x40) == 0xb4);
  CHECK(bench.in16(0x40) == 0x8000 - 2386);
  bench.out(0x43, 0x31);  // mode 0, BCD
  bench.out(0x40, 0x00);
  bench.out(0x40, 0x20);  // 2000
  bench.now = 3 * ms;
  CHECK(bench.in16(0x40) == 0x0807);  // 2000 - 1193
}

TEST_CASE("pit: channel 2 by gate and output, as Linux calibrates") {
  PitBench bench;
  bench.out(0x61, 0x01);
  bench.out(0x43, 0xb0);
  bench.out(0x42, 0x9b);
  bench.out(0x42, 0x2e);  // 11931 ticks: 10 ms
  CHECK((bench.in(0x61) & 0x21) == 0x01);
  bench.now = 9 * ms;
  CHECK((bench.in(0x61) & 0x20) == 0);
  bench.out(0x61, 0x00);  // gate low: it stands still
  bench.now = 30 * ms;
  CHECK((bench.in(0x61) & 0x20) == 0);
  bench.out(0x61, 0x01);
  bench.now = 31 * ms;
  CHECK((bench.in(0x61) & 0x20) != 0);
}

TEST_CASE("pit: mode 3 is a square wave") {
  PitBench bench;
  bench.out(0x61, 0x01);
  bench.out(0x43, 0xb6);
  bench.out(0x42, 0xe8);
  bench.out(0x42, 0x03);  // 1000 ticks
  bench.now = 400'000;    // 477 ticks
  CHECK((bench.in(0x61) & 0x20) != 0);
  bench.now = 500'000;  // 596 ticks
  CHECK((bench.in(0x61) & 0x20) == 0);
}

TEST_CASE("pit: state round trip") {
  PitBench bench, other;
  bench.out(0x43, 0x34);
  bench.out(0x40, 0x12);
  bench.out(0x40, 0x34);
  bench.out(0x61, 0x03);
  bench.go_to(100 * ms);
  check_round_trip(bench.pit, other.pit);
}

}  // namespace
}  // namespace node_mesh
