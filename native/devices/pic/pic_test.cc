#include "devices/pic/pic.h"

#include "devices/test/bench.h"

namespace node_mesh {
namespace {

struct PicBench {
  Pic pic;
  void out(std::uint16_t port, std::uint8_t value) { pic.write(port, 1, value, 0); }
  unsigned in(std::uint16_t port) { return pic.read(port, 1, 0); }
  // As Linux does it: vectors 0x30 and 0x38, no automatic EOI, all unmasked.
  void initialise(std::uint8_t icw4 = 0x01) {
    out(0x20, 0x11);
    out(0x21, 0x30);
    out(0x21, 0x04);
    out(0x21, icw4);
    out(0xa0, 0x11);
    out(0xa1, 0x38);
    out(0xa1, 0x02);
    out(0xa1, icw4);
    out(0x21, 0x00);
    out(0xa1, 0x00);
  }
};

TEST_CASE("pic: the mask register can be probed") {
  PicBench bench;
  bench.initialise();
  bench.out(0x21, 0xfb);
  CHECK(bench.in(0x21) == 0xfb);
  bench.out(0xa1, 0xff);
  CHECK(bench.in(0xa1) == 0xff);
}

TEST_CASE("pic: an edge is delivered once and needs its end") {
  PicBench bench;
  bench.initialise();
  bench.pic.set_irq(4, true);
  REQUIRE(bench.pic.interrupt_pending());
  CHECK(bench.pic.acknowledge() == 0x34);
  CHECK_FALSE(bench.pic.interrupt_pending());
  bench.out(0x20, 0x0b);  // read ISR
  CHECK(bench.in(0x20) == 0x10);
  bench.out(0x20, 0x64);  // specific EOI of input 4
  CHECK(bench.in(0x20) == 0);
  CHECK_FALSE(bench.pic.interrupt_pending());  // the line is still high, but that is no edge
  bench.pic.set_irq(4, false);
  bench.pic.set_irq(4, true);
  CHECK(bench.pic.interrupt_pending());
}

TEST_CASE("pic: an edge that falls before the acknowledge cycle is forgotten") {
  PicBench bench;
  bench.initialise();
  bench.pic.set_irq(4, true);
  bench.pic.set_irq(4, false);
  CHECK_FALSE(bench.pic.interrupt_pending());
  CHECK(bench.pic.acknowledge() == 0x37);  // spurious
}

TEST_CASE("pic: priorities nest") {
  PicBench bench;
  bench.initialise();
  bench.pic.set_irq(4, true);
  CHECK(bench.pic.acknowledge() == 0x34);
  bench.pic.set_irq(5, true);
  CHECK_FALSE(bench.pic.interrupt_pending());  // lower than the one in service
  bench.pic.set_irq(0, true);
  CHECK(bench.pic.acknowledge() == 0x30);
  bench.out(0x20, 0x20);  // non-specific: ends the highest, input 0
  CHECK_FALSE(bench.pic.interrupt_pending());
  bench.out(0x20, 0x20);
  CHECK(bench.pic.acknowledge() == 0x35);
}

TEST_CASE("pic: the slave's inputs come through input 2") {
  PicBench bench;
  bench.initialise();
  bench.pic.set_irq(8, true);
  CHECK(bench.pic.acknowledge() == 0x38);
  bench.pic.set_irq(12, true);
  CHECK_FALSE(bench.pic.interrupt_pending());
  bench.out(0xa0, 0x60);  // as Linux: end at the slave, then input 2 at the master
  bench.out(0x20, 0x62);
  REQUIRE(bench.pic.interrupt_pending());
  CHECK(bench.pic.acknowledge() == 0x3c);
}

TEST_CASE("pic: level-triggered inputs by ELCR ask again while the line is high") {
  PicBench bench;
  bench.initialise();
  bench.out(0x4d1, 0xff);
  CHECK(bench.in(0x4d1) == 0xde);
  bench.pic.set_irq(9, true);
  CHECK(bench.pic.acknowledge() == 0x39);
  bench.out(0xa0, 0x61);
  bench.out(0x20, 0x62);
  CHECK(bench.pic.acknowledge() == 0x39);
  bench.pic.set_irq(9, false);
  bench.out(0xa0, 0x61);
  bench.out(0x20, 0x62);
  CHECK_FALSE(bench.pic.interrupt_pending());
}

TEST_CASE("pic: automatic EOI, poll, special mask, rotation") {
  PicBench bench;
  bench.initialise(0x03);
  bench.pic.set_irq(1, true);
  CHECK(bench.pic.acknowledge() == 0x31);
  bench.out(0x20, 0x0b);
  CHECK(bench.in(0x20) == 0);

  bench.initialise();
  bench.pic.set_irq(1, false);
  bench.pic.set_irq(1, true);
  bench.out(0x20, 0x0c);  // poll
  CHECK(bench.in(0x20) == 0x81);
  bench.pic.set_irq(6, true);
  CHECK_FALSE(bench.pic.interrupt_pending());
  bench.out(0x20, 0x68);  // special mask mode
  bench.out(0x21, 0x02);
  CHECK(bench.pic.interrupt_pending());
  bench.out(0x20, 0x48);
  CHECK_FALSE(bench.pic.interrupt_pending());

  bench.initialise();
  bench.out(0x20, 0xc3);  // input 3 is now the lowest
  for (const unsigned irq : {3u, 4u}) {
    bench.pic.set_irq(irq, false);
    bench.pic.set_irq(irq, true);
  }
  CHECK(bench.pic.acknowledge() == 0x34);
}

TEST_CASE("pic: state round trip") {
  PicBench bench;
  bench.initialise();
  bench.pic.set_irq(4, true);
  bench.pic.set_irq(10, true);
  bench.pic.acknowledge();
  Pic fresh;
  check_round_trip(bench.pic, fresh);
}

}  // namespace
}  // namespace node_mesh
