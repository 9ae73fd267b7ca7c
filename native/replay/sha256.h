// SHA-256, the name of an image and of a console's whole output. By nettle, which uses the host's
// own SHA instructions where it has them: images of many megabytes are hashed at each start.
#pragma once

#include <nettle/sha2.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace node_mesh {

using Sha256 = std::array<std::uint8_t, 32>;

class Sha256Stream {
 public:
  Sha256Stream();
  void add(std::span<const std::byte> bytes);
  Sha256 finish() const;  // of all bytes so far; more may follow

 private:
  sha256_ctx state_;
};

Sha256 sha256_of(std::span<const std::byte> bytes);
std::string hex_of(std::span<const std::uint8_t> bytes);

}  // namespace node_mesh
