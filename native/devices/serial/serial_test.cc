#include "devices/serial/serial.h"

#include "devices/test/bench.h"

namespace node_mesh {
namespace {

struct SerialBench final : SerialOutput {
  RecordedLines lines;
  Serial serial{lines, *this};
  std::string sent;
  std::uint64_t now = 0;

  void serial_output(std::byte value) override { sent.push_back(static_cast<char>(value)); }
  void out(unsigned index, std::uint8_t value) {
    serial.write(static_cast<std::uint16_t>(0x3f8 + index), 1, value, now);
  }
  unsigned in(unsigned index) {
    return serial.read(static_cast<std::uint16_t>(0x3f8 + index), 1, now);
  }
  std::size_t type(std::string_view text) {
    return serial.input(std::as_bytes(std::span<const char>(text)), now);
  }
  void until_deadline() {
    REQUIRE(serial.deadline_ns() != no_deadline);
    now = std::max(now, serial.deadline_ns());
    serial.advance(now);
  }
  void set_up() {  // 115200 8N1, FIFO with trigger level 14, RTS and DTR
    out(3, 0x83);
    out(0, 1);
    out(1, 0);
    out(3, 0x03);
    out(2, 0xc7);
    out(4, 0x0b);
  }
};

TEST_CASE("serial: what is written comes out at once, in order") {
  SerialBench bench;
  bench.set_up();
  for (const char c : std::string_view("hello"))
    bench.out(0, static_cast<std::uint8_t>(c));
  CHECK(bench.sent == "hello");
  CHECK(bench.in(5) == 0x60);
  CHECK(bench.serial.output_bytes() == 5);
}

TEST_CASE("serial: detected as a 16550A") {
  SerialBench bench;
  bench.out(2, 0x01);
  CHECK((bench.in(2) & 0xc0) == 0xc0);
  bench.out(2, 0x00);
  CHECK((bench.in(2) & 0xc0) == 0);
  bench.out(7, 0x5a);
  CHECK(bench.in(7) == 0x5a);
  bench.out(1, 0xff);
  CHECK(bench.in(1) == 0x0f);
  bench.out(3, 0x80);
  bench.out(0, 0x34);
  bench.out(1, 0x12);
  CHECK(bench.in(0) == 0x34);
  CHECK(bench.in(1) == 0x12);
}

TEST_CASE("serial: enabling the transmitter interrupt raises it, reading IIR takes it back") {
  SerialBench bench;
  bench.set_up();
  bench.out(1, 0x02);
  CHECK(bench.lines.level[4]);
  CHECK(bench.in(2) == 0xc2);
  CHECK_FALSE(bench.lines.level[4]);
  CHECK(bench.in(2) == 0xc1);
  bench.out(0, 'x');
  CHECK(bench.lines.level[4]);
  CHECK(bench.lines.edges[4] == 2);
  bench.out(1, 0);
  CHECK_FALSE(bench.lines.level[4]);
  bench.in(2);
  bench.out(1, 0x02);  // a driver tests exactly this: it must come again
  CHECK(bench.in(2) == 0xc2);
}

TEST_CASE("serial: input arrives at line speed and without loss") {
  SerialBench bench;
  bench.set_up();
  bench.out(1, 0x01);
  std::string text;
  for (int i = 0; i < 100; ++i)
    text.push_back(static_cast<char>(' ' + i % 64));
  CHECK(bench.type(text) == text.size());
  std::string got;
  while (got.size() < text.size()) {
    REQUIRE(bench.lines.level[4]);
    CHECK((bench.in(2) & 0x0f) == (text.size() - got.size() >= 14 ? 0x04 : 0x0c));
    unsigned burst = 0;
    while ((bench.in(5) & 1) != 0) {
      got.push_back(static_cast<char>(bench.in(0)));
      ++burst;
    }
    CHECK(burst <= 16);
    CHECK_FALSE(bench.lines.level[4]);
    if (got.size() < text.size()) bench.until_deadline();
  }
  CHECK(got == text);
  CHECK(bench.serial.deadline_ns() == no_deadline);
  // 96 characters of 10 bits at 115200 went by before the last burst.
  CHECK(bench.now >= 96 * 86'000);
  CHECK(bench.now <= 96 * 87'000);
}

TEST_CASE("serial: input waits while RTS is low") {
  SerialBench bench;
  bench.out(4, 0x00);
  bench.type("abc");
  CHECK(bench.serial.deadline_ns() == no_deadline);
  CHECK((bench.in(5) & 1) == 0);
  bench.out(4, 0x02);
  CHECK((bench.in(5) & 1) == 1);
  CHECK(bench.in(0) == 'a');
}

TEST_CASE("serial: the input queue is bounded and says how much it took") {
  SerialBench bench;
  const std::string big(Serial::input_bytes_max - 1, 'x');
  CHECK(bench.type(big) == big.size());
  CHECK(bench.type("yz") == 1);
  CHECK(bench.type("z") == 0);
}

TEST_CASE("serial: loopback") {
  SerialBench bench;
  bench.set_up();
  bench.out(4, 0x1a);  // RTS and OUT2, looped
  CHECK((bench.in(6) & 0xf0) == 0x90);
  bench.out(0, 'q');
  CHECK(bench.sent.empty());
  CHECK(bench.in(0) == 'q');
  for (int i = 0; i < 17; ++i)
    bench.out(0, 'r');
  CHECK((bench.in(5) & 0x02) != 0);  // overrun, once
  CHECK((bench.in(5) & 0x02) == 0);
  bench.out(2, 0x03);
  CHECK((bench.in(5) & 0x01) == 0);
}

TEST_CASE("serial: state round trip") {
  SerialBench bench, other;
  bench.set_up();
  bench.type("some typed text, more than a FIFO");
  bench.out(0, 'o');
  bench.in(0);
  check_round_trip(bench.serial, other.serial);
}

}  // namespace
}  // namespace node_mesh
