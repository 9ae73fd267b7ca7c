#include "replay/byte_codec.h"

namespace node_mesh {

void ByteReader::fail(const char* field, const std::string& why) {
  if (failed()) return;
  error_ = std::string(field) + " at byte " + std::to_string(offset_) + ": " + why;
}

std::uint64_t ByteReader::varint(const char* field, std::uint64_t least, std::uint64_t greatest) {
  if (failed()) return 0;
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 70; shift += 7) {
    if (left() == 0) {
      fail(field, "the data ends inside it");
      return 0;
    }
    const auto byte = static_cast<std::uint8_t>(bytes_[offset_]);
    const std::uint64_t part = byte & 0x7fu;
    if (shift == 63 && part > 1) break;
    value |= part << shift;
    ++offset_;
    if (byte & 0x80u) continue;
    if (byte == 0 && shift != 0) {
      fail(field, "not the shortest form");
      return 0;
    }
    if (value < least || value > greatest) {
      fail(field, std::to_string(value) + " is not within " + std::to_string(least) + ".." +
                      std::to_string(greatest));
      return 0;
    }
    return value;
  }
  fail(field, "longer than 64 bits");
  return 0;
}

std::uint64_t ByteReader::fixed(const char* field, unsigned count) {
  if (failed()) return 0;
  if (left() < count) {
    fail(field, "the data ends inside it");
    return 0;
  }
  std::uint64_t value = 0;
  for (unsigned i = 0; i < count; ++i) {
    value |= static_cast<std::uint64_t>(bytes_[offset_ + i]) << (8 * i);
  }
  offset_ += count;
  return value;
}

std::uint8_t ByteReader::u8(const char* field, std::uint8_t greatest) {
  const auto value = static_cast<std::uint8_t>(fixed(field, 1));
  if (value <= greatest) return value;
  fail(field, std::to_string(value) + " is more than " + std::to_string(greatest));
  return 0;
}

std::uint32_t ByteReader::u32(const char* field) {
  return static_cast<std::uint32_t>(fixed(field, 4));
}

std::uint64_t ByteReader::u64(const char* field) { return fixed(field, 8); }

std::span<const std::byte> ByteReader::bytes(const char* field, std::size_t count) {
  if (failed()) return {};
  if (left() < count) {
    fail(field, "the data ends inside it");
    return {};
  }
  const auto part = bytes_.subspan(offset_, count);
  offset_ += count;
  return part;
}

}  // namespace node_mesh
