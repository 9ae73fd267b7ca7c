// The page tables that the vCPU runs on: one tree for each of the CPU's address spaces, filled on
// demand from what the MMU resolved. Owns the tables and knows where each guest page is mapped. It
// never reads the guest's own tables.
//
// KVM may have derived tables of its own from these and does not see the host writing to them.
// Adding an entry or widening its rights is safe (the vCPU faults and KVM looks again); taking
// something away is not. So a table that the vCPU may have run on is never narrowed in place: it is
// replaced by a copy, up to the root, and the vCPU gets another CR3. What was replaced stays unused
// until the whole pool is renewed and KVM has forgotten it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/lazy_array.h"
#include "cpu/types.h"

namespace node_mesh {

class ShadowTables {
 public:
  static constexpr unsigned space_limit = 16;

  // `pool` is `pool_pages` pages at `pool_gpa` for the vCPU; the first `reserved` are not tables.
  struct Pool {
    std::byte* host = nullptr;
    u64 gpa = 0;
    u64 pages = 0;
    u64 reserved = 0;
  };
  // Page that every address space has, at `va`: `gpas` by rising address, all in one page table.
  struct FixedPage {
    u64 gpa = 0;
    bool user = false, writable = false, executable = false;
  };
  ShadowTables(Pool pool, u64 guest_pages, u64 fixed_va, std::vector<FixedPage> fixed);

  // False: the pool is used up; begin_anew(), have KVM forget it and try again.
  [[nodiscard]] bool map(unsigned space, u64 va, u64 gpa, bool writable, bool executable);
  bool is_mapped(unsigned space, u64 va, bool writable, bool executable) const;

  // All four may need pages of the pool; without any they drop the whole space.
  void unmap(unsigned space, u64 va);
  void forbid_writes(u64 gfn);
  void forbid_execution(u64 gfn);
  void drop_space(unsigned space);
  // Forgets all and begins the pool anew: KVM must have forgotten it before the next entry.
  void begin_anew();

  // The root for an entry of the vCPU in this space; from here on its tables count as known to KVM.
  // 0: the pool is used up.
  u64 enter(unsigned space);
  bool is_used_up() const { return next_ + pages_kept_back > pool_.pages; }

 private:
  static constexpr u64 pages_kept_back = 8;
  enum class Right : u8 { presence, writing, execution };

  u64* table(u64 gpa) const { return reinterpret_cast<u64*>(pool_.host + (gpa - pool_.gpa)); }
  bool is_exposed(u64 gpa) const { return epochs_[(gpa - pool_.gpa) / 4096] < epoch_; }
  u64 allocate();
  u64 root_of(unsigned space);
  u64* leaf(unsigned space, u64 va) const;
  // The leaf entry, in tables that may be narrowed; null: the pool is used up.
  u64* private_leaf(unsigned space, u64 va);
  void narrow(unsigned space, u64 va, Right right);
  void narrow_everywhere(u64 gfn, Right right);
  void narrow_tree(unsigned space, u64 gfn, Right right);

  Pool pool_;
  u64 fixed_va_;
  u64 fixed_entry_ = 0;  // of the root
  std::vector<FixedPage> fixed_;
  u64 next_ = 0;
  u64 epoch_ = 1;
  std::vector<u64> epochs_;
  u64 roots_[space_limit] = {};
  LazyArray<u64> places_;  // by gfn: where it is mapped; 0: nowhere, many_places: look everywhere
};

}  // namespace node_mesh
