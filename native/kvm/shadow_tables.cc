#include "kvm/shadow_tables.h"

#include <algorithm>
#include <cstring>

#include "cpu/page_walk.h"

namespace node_mesh {
namespace {

constexpr u64 many_places = ~u64{0};
constexpr u64 inner_entry = pte::present | pte::writable | pte::user | pte::accessed;

constexpr u64 place_of(unsigned space, u64 va) {
  return u64{space + 1u} << 48 | ((va >> 12) & ((u64{1} << 36) - 1));
}
constexpr unsigned index_of(u64 va, unsigned level) { return (va >> (3 + level * 9)) & 511; }
constexpr unsigned space_of(u64 place) { return static_cast<unsigned>(place >> 48) - 1; }
constexpr u64 va_of(u64 place) { return (place & ((u64{1} << 36) - 1)) << 12; }

}  // namespace

ShadowTables::ShadowTables(Pool pool, u64 guest_pages, u64 fixed_va, std::vector<FixedPage> fixed)
    : pool_(pool),
      fixed_va_(fixed_va),
      fixed_(std::move(fixed)),
      epochs_(pool.pages),
      places_(guest_pages) {
  begin_anew();
}

u64 ShadowTables::allocate() {
  if (next_ >= pool_.pages) return 0;
  const u64 index = next_++;
  epochs_[index] = epoch_;
  const u64 gpa = pool_.gpa + index * page_bytes;
  std::memset(table(gpa), 0, page_bytes);
  return gpa;
}

void ShadowTables::begin_anew() {
  std::ranges::fill(roots_, u64{0});
  next_ = pool_.reserved;
  const u64 top = allocate(), middle = allocate(), bottom = allocate();
  for (std::size_t n = 0; n < fixed_.size(); ++n) {
    const FixedPage& page = fixed_[n];
    table(bottom)[index_of(fixed_va_, 1) + n] =
        page.gpa | pte::present | pte::accessed | pte::dirty | (page.user ? pte::user : 0) |
        (page.writable ? pte::writable : 0) | (page.executable ? 0 : pte::no_execute);
  }
  table(middle)[index_of(fixed_va_, 2)] = bottom | inner_entry;
  table(top)[index_of(fixed_va_, 3)] = middle | inner_entry;
  fixed_entry_ = top | inner_entry;
}

u64 ShadowTables::root_of(unsigned space) {
  if (roots_[space] != 0) return roots_[space];
  const u64 root = allocate();
  if (root == 0) return 0;
  table(root)[index_of(fixed_va_, 4)] = fixed_entry_;
  return roots_[space] = root;
}

u64 ShadowTables::enter(unsigned space) {
  const u64 root = root_of(space);
  ++epoch_;
  return root;
}

u64* ShadowTables::leaf(unsigned space, u64 va) const {
  u64 at = roots_[space];
  if (at == 0) return nullptr;
  for (unsigned level = 4; level > 1; --level) {
    const u64 entry = table(at)[index_of(va, level)];
    if (!(entry & pte::present)) return nullptr;
    at = entry & pte::address;
  }
  return &table(at)[index_of(va, 1)];
}

bool ShadowTables::map(unsigned space, u64 va, u64 gpa, bool writable, bool executable) {
  const u64* old = leaf(space, va);
  const bool other = old != nullptr && (*old & pte::present) && (*old & pte::address) != gpa;
  if (other) unmap(space, va);
  u64 at = root_of(space);
  if (at == 0) return false;
  for (unsigned level = 4; level > 1; --level) {
    u64& entry = table(at)[index_of(va, level)];
    if (!(entry & pte::present)) {
      const u64 next = allocate();
      if (next == 0) return false;
      entry = next | inner_entry;
    }
    at = entry & pte::address;
  }
  u64& entry = table(at)[index_of(va, 1)];
  // What the guest narrowed was taken over when it happened, so this can only widen.
  const bool runs = executable || ((entry & pte::present) && !(entry & pte::no_execute));
  entry = gpa | pte::present | pte::user | pte::accessed | pte::dirty | (entry & pte::writable) |
          (writable ? pte::writable : 0) | (runs ? 0 : pte::no_execute);
  u64& place = places_[gpa >> 12];
  const u64 mine = place_of(space, va);
  if (place == 0) {
    place = mine;
  } else if (place != mine && place != many_places) {
    const u64* there = leaf(space_of(place), va_of(place));
    const bool lives =
        there != nullptr && (*there & pte::present) && (*there & pte::address) == gpa;
    place = lives ? many_places : mine;
  }
  return true;
}

bool ShadowTables::is_mapped(unsigned space, u64 va, bool writable, bool executable) const {
  const u64* entry = leaf(space, va);
  return entry != nullptr && (*entry & pte::present) && (!writable || (*entry & pte::writable)) &&
         (!executable || !(*entry & pte::no_execute));
}

u64* ShadowTables::private_leaf(unsigned space, u64 va) {
  if (next_ + 4 > pool_.pages) return nullptr;
  u64* above = &roots_[space];
  for (unsigned level = 4;; --level) {
    u64 at = *above & pte::address;
    if (is_exposed(at)) {
      const u64 copy = allocate();
      std::memcpy(table(copy), table(at), page_bytes);
      *above = copy | (*above & ~pte::address);
      at = copy;
    }
    u64& entry = table(at)[index_of(va, level)];
    if (level == 1) return &entry;
    above = &entry;
  }
}

void ShadowTables::narrow(unsigned space, u64 va, Right right) {
  const u64* now = leaf(space, va);
  if (now == nullptr || !(*now & pte::present)) return;
  if (right == Right::writing && !(*now & pte::writable)) return;
  if (right == Right::execution && (*now & pte::no_execute)) return;
  u64* entry = private_leaf(space, va);
  if (entry == nullptr) return drop_space(space);
  switch (right) {
    case Right::presence:
      *entry = 0;
      break;
    case Right::writing:
      *entry &= ~pte::writable;
      break;
    case Right::execution:
      *entry |= pte::no_execute;
      break;
  }
}

void ShadowTables::unmap(unsigned space, u64 va) { narrow(space, va, Right::presence); }
void ShadowTables::forbid_writes(u64 gfn) { narrow_everywhere(gfn, Right::writing); }
void ShadowTables::forbid_execution(u64 gfn) { narrow_everywhere(gfn, Right::execution); }

void ShadowTables::narrow_everywhere(u64 gfn, Right right) {
  const u64 place = places_[gfn];
  if (place == 0) return;
  if (place != many_places) {
    const u64* entry = leaf(space_of(place), va_of(place));
    if (entry != nullptr && (*entry & pte::present) && (*entry & pte::address) >> 12 == gfn) {
      narrow(space_of(place), va_of(place), right);
    }
    return;
  }
  for (unsigned space = 0; space < space_limit; ++space)
    if (roots_[space] != 0) narrow_tree(space, gfn, right);
}

void ShadowTables::narrow_tree(unsigned space, u64 gfn, Right right) {
  std::vector<u64> found;
  const u64 skipped = index_of(fixed_va_, 4);
  for (u64 a = 0; a < 256; ++a) {
    const u64 top = table(roots_[space])[a];
    if (!(top & pte::present) || a == skipped) continue;
    for (u64 b = 0; b < 512; ++b) {
      const u64 upper = table(top & pte::address)[b];
      if (!(upper & pte::present)) continue;
      for (u64 c = 0; c < 512; ++c) {
        const u64 lower = table(upper & pte::address)[c];
        if (!(lower & pte::present)) continue;
        for (u64 d = 0; d < 512; ++d) {
          const u64 entry = table(lower & pte::address)[d];
          if ((entry & pte::present) && (entry & pte::address) >> 12 == gfn) {
            found.push_back(((a << 9 | b) << 9 | c) << 9 | d);
          }
        }
      }
    }
  }
  for (const u64 page : found)
    narrow(space, page << 12, right);
}

void ShadowTables::drop_space(unsigned space) { roots_[space] = 0; }

}  // namespace node_mesh
