// Little-endian bytes and variable-length integers with the range of each field checked where it is
// read. A reader never throws and never reads past its end: the first bad field makes it fail, says
// which one and where, and every later read gives zero.
//
// A varint is unsigned LEB128: seven bits a byte, lowest first, the top bit set on all but the last
// byte; at most ten bytes, and always the shortest form, so that one value has one encoding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace node_mesh {

using Bytes = std::vector<std::byte>;

inline std::span<const std::byte> as_byte_span(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

class ByteWriter {
 public:
  void u8(std::uint8_t value) { bytes_.push_back(static_cast<std::byte>(value)); }
  void u32(std::uint32_t value) { fixed(value, 4); }
  void u64(std::uint64_t value) { fixed(value, 8); }
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7)
      u8(static_cast<std::uint8_t>(value | 0x80));
    u8(static_cast<std::uint8_t>(value));
  }
  void bytes(std::span<const std::byte> from) {
    bytes_.insert(bytes_.end(), from.begin(), from.end());
  }
  void text(std::string_view from) { bytes(as_byte_span(from)); }

  std::size_t size() const { return bytes_.size(); }
  const Bytes& view() const { return bytes_; }
  Bytes take() { return std::move(bytes_); }
  void clear() { bytes_.clear(); }

 private:
  void fixed(std::uint64_t value, unsigned count) {
    for (unsigned i = 0; i < count; ++i)
      u8(static_cast<std::uint8_t>(value >> (8 * i)));
  }
  Bytes bytes_;
};

class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  // Reads with the least and the greatest value that the field may have.
  std::uint64_t varint(const char* field, std::uint64_t least, std::uint64_t greatest);
  std::uint8_t u8(const char* field, std::uint8_t greatest = 0xff);
  std::uint32_t u32(const char* field);
  std::uint64_t u64(const char* field);
  std::span<const std::byte> bytes(const char* field, std::size_t count);

  std::size_t left() const { return bytes_.size() - offset_; }
  std::size_t offset() const { return offset_; }
  bool failed() const { return !error_.empty(); }
  const std::string& error() const { return error_; }
  void fail(const char* field, const std::string& why);

 private:
  std::uint64_t fixed(const char* field, unsigned count);
  std::span<const std::byte> bytes_;
  std::size_t offset_ = 0;
  std::string error_;
};

}  // namespace node_mesh
