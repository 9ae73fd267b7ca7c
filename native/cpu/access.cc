// The slow path of guest memory accesses.
#include "cpu/access.h"

#include <algorithm>
#include <bit>

#include "cpu/debug_registers.h"
#include "cpu/mmu.h"
#include "cpu/user_stretch.h"

namespace node_mesh {
namespace {

enum class Privilege : u8 { current, supervisor };

void check_alignment(Core* c, const Insn* i, u64 va, unsigned size) {
  const bool checked = c->user() && (c->cr0 & cr0::am) && (c->sysflags & rflags::ac);
  if (checked && size <= 8 && (va & (size - 1)) != 0) raise_error(c, i, vector::ac, 0);
}

void check_address(Core* c, const Insn* i, u64 va, unsigned size) {
  if (!is_canonical(va) || !is_canonical(va + size - 1)) raise_non_canonical(c, i);
}

void device_read(Core* c, const Insn* i, u64 gpa, u8* into, unsigned size) {
  if (i != nullptr) require_alone(c, i);
  require_counted(c, i);
  if (c->bus->time_sync_due(c->steps_before(i))) {
    c->exit = RunExit::time_read;
    unwind(c, i, Unwind::exit);
  }
  c->begin_bus_access(i);
  while (size != 0) {
    const unsigned piece = std::min({8u, size & (0u - size), 1u << std::countr_zero(gpa | 8)});
    const u64 value = c->bus->mmio_read(gpa, piece);
    std::memcpy(into, &value, piece);
    gpa += piece;
    into += piece;
    size -= piece;
  }
  c->end_bus_access();
}

void device_write(Core* c, const Insn* i, u64 gpa, const u8* from, unsigned size) {
  if (i != nullptr) require_alone(c, i);
  require_counted(c, i);
  c->begin_bus_access(i);
  while (size != 0) {
    const unsigned piece = std::min({8u, size & (0u - size), 1u << std::countr_zero(gpa | 8)});
    u64 value = 0;
    std::memcpy(&value, from, piece);
    c->bus->mmio_write(gpa, piece, value);
    gpa += piece;
    from += piece;
    size -= piece;
  }
  c->end_bus_access();
}

// The one or two pages of an access.
struct Pieces {
  u64 gpa[2];
  unsigned size[2];
};

Pieces translate_pieces(Core* c, const Insn* i, u64 va, unsigned size, Access access,
                        Privilege privilege) {
  const bool user = privilege == Privilege::current && c->user();
  Pieces pieces{};
  const auto to_end = static_cast<unsigned>(page_bytes - (va & page_mask));
  pieces.size[0] = std::min(size, to_end);
  pieces.size[1] = size - pieces.size[0];
  pieces.gpa[0] = c->mmu->translate(i, va, access, user);
  if (pieces.size[1] != 0) {
    pieces.gpa[1] = c->mmu->translate(i, (va | page_mask) + 1, access, user);
  }
  return pieces;
}

void read_bytes(Core* c, const Insn* i, u64 va, void* into, unsigned size, Access access,
                Privilege privilege) {
  const Pieces pieces = translate_pieces(c, i, va, size, access, privilege);
  u8* at = static_cast<u8*>(into);
  for (unsigned k = 0; k < 2 && pieces.size[k] != 0; ++k) {
    if (c->mmu->is_ram(pieces.gpa[k])) {
      std::memcpy(at, c->memory->base() + pieces.gpa[k], pieces.size[k]);
    } else {
      device_read(c, i, pieces.gpa[k], at, pieces.size[k]);
    }
    at += pieces.size[k];
  }
}

void write_bytes(Core* c, const Insn* i, u64 va, const void* from, unsigned size,
                 Privilege privilege) {
  const Pieces pieces = translate_pieces(c, i, va, size, Access::write, privilege);
  const u8* at = static_cast<const u8*>(from);
  for (unsigned k = 0; k < 2 && pieces.size[k] != 0; ++k) {
    const u8* part = k == 0 ? at : at + pieces.size[0];
    if (c->mmu->is_ram(pieces.gpa[k])) {
      c->mmu->prepare_store(i, pieces.gpa[k], part, pieces.size[k]);
    } else if (i != nullptr) {
      require_alone(c, i);
    }
  }
  for (unsigned k = 0; k < 2 && pieces.size[k] != 0; ++k) {
    if (c->mmu->is_ram(pieces.gpa[k])) {
      c->mmu->commit_store(pieces.gpa[k], at, pieces.size[k]);
    } else {
      device_write(c, i, pieces.gpa[k], at, pieces.size[k]);
    }
    at += pieces.size[k];
  }
}

}  // namespace

void slow_read(Core* c, const Insn* i, u64 va, void* into, unsigned size) {
  check_address(c, i, va, size);
  check_alignment(c, i, va, size);
  read_bytes(c, i, va, into, size, Access::read, Privilege::current);
  note_data_access(c, va, size, false);
}
void slow_read_for_write(Core* c, const Insn* i, u64 va, void* into, unsigned size) {
  check_address(c, i, va, size);
  check_alignment(c, i, va, size);
  read_bytes(c, i, va, into, size, Access::write, Privilege::current);
}
void slow_write(Core* c, const Insn* i, u64 va, const void* from, unsigned size) {
  check_address(c, i, va, size);
  check_alignment(c, i, va, size);
  write_bytes(c, i, va, from, size, Privilege::current);
  note_data_access(c, va, size, true);
}
void probe_write(Core* c, const Insn* i, u64 va, unsigned size) {
  check_address(c, i, va, size);
  check_alignment(c, i, va, size);
  const Pieces pieces = translate_pieces(c, i, va, size, Access::write, Privilege::current);
  for (unsigned k = 0; k < 2 && pieces.size[k] != 0; ++k) {
    if (!c->mmu->is_ram(pieces.gpa[k]) && i != nullptr) require_alone(c, i);
  }
}
void probe_read(Core* c, const Insn* i, u64 va, unsigned size) {
  check_address(c, i, va, size);
  check_alignment(c, i, va, size);
  translate_pieces(c, i, va, size, Access::read, Privilege::current);
}
void probe_store(Core* c, const Insn* i, u64 va, unsigned size) {
  const Pieces pieces = translate_pieces(c, i, va, size, Access::write, Privilege::current);
  for (unsigned k = 0; k < 2 && pieces.size[k] != 0; ++k) {
    const bool plain = c->mmu->is_ram(pieces.gpa[k]) && c->mmu->plain_page(pieces.gpa[k] >> 12);
    if (!plain) require_alone(c, i);
  }
}
void system_read(Core* c, const Insn* i, u64 va, void* into, unsigned size) {
  check_address(c, i, va, size);
  read_bytes(c, i, va, into, size, Access::read, Privilege::supervisor);
}
void system_write(Core* c, const Insn* i, u64 va, const void* from, unsigned size) {
  check_address(c, i, va, size);
  write_bytes(c, i, va, from, size, Privilege::supervisor);
}

}  // namespace node_mesh
