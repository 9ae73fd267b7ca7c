// The canonical serialised form of device state: little-endian fields one after the other, without
// names or padding. Two devices in the same state give the same bytes, which is what digests
// compare; so nothing goes in that depends on how the state was reached.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace node_mesh {

class StateWriter {
 public:
  void u8(std::uint8_t value) { put(value, 1); }
  void u16(std::uint16_t value) { put(value, 2); }
  void u32(std::uint32_t value) { put(value, 4); }
  void u64(std::uint64_t value) { put(value, 8); }
  void flag(bool value) { put(value ? 1 : 0, 1); }
  void bytes(std::span<const std::byte> from) {
    bytes_.insert(bytes_.end(), from.begin(), from.end());
  }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  void put(std::uint64_t value, unsigned size) {
    for (unsigned i = 0; i < size; ++i)
      bytes_.push_back(static_cast<std::byte>(value >> (8 * i)));
  }
  std::vector<std::byte> bytes_;
};

// Reads never leave the span: past its end they give zero and ok() turns false for good.
class StateReader {
 public:
  explicit StateReader(std::span<const std::byte> from) : from_(from) {}
  std::uint8_t u8() { return static_cast<std::uint8_t>(get(1)); }
  std::uint16_t u16() { return static_cast<std::uint16_t>(get(2)); }
  std::uint32_t u32() { return static_cast<std::uint32_t>(get(4)); }
  std::uint64_t u64() { return get(8); }
  bool flag() {
    const std::uint64_t value = get(1);
    require(value <= 1);
    return value == 1;
  }
  std::span<const std::byte> bytes(std::size_t count) {
    if (count > from_.size()) {
      ok_ = false;
      return {};
    }
    const auto taken = from_.first(count);
    from_ = from_.subspan(count);
    return taken;
  }
  // A constraint on what was read.
  void require(bool condition) { ok_ = ok_ && condition; }
  bool ok() const { return ok_; }
  bool at_end() const { return from_.empty(); }

 private:
  std::uint64_t get(unsigned size) {
    if (size > from_.size()) {
      ok_ = false;
      from_ = {};
      return 0;
    }
    std::uint64_t value = 0;
    for (unsigned i = 0; i < size; ++i) {
      value |= static_cast<std::uint64_t>(from_[i]) << (8 * i);
    }
    from_ = from_.subspan(size);
    return value;
  }
  std::span<const std::byte> from_;
  bool ok_ = true;
};

}  // namespace node_mesh
