// Writes CBOR into memory that is already there, for a process that must not allocate. Once it is
// full, nothing more is written and full() says so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace node_mesh {

class CborOut {
 public:
  explicit CborOut(std::span<std::byte> into) : into_(into) {}

  void map(std::uint64_t entries) { head(5, entries); }
  void number(std::uint64_t value) { head(0, value); }
  void text(std::string_view value) {
    head(3, value.size());
    raw(std::as_bytes(std::span(value)));
  }
  void bytes(std::span<const std::byte> value) {
    head(2, value.size());
    raw(value);
  }
  // Items that are CBOR already.
  void raw(std::span<const std::byte> from) {
    if (full_ || from.size() > into_.size() - size_) {
      full_ = true;
      return;
    }
    if (!from.empty()) std::memcpy(into_.data() + size_, from.data(), from.size());
    size_ += from.size();
  }
  void u8(std::uint8_t value) { raw(std::as_bytes(std::span(&value, 1))); }
  void little_endian(std::uint64_t value, unsigned count) {
    for (unsigned i = 0; i < count; ++i)
      u8(static_cast<std::uint8_t>(value >> (8 * i)));
  }
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7)
      u8(static_cast<std::uint8_t>(value | 0x80));
    u8(static_cast<std::uint8_t>(value));
  }

  std::span<const std::byte> view() const { return into_.first(size_); }
  std::size_t size() const { return size_; }
  bool full() const { return full_; }

 private:
  void head(unsigned major, std::uint64_t value) {
    const auto initial = [&](unsigned info) { u8(static_cast<std::uint8_t>(major << 5 | info)); };
    unsigned count = 0;
    if (value < 24) {
      initial(static_cast<unsigned>(value));
    } else if (value <= UINT8_MAX) {
      initial(24);
      count = 1;
    } else if (value <= UINT16_MAX) {
      initial(25);
      count = 2;
    } else if (value <= UINT32_MAX) {
      initial(26);
      count = 4;
    } else {
      initial(27);
      count = 8;
    }
    for (unsigned i = count; i-- > 0;)
      u8(static_cast<std::uint8_t>(value >> (8 * i)));
  }

  std::span<std::byte> into_;
  std::size_t size_ = 0;
  bool full_ = false;
};

}  // namespace node_mesh
