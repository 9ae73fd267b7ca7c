#include "test/differential/guest_runner.h"

#include <cstring>
#include <span>

#include "cpu/bus.h"
#include "cpu/cpu.h"
#include "machine/check.h"
#include "machine/guest_memory.h"

namespace node_mesh::differential {
namespace {

constexpr std::uint64_t memory_bytes = 4 << 20;
// Guest-physical places.
constexpr std::uint64_t pml4 = 0x1000, low_pdpt = 0x2000, low_pd = 0x3000, low_pt = 0x4000;
constexpr std::uint64_t high_pdpt = 0x5000, high_pd = 0x6000;
constexpr std::uint64_t gdt = 0x8000, idt = 0x9000, tss = 0xa000, handlers = 0xb000;
constexpr std::uint64_t exception_stack_top = 0xd000;
constexpr std::uint64_t code_frame = 0x10000, data_frame = 0x12000, constant_frame = 0x14000,
                        stack_frame = 0x15000;
// The kernel's view of physical memory.
constexpr std::uint64_t kernel_base = 0xffff800000000000;

constexpr std::uint64_t present = 1, writable = 2, user = 4, accessed = 0x20, dirty = 0x40,
                        large = 0x80;
constexpr std::uint16_t kernel_code = 0x10, kernel_data = 0x18, user_data = 0x2b, user_code = 0x33,
                        task = 0x40;
constexpr std::uint64_t handler_bytes = 16;
constexpr std::uint8_t hlt = 0xf4;
constexpr unsigned vectors = 32;
constexpr std::uint64_t flag_bits = 0xcd5;
constexpr std::uint64_t slices_max = 100000, program_steps_max = 1000000;
constexpr std::uint64_t first_step = 1000;

class EmptyBus final : public Bus {
 public:
  std::uint64_t pio_read(std::uint16_t, unsigned) override { return ~std::uint64_t{0}; }
  void pio_write(std::uint16_t, unsigned, std::uint64_t) override {}
  std::uint64_t mmio_read(std::uint64_t, unsigned) override { return ~std::uint64_t{0}; }
  void mmio_write(std::uint64_t, unsigned, std::uint64_t) override {}
  std::uint64_t time_stamp(std::uint64_t steps) override { return steps; }
  bool time_sync_due(std::uint64_t) override { return false; }
  bool reschedule_requested() override { return false; }
  std::uint8_t acknowledge_interrupt() override { return 0xff; }
  bool msr_read(std::uint32_t, std::uint64_t&) override { return false; }
  bool msr_write(std::uint32_t, std::uint64_t) override { return false; }
  CpuidResult cpuid(std::uint32_t, std::uint32_t) override { return {0, 0, 0, 0}; }
};

GuestMemory make_memory() {
  auto memory = GuestMemory::create(memory_bytes);
  NM_CHECK(memory.has_value());
  return std::move(*memory);
}

bool pushes_error_code(unsigned vector) {
  return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

}  // namespace

class GuestRunner::Impl {
 public:
  Impl() : memory_(make_memory()), cpu_(memory_, bus_) {
    build_page_tables();
    build_tables();
    put_bytes(handlers, std::array<std::uint8_t, vectors * handler_bytes>{});
    for (unsigned v = 0; v < vectors; ++v)
      put_bytes(handlers + v * handler_bytes, std::array{hlt});
  }

  void run(const Case& test, Outcome& outcome) {
    put_bytes(data_frame, test.start.data);
    put_bytes(stack_frame, test.start.stack);
    put_bytes(constant_frame, test.start.constants);
    put_bytes(code_frame + (test.start.rip - code_address),
              std::span<const std::uint8_t>(test.code.data(), test.length));
    put_bytes(code_frame + (test.start.rip - code_address) + test.length, std::array{int3, int3});
    cpu_.restore(snapshot_of(test));
    const RunExit exit = execute(test);
    report(test, exit, outcome);
  }

 private:
  static constexpr std::uint8_t int3 = 0xcc;

  template <class Bytes>
  void put_bytes(std::uint64_t gpa, const Bytes& bytes) {
    NM_CHECK(memory_.write(gpa, std::as_bytes(std::span(bytes))));
    cpu_.memory_written(gpa, bytes.size());
  }
  void put64(std::uint64_t gpa, std::uint64_t value) {
    put_bytes(gpa, std::bit_cast<std::array<std::uint8_t, 8>>(value));
  }
  std::uint64_t get64(std::uint64_t gpa) const {
    std::array<std::byte, 8> bytes{};
    NM_CHECK(memory_.read(gpa, bytes));
    return std::bit_cast<std::uint64_t>(bytes);
  }

  void map(std::uint64_t address, std::uint64_t frame, std::size_t pages, std::uint64_t rights) {
    for (std::size_t i = 0; i < pages; ++i) {
      const std::uint64_t index = (address / page + i) % 512;
      put64(low_pt + 8 * index, (frame + i * page) | present | rights | accessed | dirty);
    }
  }

  void build_page_tables() {
    const std::uint64_t table = present | writable | user | accessed;
    put64(pml4, low_pdpt | table);
    put64(low_pdpt, low_pd | table);
    put64(low_pd + 8 * (code_address >> 21), low_pt | table);
    put64(pml4 + 8 * 256, high_pdpt | table);
    put64(high_pdpt, high_pd | table);
    for (std::uint64_t i = 0; i < memory_bytes >> 21; ++i) {
      put64(high_pd + 8 * i, i << 21 | present | writable | accessed | dirty | large);
    }
    map(code_address, code_frame, code_pages, user | writable);
    map(data_address, data_frame, data_pages, user | writable);
    map(constant_address, constant_frame, 1, user);
    map(stack_address, stack_frame, 1, user | writable);
  }

  void build_tables() {
    put64(gdt + kernel_code, 0x00af9b000000ffff);
    put64(gdt + kernel_data, 0x00cf93000000ffff);
    put64(gdt + (user_data & ~7u), 0x00cff3000000ffff);
    put64(gdt + (user_code & ~7u), 0x00affb000000ffff);
    const std::uint64_t base = kernel_base + tss;
    put64(gdt + task,
          0x67 | (base & 0xffffff) << 16 | std::uint64_t{0x8b} << 40 | ((base >> 24) & 0xff) << 56);
    put64(gdt + task + 8, base >> 32);
    const std::uint64_t stack = kernel_base + exception_stack_top;
    put64(tss + 4, stack);     // RSP0
    put64(tss + 0x24, stack);  // IST1
    for (unsigned v = 0; v < vectors; ++v) {
      const std::uint64_t target = kernel_base + handlers + v * handler_bytes;
      // Interrupt gate, DPL 3 (so that INT3 works), IST1.
      put64(idt + 16 * v, (target & 0xffff) | std::uint64_t{kernel_code} << 16 |
                              std::uint64_t{1} << 32 | std::uint64_t{0xee} << 40 |
                              ((target >> 16) & 0xffff) << 48);
      put64(idt + 16 * v + 8, target >> 32);
    }
  }

  CpuSnapshot snapshot_of(const Case& test) const {
    CpuSnapshot s;
    s.gpr = test.start.gpr;
    s.rip = test.start.rip;
    s.rflags = (test.start.rflags & flag_bits) | 0x202;
    const SegmentSnapshot data{test.kernel ? kernel_data : user_data, 0, 0xffffffff,
                               static_cast<std::uint16_t>(test.kernel ? 0xc093 : 0xc0f3)};
    for (SegmentSnapshot& segment : s.segments)
      segment = data;
    s.segments[1] = {test.kernel ? kernel_code : user_code, 0, 0xffffffff,
                     static_cast<std::uint16_t>(test.kernel ? 0xa09b : 0xa0fb)};
    s.segments[5].base = gs_base;
    s.tr = {task, kernel_base + tss, 0x67, 0x8b};
    s.ldtr = {0, 0, 0, 0x82};
    s.gdtr = {kernel_base + gdt, 0x4f};
    s.idtr = {kernel_base + idt, vectors * 16 - 1};
    s.cr0 = 0x80050033;
    s.cr3 = pml4;
    s.cr4 = 0x620;   // PAE, OSFXSR, OSXMMEXCPT
    s.efer = 0xd01;  // SCE, LME, LMA, NXE
    std::memcpy(s.fpu.xmm.data(), test.start.xmm.data(), sizeof s.fpu.xmm);
    std::memcpy(s.fpu.x87.data(), test.start.x87.data(), test.start.x87.size());
    s.fpu.mxcsr = test.start.mxcsr;
    s.position = {first_step, 0};
    return s;
  }

  bool in_handler() const { return cpu_.snapshot().rip >= kernel_base + handlers; }

  RunExit execute(const Case& test) {
    if (test.kind == CaseKind::program) {
      // Ends with INT3, whose handler halts.
      const Position limit =
          test.kernel ? Position{first_step + program_steps_max, 0} : Position{first_step + 1, 0};
      for (std::uint64_t i = 0; i < program_steps_max; ++i) {
        const RunExit exit = cpu_.run(limit);
        if (exit != RunExit::limit || cpu_.position() >= limit) return exit;
      }
      return RunExit::limit;
    }
    RunExit exit = RunExit::limit;
    for (std::uint64_t i = 1; i < slices_max; ++i) {
      exit = cpu_.run(test.kernel ? Position{first_step + i, 0} : Position{first_step, i});
      if (exit != RunExit::limit || in_handler()) break;
      // A repeated string instruction goes on until it has left its place.
      if (test.kind == CaseKind::branch || cpu_.snapshot().rip != test.start.rip) break;
    }
    return exit;
  }

  void report(const Case& test, RunExit exit, Outcome& outcome) {
    const CpuSnapshot s = cpu_.snapshot();
    State& end = outcome.end;
    end.gpr = s.gpr;
    end.rip = s.rip;
    end.rflags = s.rflags & flag_bits;
    std::memcpy(end.xmm.data(), s.fpu.xmm.data(), sizeof end.xmm);
    std::memcpy(end.x87.data(), s.fpu.x87.data(), end.x87.size());
    end.mxcsr = s.fpu.mxcsr;
    NM_CHECK(memory_.read(data_frame, std::as_writable_bytes(std::span(end.data))));
    NM_CHECK(memory_.read(stack_frame, std::as_writable_bytes(std::span(end.stack))));
    outcome.vector = no_vector;
    outcome.error_code = 0;
    outcome.fault_address = 0;
    const std::uint64_t offset = s.rip - (kernel_base + handlers);
    if (exit == RunExit::unsupported || exit == RunExit::triple_fault) {
      outcome.vector = did_not_end;
    } else if (offset < vectors * handler_bytes) {
      read_frame(static_cast<unsigned>(offset / handler_bytes), s, outcome);
      if (outcome.vector == 3 && end.rip == test.start.rip + test.length + 1) {
        end.rip -= 1;
        outcome.vector = no_vector;
      }
    }
  }

  void read_frame(unsigned vector, const CpuSnapshot& s, Outcome& outcome) const {
    outcome.vector = static_cast<int>(vector);
    std::uint64_t at = s.gpr[4] - kernel_base;
    if (pushes_error_code(vector)) {
      outcome.error_code = get64(at);
      at += 8;
    }
    outcome.end.rip = get64(at);
    outcome.end.rflags = get64(at + 16) & flag_bits;
    outcome.end.gpr[4] = get64(at + 24);
    if (vector == 14) outcome.fault_address = s.cr2;
  }

  GuestMemory memory_;
  EmptyBus bus_;
  Cpu cpu_;
};

GuestRunner::GuestRunner() : impl_(std::make_unique<Impl>()) {}
GuestRunner::~GuestRunner() = default;
void GuestRunner::run(const Case& test, Outcome& outcome) { impl_->run(test, outcome); }

}  // namespace node_mesh::differential
