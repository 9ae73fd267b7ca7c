// The few values used most recently, by key. What it gives is valid until the next insert.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace node_mesh {

template <typename Key, typename Value, std::size_t count_max>
class RecentCache {
 public:
  const Value* find(const Key& key) {
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      if (entries_[i].first != key) continue;
      if (i != 0) std::rotate(entries_.begin(), at(i), at(i + 1));
      return &entries_.front().second;
    }
    return nullptr;
  }

  const Value* insert(Key key, Value value) {
    if (entries_.size() == count_max) entries_.pop_back();
    entries_.emplace(entries_.begin(), std::move(key), std::move(value));
    return &entries_.front().second;
  }

 private:
  auto at(std::size_t index) { return entries_.begin() + static_cast<std::ptrdiff_t>(index); }
  std::vector<std::pair<Key, Value>> entries_;
};

}  // namespace node_mesh
