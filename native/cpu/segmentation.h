// Segment and system descriptors, and what loading them into a segment register does.
#pragma once

#include "cpu/core.h"

namespace node_mesh {

struct Descriptor {
  u64 low = 0;
  u64 high = 0;  // second half of a system descriptor

  unsigned type() const { return (low >> 40) & 15; }
  bool is_segment() const { return (low >> 44) & 1; }
  unsigned dpl() const { return (low >> 45) & 3; }
  bool present() const { return (low >> 47) & 1; }
  bool is_code() const { return is_segment() && (type() & 8); }
  bool is_data() const { return is_segment() && !(type() & 8); }
  bool conforming() const { return is_code() && (type() & 4); }
  bool readable() const { return is_data() || (type() & 2); }
  bool writable() const { return is_data() && (type() & 2); }
  bool long_mode() const { return (low >> 53) & 1; }
  bool default_big() const { return (low >> 54) & 1; }
  u64 base() const { return ((low >> 16) & 0xffffff) | ((low >> 32) & 0xff000000); }
  u64 system_base() const { return base() | (high << 32); }
  u32 limit() const {
    const u32 raw = static_cast<u32>((low & 0xffff) | ((low >> 32) & 0xf0000));
    return (low >> 55) & 1 ? (raw << 12) | 0xfff : raw;
  }
  // Bits 40-47 and 52-55.
  u16 attributes() const {
    return static_cast<u16>(((low >> 40) & 0xff) | (((low >> 52) & 15) << 12));
  }
};

inline constexpr u16 attribute_accessed = 1;
inline constexpr u16 attribute_present = 0x80;
inline constexpr u16 attribute_long = 1 << 13;
inline constexpr u16 attribute_big = 1 << 14;
inline constexpr u16 attribute_granular = 1 << 15;

// False when the selector lies outside of its table. The second half is read for system segments.
bool read_descriptor(Core* c, const Insn* i, u16 selector, Descriptor& into);
// Sets the accessed bit (or the busy bit of a TSS) in the table.
void mark_descriptor(Core* c, const Insn* i, u16 selector, Descriptor& descriptor, unsigned bit);

// MOV/POP/Lxx to a data segment register, with all checks; `index` is not CS.
void load_data_segment(Core* c, const Insn* i, unsigned index, u16 selector);
// Loads CS from a checked descriptor and enters its code mode and privilege level.
void load_code_segment(Core* c, u16 selector, const Descriptor& descriptor, unsigned new_cpl);
void load_segment(Core* c, unsigned index, u16 selector, const Descriptor& descriptor);
// SS after an interrupt to a more privileged level.
void load_null_stack(Core* c, u16 rpl);
// Flat segments as SYSCALL and SYSRET load them.
void load_flat_code(Core* c, u16 selector, unsigned cpl, bool code64);
void load_flat_stack(Core* c, u16 selector, unsigned cpl);
// IRET and far RET to an outer level: data segments that the outer level may not use become null.
void drop_inner_data_segments(Core* c);
// CS attributes decide how code is decoded and how wide the stack pointer is.
void update_code_mode(Core* c);

}  // namespace node_mesh
