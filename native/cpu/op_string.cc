// MOVS STOS LODS SCAS CMPS, plain and repeated. A repeated instruction runs in slices: a slice ends
// at the first page boundary of source or destination, when the count or the comparison ends it, or
// after one item that is not plain RAM. Each slice is one step; with work left, RIP stays.
#include <array>
#include <cstring>

#include "cpu/decode.h"
#include "cpu/flags.h"
#include "cpu/mmu.h"
#include "cpu/threading.h"

namespace node_mesh {
namespace {

enum class StringOp : u8 { movs, stos, lods, scas, cmps };

constexpr bool has_source(StringOp op) {
  return op == StringOp::movs || op == StringOp::lods || op == StringOp::cmps;
}
constexpr bool has_destination(StringOp op) { return op != StringOp::lods; }

u64 address_mask(const Insn* i) {
  if (i->extra & insn_address32) return 0xffffffff;
  if (i->extra & insn_address16) return 0xffff;
  return ~u64{0};
}

struct StringAddresses {
  u64 source;
  u64 destination;
};
StringAddresses string_addresses(const Core* c, const Insn* i) {
  const u64 mask = address_mask(i);
  StringAddresses at{};
  at.source = (c->gpr[rsi] & mask) + get_reg<u64>(c, i->seg);
  at.destination = (c->gpr[rdi] & mask) + get_reg<u64>(c, i->base);
  if (!c->code64()) {
    at.source = static_cast<u32>(at.source);
    at.destination = static_cast<u32>(at.destination);
  }
  return at;
}

void add_to_register(Core* c, const Insn* i, unsigned reg, u64 delta) {
  if (i->extra & insn_address32) {
    c->gpr[reg] = static_cast<u32>(c->gpr[reg] + delta);
  } else if (i->extra & insn_address16) {
    c->gpr[reg] = (c->gpr[reg] & ~u64{0xffff}) | static_cast<u16>(c->gpr[reg] + delta);
  } else {
    c->gpr[reg] += delta;
  }
}

template <StringOp kOp, class T>
void advance(Core* c, const Insn* i, u64 items) {
  const u64 bytes = items * sizeof(T);
  const u64 delta = c->sysflags & rflags::df ? u64{0} - bytes : bytes;
  if constexpr (has_source(kOp)) add_to_register(c, i, rsi, delta);
  if constexpr (has_destination(kOp)) add_to_register(c, i, rdi, delta);
}

// One item by the slow path.
template <StringOp kOp, class T>
void one_item(Core* c, const Insn* i) {
  const StringAddresses at = string_addresses(c, i);
  if constexpr (kOp == StringOp::movs) {
    // The source's faults come first, the destination's before a device is read.
    if (!tlb_lookup<sizeof(T)>(c->tlb_read, at.source)) {
      probe_read(c, i, at.source, sizeof(T));
    }
    if (!tlb_lookup<sizeof(T)>(c->tlb_write, at.destination)) {
      probe_write(c, i, at.destination, sizeof(T));
    }
    const T value = load<T>(c, i, at.source);
    store<T>(c, i, at.destination, value);
  } else if constexpr (kOp == StringOp::stos) {
    store<T>(c, i, at.destination, get_reg<T>(c, gpr_offset(rax)));
  } else if constexpr (kOp == StringOp::lods) {
    const T value = load<T>(c, i, at.source);
    set_reg<T>(c, gpr_offset(rax), value);
  } else if constexpr (kOp == StringOp::scas) {
    const T value = load<T>(c, i, at.destination);
    OpCmp::run(c, get_reg<T>(c, gpr_offset(rax)), value);
  } else {
    const T first = load<T>(c, i, at.source);
    const T second = load<T>(c, i, at.destination);
    OpCmp::run(c, first, second);
  }
  advance<kOp, T>(c, i, 1);
}

template <StringOp kOp, class T>
void string_once(Core* c, const Insn* i) {
  one_item<kOp, T>(c, i);
  NM_NEXT;
}

// Whole items from `va` to the page's end, in the direction of travel.
u64 items_in_page(u64 va, u64 size, bool down) {
  const u64 in_page = va & page_mask;
  if (in_page + size > page_bytes) return 0;
  return down ? in_page / size + 1 : (page_bytes - in_page) / size;
}

// Where a slice's items lie. How long a slice is must not depend on what is cached, so a page that
// holds code or page tables is only taken item by item inside of the same slice.
struct SlicePage {
  u8* at = nullptr;  // host address of the first item
  bool ram = false;
  bool watched = false;  // stores must go one by one through the MMU
};
SlicePage slice_page(Core* c, const Insn* i, u64 va, bool write) {
  if (u8* at = tlb_lookup<1>(write ? c->tlb_write : c->tlb_read, va)) return {at, true, false};
  if (!is_canonical(va)) return {};
  const u64 gpa = c->mmu->translate(i, va, write ? Access::write : Access::read, c->user());
  if (!c->mmu->is_ram(gpa)) return {};
  u8* at = reinterpret_cast<u8*>(c->memory->base()) + gpa;
  if (write && !c->mmu->plain_page(gpa >> 12)) return {at, true, true};
  if (write) c->memory->mark_dirty(gpa >> 12);
  return {at, true, false};
}

template <class T>
void copy_items(u8* to, const u8* from, u64 items, bool down) {
  const u64 bytes = items * sizeof(T);
  if (!down && (to <= from || to >= from + bytes)) {
    std::memmove(to, from, bytes);
    return;
  }
  const s64 stride = down ? -static_cast<s64>(sizeof(T)) : static_cast<s64>(sizeof(T));
  for (; items != 0; --items, to += stride, from += stride) {
    T value;
    std::memcpy(&value, from, sizeof value);
    std::memcpy(to, &value, sizeof value);
  }
}

template <class T>
void fill_items(u8* to, T value, u64 items, bool down) {
  if (down) to -= (items - 1) * sizeof(T);
  if constexpr (sizeof(T) == 1) {
    std::memset(to, value, items);
  } else {
    if (value == 0) {
      std::memset(to, 0, items * sizeof(T));
      return;
    }
    for (u64 k = 0; k < items; ++k)
      std::memcpy(to + k * sizeof(T), &value, sizeof value);
  }
}

// Compares until the condition or the slice ends; returns the items done and sets the flags.
template <StringOp kOp, class T>
u64 compare_items(Core* c, const u8* source, const u8* destination, u64 items, bool down,
                  bool while_equal) {
  const s64 stride = down ? -static_cast<s64>(sizeof(T)) : static_cast<s64>(sizeof(T));
  u64 done = 0;
  T first = get_reg<T>(c, gpr_offset(rax));
  T second{};
  while (done < items) {
    if constexpr (kOp == StringOp::cmps) {
      std::memcpy(&first, source, sizeof first);
      source += stride;
    }
    std::memcpy(&second, destination, sizeof second);
    destination += stride;
    ++done;
    if ((first == second) != while_equal) break;
  }
  OpCmp::run(c, first, second);
  return done;
}

template <StringOp kOp, class T>
void finish_items(Core* c, const Insn* i, u64 items) {
  advance<kOp, T>(c, i, items);
  add_to_register(c, i, rcx, u64{0} - items);
}

// One by one: for single items, and for stores that the MMU must see.
template <StringOp kOp, class T>
void run_items(Core* c, const Insn* i, u64 items) {
  for (; items != 0; --items) {
    one_item<kOp, T>(c, i);
    add_to_register(c, i, rcx, ~u64{0});
  }
}

// A slice into a page that holds code or page tables, upwards: the MMU sees it as one store.
template <StringOp kOp, class T>
[[gnu::noinline]] void store_watched(Core* c, const Insn* i, const u8* source, const u8* to,
                                     u64 items) {
  std::array<u8, page_bytes> buffer;
  const auto bytes = static_cast<unsigned>(items * sizeof(T));
  if constexpr (kOp == StringOp::movs) std::memcpy(buffer.data(), source, bytes);
  if constexpr (kOp == StringOp::stos) {
    fill_items<T>(buffer.data(), get_reg<T>(c, gpr_offset(rax)), items, false);
  }
  const auto gpa = static_cast<u64>(to - reinterpret_cast<const u8*>(c->memory->base()));
  c->mmu->prepare_store(i, gpa, buffer.data(), bytes);
  c->mmu->commit_store(gpa, buffer.data(), bytes);
}

// Runs one slice of at most `items` items; the registers tell how many it did.
template <StringOp kOp, class T>
void run_slice(Core* c, const Insn* i, u64 items) {
  const StringAddresses at = string_addresses(c, i);
  const bool down = c->sysflags & rflags::df;
  constexpr bool writes = kOp == StringOp::movs || kOp == StringOp::stos;
  if constexpr (has_source(kOp)) items = std::min(items, items_in_page(at.source, sizeof(T), down));
  if constexpr (has_destination(kOp)) {
    items = std::min(items, items_in_page(at.destination, sizeof(T), down));
  }
  if (items == 0) return run_items<kOp, T>(c, i, 1);
  SlicePage source{nullptr, true, false}, destination{nullptr, true, false};
  if constexpr (has_source(kOp)) source = slice_page(c, i, at.source, false);
  if (!source.ram) return run_items<kOp, T>(c, i, 1);
  if constexpr (has_destination(kOp)) destination = slice_page(c, i, at.destination, writes);
  if (!destination.ram) return run_items<kOp, T>(c, i, 1);
  if (writes && destination.watched) {
    require_alone(c, i);
    const u64 bytes = items * sizeof(T);
    const bool overlap = source.at != nullptr && source.at < destination.at + bytes &&
                         destination.at < source.at + bytes;
    if (down || overlap) return run_items<kOp, T>(c, i, items);
    if constexpr (writes) store_watched<kOp, T>(c, i, source.at, destination.at, items);
    return finish_items<kOp, T>(c, i, items);
  }
  if constexpr (kOp == StringOp::movs) copy_items<T>(destination.at, source.at, items, down);
  if constexpr (kOp == StringOp::stos) {
    fill_items<T>(destination.at, get_reg<T>(c, gpr_offset(rax)), items, down);
  }
  if constexpr (kOp == StringOp::lods) {
    T value;
    const u64 last = (items - 1) * sizeof(T);
    std::memcpy(&value, down ? source.at - last : source.at + last, sizeof value);
    set_reg<T>(c, gpr_offset(rax), value);
  }
  if constexpr (kOp == StringOp::scas || kOp == StringOp::cmps) {
    items =
        compare_items<kOp, T>(c, source.at, destination.at, items, down, i->extra & insn_repeat);
  }
  finish_items<kOp, T>(c, i, items);
}

template <StringOp kOp, class T>
void string_repeated(Core* c, const Insn* i) {
  const u64 count = c->gpr[rcx] & address_mask(i);
  if (count == 0) NM_NEXT;
  run_slice<kOp, T>(c, i, count);
  bool finished = (c->gpr[rcx] & address_mask(i)) == 0;
  if constexpr (kOp == StringOp::scas || kOp == StringOp::cmps) {
    const bool equal = c->flags & status::zf;
    finished = finished || equal != ((i->extra & insn_repeat) != 0);
  }
  if (finished) NM_NEXT;
  c->icount -= i->left - 1u;
  c->rip = c->page_va + i->offset;
  NM_LEAVE;
}

template <StringOp kOp>
Handler select_string(Decoding& d) {
  const auto attributes = d.zydis.attributes;
  constexpr bool compares = kOp == StringOp::scas || kOp == StringOp::cmps;
  // The second operand of string instructions without one is the accumulator.
  const bool repeat = attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE);
  const bool repeat_not = attributes & ZYDIS_ATTRIB_HAS_REPNE;
  d.out.seg = d.code64() ? zero_offset : seg_offset(seg_ds);
  d.out.base = d.code64() ? zero_offset : seg_offset(seg_es);
  if (attributes & ZYDIS_ATTRIB_HAS_SEGMENT_FS) d.out.seg = seg_offset(seg_fs);
  if (attributes & ZYDIS_ATTRIB_HAS_SEGMENT_GS) d.out.seg = seg_offset(seg_gs);
  if (!d.code64()) {
    if (attributes & ZYDIS_ATTRIB_HAS_SEGMENT_CS) d.out.seg = seg_offset(seg_cs);
    if (attributes & ZYDIS_ATTRIB_HAS_SEGMENT_SS) d.out.seg = seg_offset(seg_ss);
    if (attributes & ZYDIS_ATTRIB_HAS_SEGMENT_ES) d.out.seg = seg_offset(seg_es);
  }
  if (d.zydis.address_width == 32) d.out.extra |= insn_address32;
  if (d.zydis.address_width == 16) d.out.extra |= insn_address16;
  if (repeat) d.out.extra |= insn_repeat;
  if (repeat_not) d.out.extra |= compares ? insn_repeat_not : insn_repeat;
  unsigned bits = 8;
  switch (d.zydis.mnemonic) {
    case ZYDIS_MNEMONIC_MOVSW:
    case ZYDIS_MNEMONIC_STOSW:
    case ZYDIS_MNEMONIC_LODSW:
    case ZYDIS_MNEMONIC_SCASW:
    case ZYDIS_MNEMONIC_CMPSW:
      bits = 16;
      break;
    case ZYDIS_MNEMONIC_MOVSD:
    case ZYDIS_MNEMONIC_STOSD:
    case ZYDIS_MNEMONIC_LODSD:
    case ZYDIS_MNEMONIC_SCASD:
    case ZYDIS_MNEMONIC_CMPSD:
      bits = 32;
      break;
    case ZYDIS_MNEMONIC_MOVSQ:
    case ZYDIS_MNEMONIC_STOSQ:
    case ZYDIS_MNEMONIC_LODSQ:
    case ZYDIS_MNEMONIC_SCASQ:
    case ZYDIS_MNEMONIC_CMPSQ:
      bits = 64;
      break;
    default:
      break;
  }
  return by_width(bits, [&]<class T>() -> Handler {
    return repeat || repeat_not ? string_repeated<kOp, T> : string_once<kOp, T>;
  });
}

// MOVSD and CMPSD name SSE instructions too.
template <StringOp kOp>
Handler select_string_or_sse(Decoding& d) {
  if (d.zydis.meta.category != ZYDIS_CATEGORY_STRINGOP) return nullptr;
  return select_string<kOp>(d);
}

}  // namespace

void register_strings(SelectorTable& table) {
  for (const ZydisMnemonic m : {ZYDIS_MNEMONIC_MOVSB, ZYDIS_MNEMONIC_MOVSW, ZYDIS_MNEMONIC_MOVSQ}) {
    table[m] = select_string<StringOp::movs>;
  }
  for (const ZydisMnemonic m :
       {ZYDIS_MNEMONIC_STOSB, ZYDIS_MNEMONIC_STOSW, ZYDIS_MNEMONIC_STOSD, ZYDIS_MNEMONIC_STOSQ}) {
    table[m] = select_string<StringOp::stos>;
  }
  for (const ZydisMnemonic m :
       {ZYDIS_MNEMONIC_LODSB, ZYDIS_MNEMONIC_LODSW, ZYDIS_MNEMONIC_LODSD, ZYDIS_MNEMONIC_LODSQ}) {
    table[m] = select_string<StringOp::lods>;
  }
  for (const ZydisMnemonic m :
       {ZYDIS_MNEMONIC_SCASB, ZYDIS_MNEMONIC_SCASW, ZYDIS_MNEMONIC_SCASD, ZYDIS_MNEMONIC_SCASQ}) {
    table[m] = select_string<StringOp::scas>;
  }
  for (const ZydisMnemonic m : {ZYDIS_MNEMONIC_CMPSB, ZYDIS_MNEMONIC_CMPSW, ZYDIS_MNEMONIC_CMPSQ}) {
    table[m] = select_string<StringOp::cmps>;
  }
  table[ZYDIS_MNEMONIC_MOVSD] = select_string_or_sse<StringOp::movs>;
  table[ZYDIS_MNEMONIC_CMPSD] = select_string_or_sse<StringOp::cmps>;
}

}  // namespace node_mesh
