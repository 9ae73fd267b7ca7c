// A small seeded generator (splitmix64): a case is a function of its seed alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace node_mesh::differential {

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  std::uint64_t below(std::uint64_t bound) { return next() % bound; }
  bool one_in(std::uint64_t n) { return below(n) == 0; }
  template <class T>
  T pick(std::initializer_list<T> from) {
    return *(from.begin() + static_cast<std::ptrdiff_t>(below(from.size())));
  }

 private:
  std::uint64_t state_;
};

}  // namespace node_mesh::differential
