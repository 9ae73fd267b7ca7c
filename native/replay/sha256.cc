#include "replay/sha256.h"

namespace node_mesh {

Sha256Stream::Sha256Stream() { sha256_init(&state_); }

void Sha256Stream::add(std::span<const std::byte> bytes) {
  sha256_update(&state_, bytes.size(), reinterpret_cast<const std::uint8_t*>(bytes.data()));
}

Sha256 Sha256Stream::finish() const {
  sha256_ctx copy = state_;
  Sha256 result{};
  sha256_digest(&copy, result.size(), result.data());
  return result;
}

Sha256 sha256_of(std::span<const std::byte> bytes) {
  Sha256Stream stream;
  stream.add(bytes);
  return stream.finish();
}

std::string hex_of(std::span<const std::uint8_t> bytes) {
  constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (const std::uint8_t byte : bytes) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

}  // namespace node_mesh
