// What the vCPU traps into: descriptor tables, a task state segment, one stub for each exception
// and one for SYSCALL. Each stub begins with an `out` instruction, so that a trap becomes an exit
// of the vCPU whose instruction pointer says which trap it was. Owns the bytes of these pages and
// their place in the address space; runs nothing.
//
// On a KVM without hardware help (PVM) SYSCALL does not change the privilege level and the pages
// must be accessible to user code. So they lie at a random address in a part of the address space
// that no program uses, and user code cannot learn where (SGDT and its kind never run directly).
#pragma once

#include <linux/kvm.h>

#include <cstddef>
#include <cstdint>
#include <optional>

namespace node_mesh {

class MonitorPage {
 public:
  static constexpr unsigned page_count = 4;
  enum Page : unsigned { tables, exception_stubs, exception_stack, syscall_stub };

  static constexpr std::uint16_t exception_port = 0xe0, syscall_port = 0xe1;
  static constexpr unsigned vector_count = 32;
  static constexpr std::uint16_t kernel_code = 0x10, kernel_data = 0x18, user_data = 0x2b,
                                 user_code = 0x33;

  // `memory` holds page_count zeroed pages; `base` is where they will be mapped.
  MonitorPage(std::byte* memory, std::uint64_t base);

  // A base address: the low half's slot of 512 GiB (returned as its index in the root table, too)
  // and the place in it are random.
  static std::uint64_t random_base();

  std::uint64_t base() const { return base_; }
  unsigned root_index() const { return static_cast<unsigned>(base_ >> 39) & 511; }
  // Addresses that user code of the guest cannot reach directly, since the monitor's are near.
  bool covers(std::uint64_t va) const { return (va >> 39) == (base_ >> 39); }
  std::uint64_t address(Page page) const { return base_ + page * std::uint64_t{4096}; }
  std::uint64_t syscall_entry() const { return address(syscall_stub); }

  // Descriptor tables and task register for KVM_SET_SREGS.
  void set_tables(kvm_sregs& sregs) const;
  static void set_user_segments(kvm_sregs& sregs);

  // The exception whose stub `rip` lies in.
  std::optional<unsigned> exception_at(std::uint64_t rip) const;
  bool in_syscall_stub(std::uint64_t rip) const;

  struct Frame {
    std::uint64_t error = 0, rip = 0, cs = 0, rflags = 0, rsp = 0, ss = 0;
  };
  // What the exception pushed; `rsp` is the vCPU's at the exit.
  Frame frame(unsigned vector, std::uint64_t rsp) const;

 private:
  void write_tables();
  void write_stubs();

  std::byte* memory_;
  std::uint64_t base_;
};

}  // namespace node_mesh
