#include "devices/lapic/lapic.h"

#include "devices/ioapic/ioapic.h"
#include "devices/test/bench.h"

namespace node_mesh {
namespace {

struct ApicBench {
  Lapic lapic;
  Ioapic ioapic{lapic};
  std::uint64_t now = 0;
  ApicBench() { lapic.set_end_of_interrupt_sink(&ioapic); }
  void out(unsigned offset, std::uint32_t value) { lapic.write(offset, 4, value, now); }
  std::uint32_t in(unsigned offset) {
    return static_cast<std::uint32_t>(lapic.read(offset, 4, now));
  }
  void redirect(unsigned pin, std::uint64_t entry) {
    ioapic.write(0x00, 4, 0x11 + 2 * pin, now);
    ioapic.write(0x10, 4, entry >> 32, now);
    ioapic.write(0x00, 4, 0x10 + 2 * pin, now);
    ioapic.write(0x10, 4, entry & 0xffff'ffff, now);
  }
  std::uint32_t entry_low(unsigned pin) {
    ioapic.write(0x00, 4, 0x10 + 2 * pin, now);
    return static_cast<std::uint32_t>(ioapic.read(0x10, 4, now));
  }
  void end() { out(0xb0, 0); }
};

constexpr unsigned id = 0x20, task_priority = 0x80, spurious = 0xf0, error_status = 0x280,
                   command_low = 0x300, lvt_timer = 0x320, lvt_lint0 = 0x350, lvt_error = 0x370,
                   initial_count = 0x380, current_count = 0x390, divide = 0x3e0;

TEST_CASE("lapic: as firmware leaves it") {
  ApicBench bench;
  CHECK(bench.in(id) == 0);
  CHECK(bench.in(0x30) == 0x50014);
  CHECK(bench.lapic.passes_external_interrupts());
  std::uint64_t base = 0;
  CHECK(bench.lapic.msr_read(0x1b, base));
  CHECK(base == 0xfee00900);
}

TEST_CASE("lapic: priorities, acknowledge and end of interrupt") {
  ApicBench bench;
  CHECK(bench.lapic.deliver(0, false, 0x41, false));
  CHECK(bench.lapic.deliver(0xff, false, 0x52, false));
  CHECK_FALSE(bench.lapic.deliver(7, false, 0x60, false));
  CHECK(bench.lapic.acknowledge() == 0x52);
  CHECK(bench.in(0xa0) == 0x50);
  CHECK_FALSE(bench.lapic.interrupt_pending());
  CHECK(bench.lapic.deliver(0, false, 0x53, false));
  CHECK_FALSE(bench.lapic.interrupt_pending());  // the same class waits
  bench.end();
  CHECK(bench.lapic.acknowledge() == 0x53);
  bench.end();
  bench.out(task_priority, 0x40);
  CHECK_FALSE(bench.lapic.interrupt_pending());
  CHECK(bench.lapic.acknowledge() == 0xff);  // spurious, nothing goes in service
  bench.out(task_priority, 0);
  CHECK(bench.lapic.acknowledge() == 0x41);
}

TEST_CASE("lapic: timer one-shot and periodic at 25 MHz") {
  ApicBench bench;
  bench.out(divide, 0x3);  // by 16
  bench.out(lvt_timer, 0xec);
  bench.out(initial_count, 1000);
  CHECK(bench.lapic.deadline_ns() == 1000 * 16 * 40);
  bench.now = 320'000;
  CHECK(bench.in(current_count) == 500);
  bench.lapic.advance(bench.now);
  CHECK_FALSE(bench.lapic.interrupt_pending());
  bench.now = 640'000;
  bench.lapic.advance(bench.now);
  CHECK(bench.lapic.acknowledge() == 0xec);
  CHECK(bench.lapic.deadline_ns() == no_deadline);
  CHECK(bench.in(current_count) == 0);
  bench.end();
  bench.out(lvt_timer, 0x200ec);
  bench.out(divide, 0xb);  // by 1
  bench.out(initial_count, 25'000);
  CHECK(bench.lapic.deadline_ns() == 640'000 + 1'000'000);
  bench.now = 640'000 + 3'500'000;  // time jumped over two more
  bench.lapic.advance(bench.now);
  CHECK(bench.lapic.deadline_ns() == 640'000 + 4'000'000);
  bench.out(initial_count, 0);
  CHECK(bench.lapic.deadline_ns() == no_deadline);
}

TEST_CASE("lapic: TSC deadline") {
  ApicBench bench;
  std::uint64_t value = 1;
  CHECK(bench.lapic.msr_write(0x6e0, 5000, 0));  // not in that mode: ignored
  CHECK(bench.lapic.deadline_ns() == no_deadline);
  bench.out(lvt_timer, 0x400ec);
  bench.lapic.set_tsc_offset(1000);
  CHECK(bench.lapic.msr_write(0x6e0, 5000, 0));
  CHECK(bench.lapic.deadline_ns() == 4000);
  bench.lapic.set_tsc_offset(static_cast<std::uint64_t>(-1000));
  CHECK(bench.lapic.deadline_ns() == 6000);
  CHECK(bench.lapic.msr_write(0x6e0, UINT64_MAX, 0));
  CHECK(bench.lapic.deadline_ns() == no_deadline);
  bench.lapic.set_tsc_offset(6000);
  CHECK(bench.lapic.msr_write(0x6e0, 5000, 0));
  CHECK(bench.lapic.deadline_ns() == 0);  // long past
  bench.lapic.advance(0);
  CHECK(bench.lapic.acknowledge() == 0xec);
  CHECK(bench.lapic.msr_read(0x6e0, value));
  CHECK(value == 0);
}

TEST_CASE("lapic: LINT0 passes the 8259s or is an interrupt of its own") {
  ApicBench bench;
  bench.out(lvt_lint0, 0x10700);
  CHECK_FALSE(bench.lapic.passes_external_interrupts());
  bench.out(lvt_lint0, 0x31);
  bench.lapic.set_lint0(true);
  CHECK(bench.lapic.acknowledge() == 0x31);
}

TEST_CASE("lapic: self IPI, illegal vectors, error interrupt") {
  ApicBench bench;
  bench.out(command_low, 0x000400f1);
  CHECK(bench.lapic.acknowledge() == 0xf1);
  bench.end();
  bench.out(0x310, 0);
  bench.out(command_low, 0x000000f2);
  CHECK(bench.lapic.acknowledge() == 0xf2);
  bench.end();
  bench.out(command_low, 0x000c00f3);  // all but self: nobody
  CHECK_FALSE(bench.lapic.interrupt_pending());
  bench.out(lvt_error, 0xfe);
  bench.out(command_low, 0x00040005);
  CHECK(bench.lapic.acknowledge() == 0xfe);
  CHECK(bench.in(error_status) == 0);
  bench.out(error_status, 0);
  CHECK(bench.in(error_status) == 0x20);
}

TEST_CASE("lapic: switched off by software and by MSR") {
  ApicBench bench;
  bench.out(lvt_timer, 0xec);
  bench.out(spurious, 0x0ff);
  CHECK(bench.in(lvt_timer) == 0x100ec);
  bench.out(lvt_timer, 0xec);
  CHECK(bench.in(lvt_timer) == 0x100ec);                    // stays masked while off
  CHECK_FALSE(bench.lapic.msr_write(0x1b, 0xfee00d00, 0));  // x2APIC: #GP
  CHECK(bench.lapic.msr_write(0x1b, 0xfee00000, 0));
  CHECK_FALSE(bench.lapic.globally_enabled());
  CHECK(bench.lapic.passes_external_interrupts());
}

TEST_CASE("ioapic: edges, also those that come while masked") {
  ApicBench bench;
  bench.redirect(4, 0x34);
  bench.ioapic.set_isa_irq(4, true);
  CHECK(bench.lapic.acknowledge() == 0x34);
  bench.end();
  CHECK_FALSE(bench.lapic.interrupt_pending());
  bench.ioapic.set_isa_irq(4, false);
  bench.redirect(4, 0x10034);
  bench.ioapic.set_isa_irq(4, true);
  CHECK_FALSE(bench.lapic.interrupt_pending());
  bench.redirect(4, 0x34);
  CHECK(bench.lapic.acknowledge() == 0x34);
  bench.redirect(2, 0x30);
  bench.ioapic.set_isa_irq(0, true);
  bench.end();
  CHECK(bench.lapic.acknowledge() == 0x30);
}

TEST_CASE("ioapic: level-triggered, with its end broadcast") {
  ApicBench bench;
  bench.redirect(9, 0x8039);
  bench.ioapic.set_isa_irq(9, true);
  CHECK(bench.lapic.acknowledge() == 0x39);
  CHECK((bench.entry_low(9) & 0x4000) != 0);
  bench.end();
  CHECK(bench.lapic.acknowledge() == 0x39);  // still asserted
  bench.ioapic.set_isa_irq(9, false);
  bench.end();
  CHECK_FALSE(bench.lapic.interrupt_pending());
  CHECK((bench.entry_low(9) & 0x4000) == 0);
}

TEST_CASE("lapic and ioapic: state round trip") {
  ApicBench bench, other;
  bench.redirect(4, 0x34);
  bench.ioapic.set_isa_irq(4, true);
  bench.out(lvt_timer, 0x200ec);
  bench.out(initial_count, 77);
  check_round_trip(bench.lapic, other.lapic);
  check_round_trip(bench.ioapic, other.ioapic);
}

}  // namespace
}  // namespace node_mesh
