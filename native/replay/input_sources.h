// Which inputs were applied already: the last sequence number of each source, so that an input sent
// again (after a lost answer, by a new connection, to a new primary) takes effect once. A function
// of the log alone, hence the same on every copy.
#pragma once

#include <cstdint>
#include <list>
#include <utility>

namespace node_mesh {

inline constexpr std::size_t input_sources_max =
    256;  // beyond: the one unused longest is forgotten

class InputSources {
 public:
  bool is_new(std::uint64_t source, std::uint64_t seq) const {
    for (const auto& [known, last] : newest_first_) {
      if (known == source) return seq > last;
    }
    return true;
  }

  void note(std::uint64_t source, std::uint64_t seq) {
    newest_first_.remove_if([&](const auto& entry) { return entry.first == source; });
    newest_first_.emplace_front(source, seq);
    if (newest_first_.size() > input_sources_max) newest_first_.pop_back();
  }

  // (source, seq) of each, the most recently used first.
  const std::list<std::pair<std::uint64_t, std::uint64_t>>& newest_first() const {
    return newest_first_;
  }

 private:
  std::list<std::pair<std::uint64_t, std::uint64_t>> newest_first_;
};

}  // namespace node_mesh
