#include "kvm/monitor_page.h"

#include <sys/random.h>

#include <cstring>
#include <ctime>

namespace node_mesh {
namespace {

constexpr std::uint64_t page_size = 4096;
// Places inside of the page of tables.
constexpr unsigned gdt_at = 0, tss_at = 0x100, idt_at = 0x200;
constexpr unsigned tss_bytes = 104;
// Ports up to the two of the stubs; a byte of ones ends the bitmap.
constexpr unsigned io_bitmap_bytes = MonitorPage::syscall_port / 8 + 1;
constexpr unsigned tss_limit = tss_bytes + io_bitmap_bytes;
constexpr unsigned stub_bytes = 8;
constexpr std::uint16_t task_selector = 0x40;
constexpr unsigned gdt_bytes = task_selector + 16;

// Below the heaps of position-independent programs, above what is placed low.
constexpr unsigned first_root_index = 40, root_index_count = 110;

constexpr bool has_error_code(unsigned vector) {
  return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21;
}

template <class T>
void put(std::byte* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

kvm_segment flat(std::uint16_t selector, unsigned type, unsigned dpl, bool code) {
  kvm_segment segment{};
  segment.limit = 0xffffffff;
  segment.selector = selector;
  segment.type = static_cast<__u8>(type);
  segment.present = 1;
  segment.dpl = static_cast<__u8>(dpl);
  segment.s = 1;
  segment.l = code ? 1 : 0;
  segment.db = code ? 0 : 1;
  segment.g = 1;
  return segment;
}

}  // namespace

MonitorPage::MonitorPage(std::byte* memory, std::uint64_t base) : memory_(memory), base_(base) {
  write_tables();
  write_stubs();
}

std::uint64_t MonitorPage::random_base() {
  std::uint64_t bits = 0;
  if (::getrandom(&bits, sizeof bits, 0) != static_cast<ssize_t>(sizeof bits)) {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    bits = static_cast<std::uint64_t>(now.tv_nsec) * 0x9e3779b97f4a7c15u;
  }
  const std::uint64_t slot = first_root_index + (bits >> 40) % root_index_count;
  // The four pages lie in one page table.
  const std::uint64_t page = (bits & 0x7ffffff) & ~std::uint64_t{page_count - 1};
  return slot << 39 | page * page_size;
}

void MonitorPage::write_tables() {
  std::byte* page = memory_ + tables * page_size;
  const std::uint64_t descriptors[] = {
      0,
      0,
      0x00af9b000000ffff,  // 10: kernel code
      0x00cf93000000ffff,  // 18: kernel data
      0,
      0x00cff3000000ffff,  // 28: user data
      0x00affb000000ffff,  // 30: user code
  };
  std::memcpy(page + gdt_at, descriptors, sizeof descriptors);
  const std::uint64_t tss = base_ + tss_at;
  put<std::uint64_t>(page + gdt_at + task_selector, tss_limit | (tss & 0xffffff) << 16 |
                                                        std::uint64_t{0x8b} << 40 |
                                                        ((tss >> 24) & 0xff) << 56);
  put<std::uint64_t>(page + gdt_at + task_selector + 8, tss >> 32);
  put<std::uint64_t>(page + tss_at + 4, address(exception_stack) + page_size);  // RSP0
  put<std::uint16_t>(page + tss_at + 102, tss_bytes);
  std::byte* bitmap = page + tss_at + tss_bytes;
  std::memset(bitmap, 0xff, io_bitmap_bytes + 1);
  bitmap[syscall_port / 8] = std::byte{static_cast<unsigned char>(~(1u << (syscall_port % 8)))};
  for (unsigned vector = 0; vector < vector_count; ++vector) {
    const std::uint64_t stub = address(exception_stubs) + vector * stub_bytes;
    // An interrupt gate for level 0: INT n of user code is #GP in front of the instruction.
    put<std::uint64_t>(page + idt_at + vector * 16,
                       (stub & 0xffff) | std::uint64_t{kernel_code} << 16 |
                           std::uint64_t{0x8e} << 40 | ((stub >> 16) & 0xffff) << 48);
    put<std::uint64_t>(page + idt_at + vector * 16 + 8, stub >> 32);
  }
}

void MonitorPage::write_stubs() {
  const auto stub = [](std::byte* at, std::uint16_t port) {
    const unsigned char code[stub_bytes] = {
        0xe6, static_cast<unsigned char>(port), 0xf4, 0xf4, 0xf4, 0xf4, 0xf4, 0xf4};
    std::memcpy(at, code, sizeof code);
  };
  for (unsigned vector = 0; vector < vector_count; ++vector) {
    stub(memory_ + exception_stubs * page_size + vector * stub_bytes, exception_port);
  }
  std::memset(memory_ + syscall_stub * page_size, 0xf4, page_size);
  stub(memory_ + syscall_stub * page_size, syscall_port);
}

void MonitorPage::set_tables(kvm_sregs& sregs) const {
  sregs.gdt.base = base_ + gdt_at;
  sregs.gdt.limit = gdt_bytes - 1;
  sregs.idt.base = base_ + idt_at;
  sregs.idt.limit = vector_count * 16 - 1;
  sregs.tr = {};
  sregs.tr.base = base_ + tss_at;
  sregs.tr.limit = tss_limit;
  sregs.tr.selector = task_selector;
  sregs.tr.type = 11;
  sregs.tr.present = 1;
  sregs.ldt = {};
  sregs.ldt.unusable = 1;
}

void MonitorPage::set_user_segments(kvm_sregs& sregs) {
  sregs.cs = flat(user_code, 11, 3, true);
  sregs.ss = flat(user_data, 3, 3, false);
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss;
}

std::optional<unsigned> MonitorPage::exception_at(std::uint64_t rip) const {
  const std::uint64_t offset = rip - address(exception_stubs);
  if (offset >= vector_count * stub_bytes) return std::nullopt;
  return static_cast<unsigned>(offset / stub_bytes);
}

bool MonitorPage::in_syscall_stub(std::uint64_t rip) const {
  return rip - syscall_entry() <= 2;  // KVM may or may not have passed the instruction
}

MonitorPage::Frame MonitorPage::frame(unsigned vector, std::uint64_t rsp) const {
  Frame frame;
  const std::uint64_t stack = address(exception_stack);
  std::uint64_t words[6] = {};
  if (rsp < stack || rsp > stack + page_size - 40) return frame;
  std::memcpy(words, memory_ + (rsp - base_), rsp > stack + page_size - 48 ? 40 : 48);
  const std::uint64_t* at = words;
  if (has_error_code(vector)) frame.error = *at++;
  frame.rip = at[0];
  frame.cs = at[1];
  frame.rflags = at[2];
  frame.rsp = at[3];
  frame.ss = has_error_code(vector) ? words[5] : at[4];
  return frame;
}

}  // namespace node_mesh
