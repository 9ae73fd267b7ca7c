#include "cpu/table_registry.h"

namespace node_mesh {

std::vector<u32>& TableRegistry::scope_list(int scope) {
  const auto index = static_cast<std::size_t>(scope + 1);
  if (index >= lists_.size()) lists_.resize(index + 1);
  return lists_[index];
}

void TableRegistry::release(u32 ref) {
  refs_[records_[ref - 1].gfn] = 0;
  records_[ref - 1] = TableRecord{};
  free_.push_back(ref);
}

bool TableRegistry::note(u64 gfn, u8 level, u64 va_base, int scope) {
  if (const u32 ref = refs_[gfn]; ref != 0) {
    TableRecord& record = records_[ref - 1];
    if (record.level != level || record.va_base != va_base || record.scope != scope) {
      record.shared = true;
    }
    return false;
  }
  u32 ref;
  if (free_.empty()) {
    records_.emplace_back();
    ref = static_cast<u32>(records_.size());
  } else {
    ref = free_.back();
    free_.pop_back();
  }
  records_[ref - 1] = {gfn, va_base, scope, level, false};
  refs_[gfn] = ref;
  scope_list(scope).push_back(ref);
  return true;
}

}  // namespace node_mesh
