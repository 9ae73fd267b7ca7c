// Address spaces and flushing: the part of the MMU that decides how much to forget.
#include <algorithm>
#include <cstring>

#include "cpu/block_cache.h"
#include "cpu/mmu.h"
#include "kvm/user_engine.h"

namespace node_mesh {

void TranslationSet::clear() {
  std::ranges::fill(read, TlbEntry{});
  std::ranges::fill(write, TlbEntry{});
  std::ranges::fill(fetch, FetchEntry{});
  clear_jumps();
}

void TranslationSet::clear_jumps() {
  if (!jumps_used) return;
  forget_jumps();
  executed.fill(0);
  jumps_used = false;
}

// A guest may well jump to `no_address` (and earn #GP for it): the one slot where it would be found
// must hold another address when empty, or the empty entry's null block would be run.
void TranslationSet::forget_jumps() {
  constexpr u64 other = no_address ^ 2;
  const u64 mask = table_mask(jumps.size());
  std::ranges::fill(jumps, JumpEntry{});
  jumps[jump_offset(no_address, mask) / sizeof(JumpEntry)].va = other;
}

void TranslationSet::drop_page(u64 page) {
  const u64 slot = tlb_slot(page);
  if (read[slot].tag == page) read[slot] = {};
  if (write[slot].tag == page) write[slot] = {};
  FetchEntry& fetched = fetch_entry(page);
  if (fetched.tag == page) fetched = {};
  if (maybe_executed(page)) clear_jumps();
}

const u8* Mmu::upper_half(u64 root) const {
  static constexpr u8 nothing_mapped[page_bytes / 2] = {};
  if (!memory_.contains(root, page_bytes)) return nothing_mapped;
  return reinterpret_cast<const u8*>(memory_.base()) + root + page_bytes / 2;
}

int Mmu::find_space(u64 root) {
  int oldest = 0;
  for (unsigned index = 0; index < space_limit; ++index) {
    if (spaces_[index].root == root) return static_cast<int>(index);
    if (spaces_[index].last_used < spaces_[static_cast<unsigned>(oldest)].last_used) {
      oldest = static_cast<int>(index);
    }
  }
  Space& space = spaces_[static_cast<unsigned>(oldest)];
  if (space.set) {
    flush_space(oldest);
  } else {
    space.set = std::make_unique<TranslationSet>(TranslationSet::user_size);
  }
  space.root = root;
  return oldest;
}

void Mmu::load_cr3(u64 value) {
  const u64 before = core_.cr3 & pte::address;
  const u64 root = value & pte::address;
  core_.cr3 = value;
  if (root != before || spaces_[static_cast<unsigned>(current_)].root != root) {
    // The old space's last_used is the newest, so that it is not the one evicted.
    const int index = find_space(root);
    clear_lower_half();
    current_ = index;
    const u8* upper = upper_half(root);
    if (std::memcmp(upper_half(before), upper, page_bytes / 2) != 0) flush_kernel();
  }
  spaces_[static_cast<unsigned>(current_)].last_used = ++use_clock_;
  note_root();
  select_tables();
}

// The root is watched even when nothing was derived yet: the upper half counts as derived.
void Mmu::note_root() {
  const u64 root = core_.cr3 & pte::address;
  if (memory_.contains(root, page_bytes)) note_table(root >> 12, 4, 0, current_);
}

void Mmu::clear_lower_half() {
  const auto clear_slot = [this](u64 slot) {
    if (!(kernel_->read[slot].tag >> 63)) kernel_->read[slot] = {};
    if (!(kernel_->write[slot].tag >> 63)) kernel_->write[slot] = {};
  };
  if (lower_half_.size() < lower_half_max) {
    for (const u16 slot : lower_half_)
      clear_slot(slot);
  } else {
    for (u64 slot = 0; slot < kernel_->read.size(); ++slot)
      clear_slot(slot);
  }
  lower_half_.clear();
  if (!lower_half_executed_) return;
  std::ranges::fill(kernel_->fetch, TranslationSet::FetchEntry{});
  kernel_->clear_jumps();
  lower_half_executed_ = false;
}

void Mmu::flush_space(int index) {
  if (engine_ != nullptr) engine_->drop_space(index);
  spaces_[static_cast<unsigned>(index)].set->clear();
  tables_.forget_scope(index,
                       [this](u64 gfn) { page_flags_[gfn] &= static_cast<u8>(~page_is_table); });
  if (index != current_) return;
  clear_lower_half();
  note_root();
}

void Mmu::flush_kernel() {
  kernel_->clear();
  lower_half_.clear();
  lower_half_executed_ = false;
  tables_.forget_scope(kernel_scope,
                       [this](u64 gfn) { page_flags_[gfn] &= static_cast<u8>(~page_is_table); });
  if (!user_upper_half_) return;
  for (Space& space : spaces_) {
    if (space.set) space.set->clear();
  }
  user_upper_half_ = false;
}

void Mmu::flush_everything() {
  if (engine_ != nullptr) engine_->drop_everything();
  kernel_->clear();
  lower_half_.clear();
  lower_half_executed_ = false;
  user_upper_half_ = false;
  for (Space& space : spaces_) {
    if (space.set) space.set->clear();
  }
  tables_.forget_all([this](u64 gfn) { page_flags_[gfn] &= static_cast<u8>(~page_is_table); });
  note_root();
}

void Mmu::forget_writable_pages() {
  for_each_set([](TranslationSet& set) { std::ranges::fill(set.write, TlbEntry{}); });
}

}  // namespace node_mesh
