// Which guest pages serve as page tables for translations that are cached right now, and for what:
// so that a store to one of them can drop exactly what was derived from it. A page that is used in
// two ways at once (another level, another place, another address space) is `shared`: a change
// there drops everything. Owns no translation itself.
#pragma once

#include <vector>

#include "cpu/lazy_array.h"
#include "cpu/types.h"

namespace node_mesh {

inline constexpr int kernel_scope = -1;  // the upper half, common to all address spaces

struct TableRecord {
  u64 gfn = 0;
  u64 va_base = 0;  // first address that the table serves
  int scope = 0;    // address space index or kernel_scope
  u8 level = 0;
  bool shared = false;
};

class TableRegistry {
 public:
  explicit TableRegistry(u64 page_count) : refs_(page_count) {}

  // Null when this page is not (any longer) a known table.
  const TableRecord* find(u64 gfn) const {
    const u32 ref = refs_[gfn];
    return ref == 0 ? nullptr : &records_[ref - 1];
  }
  // True when the page was no known table before.
  bool note(u64 gfn, u8 level, u64 va_base, int scope);

  // Forgets the unshared tables of one scope, or all; calls `forgotten(gfn)` for each.
  template <class Callback>
  void forget_scope(int scope, Callback forgotten) {
    std::vector<u32>& list = scope_list(scope);
    for (const u32 ref : list) {
      if (records_[ref - 1].shared) continue;
      forgotten(records_[ref - 1].gfn);
      release(ref);
    }
    list.clear();
  }
  template <class Callback>
  void forget_all(Callback forgotten) {
    for (const TableRecord& record : records_) {
      if (record.level == 0) continue;
      forgotten(record.gfn);
      refs_[record.gfn] = 0;
    }
    records_.clear();
    free_.clear();
    for (std::vector<u32>& list : lists_)
      list.clear();
  }

 private:
  std::vector<u32>& scope_list(int scope);
  void release(u32 ref);

  LazyArray<u32> refs_;  // index of the record plus one
  std::vector<TableRecord> records_;
  std::vector<u32> free_;
  std::vector<std::vector<u32>> lists_;
};

}  // namespace node_mesh
