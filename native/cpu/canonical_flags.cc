#include "cpu/canonical_flags.h"

#include <Zydis/Zydis.h>

#include <algorithm>
#include <cstring>

#include "cpu/page_walk.h"

namespace node_mesh {
namespace {

constexpr unsigned instructions_max = 32, paths_max = 8;
constexpr unsigned instruction_bytes = 15;
constexpr u64 all_flags = rflags::status_bits;
static_assert(ZYDIS_CPUFLAG_CF == rflags::cf && ZYDIS_CPUFLAG_PF == rflags::pf &&
              ZYDIS_CPUFLAG_AF == rflags::af && ZYDIS_CPUFLAG_ZF == rflags::zf &&
              ZYDIS_CPUFLAG_SF == rflags::sf && ZYDIS_CPUFLAG_OF == rflags::of);

const ZydisDecoder& decoder() {
  static const ZydisDecoder made = [] {
    ZydisDecoder value;
    ZydisDecoderInit(&value, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    ZydisDecoderEnableMode(&value, ZYDIS_DECODER_MODE_LZCNT, ZYAN_FALSE);
    ZydisDecoderEnableMode(&value, ZYDIS_DECODER_MODE_TZCNT, ZYAN_FALSE);
    return value;
  }();
  return made;
}

// Up to an instruction's length of code; fewer bytes where the next page is not there.
unsigned read_code(const Core* c, u64 va, u8* into) {
  const PagingControl paging{c->cr3, true, (c->efer & efer::nxe) != 0};
  unsigned done = 0;
  while (done < instruction_bytes) {
    const u64 at = va + done;
    if (!is_canonical(at)) break;
    const PageWalk walk = walk_pages(*c->memory, paging, at, Access::fetch, true);
    const auto piece = static_cast<unsigned>(
        std::min<u64>(instruction_bytes - done, page_bytes - (at & page_mask)));
    if (!walk.ok || !c->memory->contains(walk.gpa, piece)) break;
    std::memcpy(into + done, c->memory->base() + walk.gpa, piece);
    done += piece;
  }
  return done;
}

// Shifts by a count that may be zero, and repeated comparisons of nothing, write no flags.
bool may_write_nothing(const ZydisDecodedInstruction& instruction) {
  const bool repeats = (instruction.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE |
                                                  ZYDIS_ATTRIB_HAS_REPNE)) != 0;
  if (repeats) return true;
  const u8 opcode = instruction.opcode;
  if (instruction.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT) {
    if (opcode == 0xd2 || opcode == 0xd3) return true;
    return (opcode == 0xc0 || opcode == 0xc1) && (instruction.raw.imm[0].value.u & 0x1f) == 0;
  }
  if (instruction.opcode_map != ZYDIS_OPCODE_MAP_0F) return false;
  if (opcode == 0xa5 || opcode == 0xad) return true;
  return (opcode == 0xa4 || opcode == 0xac) && (instruction.raw.imm[0].value.u & 0x1f) == 0;
}

struct Path {
  u64 va = 0;
  u64 open = 0;  // flags that are neither read nor written so far
};

class Search {
 public:
  explicit Search(const Core* c) : c_(c) {}

  u64 live_at(u64 va) {
    paths_[path_count_++] = {va, all_flags};
    while (path_count_ != 0)
      follow(paths_[--path_count_]);
    return live_;
  }

 private:
  void follow(Path path) {
    while ((path.open &= ~live_) != 0) {
      if (budget_ == 0 || !step(path)) {
        live_ |= path.open;
        return;
      }
      --budget_;
    }
  }

  // False: nothing is known of what comes behind this instruction.
  bool step(Path& path) {
    u8 code[instruction_bytes];
    const unsigned bytes = read_code(c_, path.va, code);
    ZydisDecodedInstruction instruction;
    if (!ZYAN_SUCCESS(
            ZydisDecoderDecodeInstruction(&decoder(), nullptr, code, bytes, &instruction))) {
      return false;
    }
    if (const ZydisAccessedFlags* flags = instruction.cpu_flags) {
      live_ |= path.open & flags->tested;
      if (!may_write_nothing(instruction)) {
        path.open &= ~u64{flags->modified | flags->set_0 | flags->set_1 | flags->undefined};
      }
    }
    path.va += instruction.length;
    switch (instruction.meta.category) {
      case ZYDIS_CATEGORY_COND_BR:
        return branch(path, instruction);
      case ZYDIS_CATEGORY_UNCOND_BR:
      case ZYDIS_CATEGORY_CALL:
        if (!instruction.raw.imm[0].is_relative) return false;
        path.va += static_cast<u64>(instruction.raw.imm[0].value.s);
        return true;
      case ZYDIS_CATEGORY_SYSCALL:
        path.open = 0;  // it saves them as zeros
        return instruction.mnemonic == ZYDIS_MNEMONIC_SYSCALL;
      case ZYDIS_CATEGORY_RET:
      case ZYDIS_CATEGORY_INTERRUPT:
      case ZYDIS_CATEGORY_SYSRET:
      case ZYDIS_CATEGORY_SYSTEM:
        return false;
      default:
        return true;
    }
  }

  bool branch(Path& path, const ZydisDecodedInstruction& instruction) {
    if (path_count_ == paths_max) return false;
    paths_[path_count_++] = {path.va + static_cast<u64>(instruction.raw.imm[0].value.s), path.open};
    return true;
  }

  const Core* c_;
  u64 live_ = 0;
  unsigned budget_ = instructions_max;
  unsigned path_count_ = 0;
  Path paths_[paths_max];
};

}  // namespace

u64 live_status_flags(const Core* c, u64 va) { return Search(c).live_at(va); }

void make_user_flags_canonical(Core* c, u64 va) {
  const u64 flags = c->read_rflags() & rflags::status_bits;
  if (flags == 0 || !c->code64()) return;
  set_status(c, flags & live_status_flags(c, va));
}

}  // namespace node_mesh
