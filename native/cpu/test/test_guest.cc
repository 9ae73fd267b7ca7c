#include "cpu/test/test_guest.h"

namespace node_mesh::cpu_test {
namespace {

constexpr std::uint64_t present = 1, writable = 2, user = 4, large = 0x80;
constexpr std::uint8_t hlt = 0xf4;

GuestMemory make_memory() {
  auto memory = GuestMemory::create(guest_bytes);
  NM_CHECK(memory.has_value());
  return std::move(*memory);
}

bool pushes_error(int vector) {
  return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

SegmentSnapshot flat(std::uint16_t selector, std::uint16_t attributes) {
  return {selector, 0, 0xffffffff, attributes};
}

}  // namespace

TestGuest::TestGuest() : memory(make_memory()), cpu(memory, bus) {
  bus.cpu = &cpu;
  put64(pml4_at, 0x2000 | present | writable | user);
  put64(0x2000, 0x3000 | present | writable | user);
  for (std::uint64_t table = 0; table < guest_bytes >> 21; ++table) {
    put64(0x3000 + table * 8, (page_table_at + table * 0x1000) | present | writable | user);
  }
  for (std::uint64_t gfn = 0; gfn < guest_bytes >> 12; ++gfn) {
    put64(page_table_at + gfn * 8, gfn << 12 | present | writable | user);
  }
  put64(pml4_at + 256 * 8, high_pdpt_at | present | writable);
  put64(high_pdpt_at, (high_pdpt_at + 0x1000) | present | writable);
  for (std::uint64_t part = 0; part < guest_bytes >> 21; ++part) {
    put64(high_pdpt_at + 0x1000 + part * 8, part << 21 | present | writable | large);
  }
  put64(gdt_at + kernel_code, 0x00af9b000000ffff);
  put64(gdt_at + kernel_data, 0x00cf93000000ffff);
  put64(gdt_at + (user_code32 & ~7u), 0x00cffb000000ffff);
  put64(gdt_at + (user_data & ~7u), 0x00cff3000000ffff);
  put64(gdt_at + (user_code & ~7u), 0x00affb000000ffff);
  put64(gdt_at + task_segment, 0x00008b0000000067 | (tss_at & 0xffff) << 16);
  put64(tss_at + 4, kernel_base + kernel_stack_top);
  put(tss_at + 102, {0x68, 0x00});  // no I/O bitmap
  for (std::uint64_t v = 0; v < 256; ++v) {
    const std::uint64_t target = kernel_base + handlers_at + v * handler_bytes;
    const std::uint64_t dpl3 = v == 3 || v == 0x80 ? 0x60 : 0;
    put64(idt_at + v * 16, (target & 0xffff) | std::uint64_t{kernel_code} << 16 |
                               (0x8e | dpl3) << 40 | ((target >> 16) & 0xffff) << 48);
    put64(idt_at + v * 16 + 8, target >> 32);
    put(handlers_at + v * handler_bytes, {hlt});
  }
}

CpuSnapshot TestGuest::kernel_state() const {
  CpuSnapshot s;
  s.cr0 = 0x80050033;
  s.cr3 = pml4_at;
  s.cr4 = 0x620;
  s.efer = 0xd01;
  s.star = std::uint64_t{0x23} << 48 | std::uint64_t{kernel_code} << 32;
  s.lstar = kernel_base + handlers_at + 0x80 * handler_bytes;
  s.sfmask = 0x700;
  s.gdtr = {kernel_base + gdt_at, 0x4f};
  s.idtr = {kernel_base + idt_at, 0xfff};
  s.tr = {task_segment, kernel_base + tss_at, 0x67, 0x8b};
  s.segments[1] = flat(kernel_code, 0xa09b);
  for (const unsigned index : {0u, 2u, 3u, 4u, 5u})
    s.segments[index] = flat(kernel_data, 0xc093);
  s.rip = code_at;
  s.gpr[4] = stack_top;
  s.gpr[3] = data_at;
  s.rflags = 2;
  s.fpu.x87[0] = 0x7f;
  s.fpu.x87[1] = 0x03;
  return s;
}

CpuSnapshot TestGuest::user_state() const {
  CpuSnapshot s = kernel_state();
  s.segments[1] = flat(user_code, 0xa0fb);
  for (const unsigned index : {0u, 2u, 3u, 4u, 5u})
    s.segments[index] = flat(user_data, 0xc0f3);
  s.rflags = 2 | flag_if;
  return s;
}

CpuSnapshot TestGuest::user32_state() const {
  CpuSnapshot s = user_state();
  s.segments[1] = flat(user_code32, 0xc0fb);
  return s;
}

Frame TestGuest::frame() const {
  const CpuSnapshot s = cpu.snapshot();
  Frame f;
  if (!s.halted) return f;
  f.vector = static_cast<int>((s.rip - 1 - kernel_base - handlers_at) / handler_bytes);
  std::uint64_t at = s.gpr[4] >= kernel_base ? s.gpr[4] - kernel_base : s.gpr[4];
  if (pushes_error(f.vector)) {
    f.error = get64(at);
    at += 8;
  }
  f.rip = get64(at);
  f.cs = get64(at + 8);
  f.rflags = get64(at + 16);
  f.rsp = get64(at + 24);
  f.ss = get64(at + 32);
  return f;
}

}  // namespace node_mesh::cpu_test
